// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/writer.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "checkpoint/dtype.h"

namespace pluq {
namespace {

namespace fs = std::filesystem;
constexpr const char* kPartial = ".partial";

void write_at(int fd, const std::string& path, uint64_t offset, std::span<const std::byte> data) {
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t n =
        ::pwrite(fd, data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      fail(ErrorKind::kFailed, "{}: cannot write: {}", path,
           n == 0 ? "no progress" : std::strerror(errno));
    done += static_cast<size_t>(n);
  }
}

}  // namespace

struct ModelWriter::Tensor {
  std::string name;
  pluq_dtype dtype{};
  std::vector<int64_t> shape;
  uint64_t bytes = 0, offset = 0;  // offset in the shard's file
  size_t shard = 0;
  std::unique_ptr<std::atomic<uint64_t>> written = std::make_unique<std::atomic<uint64_t>>(0);
};

struct ModelWriter::Shard {
  std::string name;
  std::vector<size_t> tensors;
  uint64_t data_bytes = 0;
  int fd = -1;
};

ModelWriter::ModelWriter(std::string directory, const std::string& input, uint64_t max_shard_bytes)
    : directory_(std::move(directory)), max_shard_(max_shard_bytes) {
  std::error_code ec;
  if (!input.empty() && fs::equivalent(directory_, input, ec)) {
    fail_usage("{}: the output is the input; give another directory", directory_);
  }
  if (fs::exists(directory_, ec) &&
      (!fs::is_directory(directory_, ec) || !fs::is_empty(directory_, ec))) {
    fail_usage("{}: already exists and is not an empty directory", directory_);
  }
  created_ = fs::create_directories(directory_, ec);
  if (ec) fail(ErrorKind::kFailed, "{}: cannot create: {}", directory_, ec.message());
}

ModelWriter::~ModelWriter() {
  if (!finished_) give_up();
}

void ModelWriter::give_up() {
  std::error_code ec;
  for (Shard& s : shards_) {
    if (s.fd >= 0) ::close(s.fd);
    fs::remove(directory_ + "/" + s.name + kPartial, ec);
  }
  for (const std::string& f : files_) fs::remove(directory_ + "/" + f + kPartial, ec);
  for (const std::string& f : named_) fs::remove(directory_ + "/" + f, ec);
  if (created_) fs::remove(directory_, ec);  // only when empty
}

void ModelWriter::declare(const std::string& name, const pluq_dtype& dtype,
                          std::vector<int64_t> shape) {
  if (!index_.emplace(name, tensors_.size()).second)
    fail_input("{}: tensor '{}' is declared twice", directory_, name);
  Tensor t;
  t.name = name;
  t.dtype = dtype;
  t.shape = std::move(shape);
  t.bytes = tensor_bytes(dtype, t.shape, name);
  if (!dtype_by_safetensors_name(dtype_name(dtype.id))) {
    fail_input("{}: tensor '{}' of type {} cannot be stored in safetensors", directory_, name,
               dtype_name(dtype.id));
  }
  total_ = checked_add(total_, t.bytes, directory_);
  tensors_.push_back(std::move(t));
}

void ModelWriter::open() {
  struct statvfs disk {};
  if (::statvfs(directory_.c_str(), &disk) == 0) {
    const uint64_t room = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
    if (total_ + total_ / 20 > room) {
      fail(ErrorKind::kFailed, "{}: the model needs {} MiB, the disk has room for {} MiB",
           directory_, total_ >> 20, room >> 20);
    }
  }
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (shards_.empty() || (shards_.back().data_bytes > 0 &&
                            shards_.back().data_bytes + tensors_[i].bytes > max_shard_)) {
      shards_.emplace_back();
    }
    tensors_[i].shard = shards_.size() - 1;
    shards_.back().tensors.push_back(i);
    shards_.back().data_bytes += tensors_[i].bytes;
  }
  if (shards_.empty()) shards_.emplace_back();
  for (size_t s = 0; s < shards_.size(); ++s) {
    Shard& shard = shards_[s];
    shard.name = shards_.size() == 1
                     ? "model.safetensors"
                     : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards_.size());
    boost::json::object header;
    header["__metadata__"] = boost::json::object{{"format", "pt"}};
    uint64_t at = 0;
    for (const size_t i : shard.tensors) {
      Tensor& t = tensors_[i];
      header[t.name] =
          boost::json::object{{"dtype", dtype_name(t.dtype.id)},
                              {"shape", boost::json::array(t.shape.begin(), t.shape.end())},
                              {"data_offsets", boost::json::array{at, at + t.bytes}}};
      t.offset = at;
      at += t.bytes;
    }
    std::string text = boost::json::serialize(header);
    text.append((8 - text.size() % 8) % 8, ' ');
    const uint64_t size = text.size();
    const std::string path = directory_ + "/" + shard.name + kPartial;
    shard.fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (shard.fd < 0) fail(ErrorKind::kFailed, "{}: cannot create: {}", path, std::strerror(errno));
    write_at(shard.fd, path, 0, std::as_bytes(std::span(&size, 1)));
    write_at(shard.fd, path, 8, std::as_bytes(std::span(text.data(), text.size())));
    for (const size_t i : shard.tensors) tensors_[i].offset += 8 + size;
  }
}

void ModelWriter::write(std::string_view name, int64_t row_begin, int64_t row_end,
                        std::span<const std::byte> data) {
  const auto it = index_.find(name);
  if (it == index_.end())
    fail_plugin("{}: tensor '{}' was not declared", directory_, printable(name));
  const Tensor& t = tensors_[it->second];
  const int64_t rows = t.shape.empty() ? 1 : t.shape[0];
  const uint64_t row_bytes = rows > 0 ? t.bytes / static_cast<uint64_t>(rows) : 0;
  if (row_begin < 0 || row_end < row_begin || row_end > rows ||
      data.size() != row_bytes * static_cast<uint64_t>(row_end - row_begin)) {
    fail_plugin("{}: rows [{}, {}) with {} bytes do not fit tensor '{}' {} {}", directory_,
                row_begin, row_end, data.size(), printable(name), dtype_name(t.dtype.id),
                shape_text(t.shape));
  }
  const Shard& shard = shards_[t.shard];
  write_at(shard.fd, directory_ + "/" + shard.name,
           t.offset + row_bytes * static_cast<uint64_t>(row_begin), data);
  t.written->fetch_add(data.size());
}

void ModelWriter::add_file(const std::string& name, std::string_view content) {
  files_.push_back(name);
  write_file_durably(directory_ + "/" + name + kPartial, content);
}

void ModelWriter::finish() {
  boost::json::object map;
  for (const Tensor& t : tensors_) {
    if (t.written->load() != t.bytes) {
      fail_plugin("{}: {} of {} bytes of tensor '{}' were written", directory_, t.written->load(),
                  t.bytes, t.name);
    }
    map[t.name] = shards_[t.shard].name;
  }
  for (Shard& s : shards_) {
    const int fd = std::exchange(s.fd, -1);
    int error = ::fsync(fd) == 0 ? 0 : errno;
    if (::close(fd) != 0 && error == 0) error = errno;
    if (error != 0) {
      fail(ErrorKind::kFailed, "{}/{}: cannot sync: {}", directory_, s.name, std::strerror(error));
    }
  }
  if (shards_.size() > 1) {
    add_file("model.safetensors.index.json",
             boost::json::serialize(boost::json::object{{"metadata", {{"total_size", total_}}},
                                                        {"weight_map", std::move(map)}}));
  }
  // config.json comes last: a directory without it is no model.
  std::vector<std::string> names;
  for (const Shard& s : shards_) names.push_back(s.name);
  for (const std::string& f : files_) {
    if (f != "config.json") names.push_back(f);
  }
  for (const std::string& f : files_) {
    if (f == "config.json") names.push_back(f);
  }
  for (const std::string& name : names) {
    const std::string path = directory_ + "/" + name;
    if (::rename((path + kPartial).c_str(), path.c_str()) != 0) {
      fail(ErrorKind::kFailed, "{}: cannot rename: {}", path, std::strerror(errno));
    }
    named_.push_back(name);
  }
  sync_directory(directory_);
  finished_ = true;
}

}  // namespace pluq
