// SPDX-License-Identifier: Apache-2.0
// Reads one GGUF file (version 2 or 3, little endian) by mmap. Layout:
//   "GGUF" | u32 version | u64 tensor count | u64 key-value count
//   key-value: string key | u32 type | value        string: u64 length | bytes;  array: u32 type |
//   u64 count | values tensor:    string name | u32 rank | u64 dims[rank], innermost first | u32
//   ggml type | u64 offset padding to general.alignment (default 32) | data; each tensor at its
//   offset, a multiple of the alignment
// Every claim is checked against the bytes that are left before anything is allocated for it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "checkpoint/safetensors.h"

namespace pluq {

using GgufValue = std::variant<int64_t, uint64_t, double, bool, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

class GgufFile {
 public:
  // Throws Error(kInput) naming the file and the place.
  static std::shared_ptr<const GgufFile> open(const std::string& path);

  const std::string& path() const { return path_; }
  uint32_t version() const { return version_; }
  // Shapes are row-major: [N, K], K innermost.
  const std::vector<TensorView>& tensors() const { return tensors_; }

  bool has(std::string_view key) const { return find(key) != nullptr; }
  // Typed access. A missing key is nothing; a key of another type throws Error(kInput) naming it.
  std::optional<int64_t> integer(std::string_view key) const;
  std::optional<double> real(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string> string(std::string_view key) const;
  const std::vector<std::string>* strings(std::string_view key) const;
  const std::vector<int64_t>* integers(std::string_view key) const;
  const std::vector<double>* reals(std::string_view key) const;

 private:
  GgufFile() = default;
  const GgufValue* find(std::string_view key) const;

  std::string path_;
  uint32_t version_ = 0;
  std::shared_ptr<const MappedFile> map_;
  std::map<std::string, GgufValue, std::less<>> values_;
  std::vector<TensorView> tensors_;
};

}  // namespace pluq
