// SPDX-License-Identifier: Apache-2.0
// Files as bytes: whole reads with a cap, read-only maps, and durable writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace pluq {

// The whole regular file as a string. Throws Error(kInput) naming the path when it is absent, not a
// regular file, unreadable, or larger than max_bytes.
std::string read_file(const std::string& path, size_t max_bytes);

// Writes data to path so that after a crash the file is either absent, the old one or the whole new
// one: a temporary name in the same directory, fsync, rename, fsync of the directory. Throws
// Error(kFailed).
void write_file_durably(const std::string& path, std::string_view data);

// Makes renames in a directory durable; nothing where the file system cannot sync directories.
// Throws Error(kFailed).
void sync_directory(const std::string& directory);

// A read-only private map of a whole file; bytes stay valid until the last copy of the map is gone.
class MappedFile {
 public:
  // Throws Error(kInput) naming the path. An empty file maps to an empty span.
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::string path_;
};

}  // namespace pluq
