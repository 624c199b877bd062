// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/gguf.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/dtype.h"

namespace pluq {
namespace {

enum Type : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

constexpr uint64_t kMaxTensors = 1'000'000, kMaxKeys = 100'000, kMaxAlignment = 1 << 20;

// A cursor that never leaves the file.
class Cursor {
 public:
  Cursor(const std::string& path, std::span<const std::byte> bytes) : path_(path), bytes_(bytes) {}

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string string() {
    const auto size = number<uint64_t>();
    const auto bytes = take(size);
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  uint64_t at() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }
  const std::string& path() const { return path_; }

 private:
  std::span<const std::byte> take(uint64_t count) {
    if (count > left()) {
      fail_input("{}: byte {}: {} bytes are claimed, {} are left (is the file truncated?)", path_,
                 at_, count, left());
    }
    const auto out = bytes_.subspan(at_, count);
    at_ += count;
    return out;
  }
  const std::string& path_;
  std::span<const std::byte> bytes_;
  uint64_t at_ = 0;
};

uint64_t minimum_bytes(uint32_t type) {
  switch (type) {
    case kU8:
    case kI8:
    case kBool:
      return 1;
    case kU16:
    case kI16:
      return 2;
    case kU32:
    case kI32:
    case kF32:
      return 4;
    default:
      return 8;
  }
}

int64_t read_integer(Cursor& in, uint32_t type) {
  switch (type) {
    case kU8:
      return in.number<uint8_t>();
    case kI8:
      return in.number<int8_t>();
    case kU16:
      return in.number<uint16_t>();
    case kI16:
      return in.number<int16_t>();
    case kU32:
      return in.number<uint32_t>();
    case kI32:
      return in.number<int32_t>();
    case kBool:
      return in.number<uint8_t>() != 0;
    case kI64:
      return in.number<int64_t>();
    default:
      return checked_cast<int64_t>(in.number<uint64_t>(), in.path());
  }
}

GgufValue read_array(Cursor& in, const std::string& key) {
  const auto type = in.number<uint32_t>();
  const auto count = in.number<uint64_t>();
  if (type > kF64 || type == kArray) {
    fail_input("{}: key '{}': an array of type {} is not supported", in.path(), printable(key),
               type);
  }
  if (count > in.left() / minimum_bytes(type)) {
    fail_input("{}: key '{}': {} array elements are claimed, {} bytes are left", in.path(),
               printable(key), count, in.left());
  }
  if (type == kString) {
    std::vector<std::string> out;
    out.reserve(count);
    for (uint64_t i = 0; i < count; ++i) out.push_back(in.string());
    return out;
  }
  if (type == kF32 || type == kF64) {
    std::vector<double> out(count);
    for (double& v : out) v = type == kF32 ? in.number<float>() : in.number<double>();
    return out;
  }
  std::vector<int64_t> out(count);
  for (int64_t& v : out) v = read_integer(in, type);
  return out;
}

GgufValue read_value(Cursor& in, const std::string& key) {
  const auto type = in.number<uint32_t>();
  switch (type) {
    case kF32:
      return static_cast<double>(in.number<float>());
    case kF64:
      return in.number<double>();
    case kBool:
      return in.number<uint8_t>() != 0;
    case kString:
      return in.string();
    case kArray:
      return read_array(in, key);
    case kU64:
      return in.number<uint64_t>();
    default:
      break;
  }
  if (type > kF64)
    fail_input("{}: key '{}' has the unknown type {}", in.path(), printable(key), type);
  return read_integer(in, type);
}

struct Info {
  TensorView view;
  uint64_t offset;
};

Info read_info(Cursor& in) {
  Info info;
  info.view.name = in.string();
  const std::string what = fmt::format("{}: tensor '{}'", in.path(), printable(info.view.name));
  const auto rank = in.number<uint32_t>();
  if (rank > 4) fail_input("{}: {} dimensions, at most 4", what, rank);
  for (uint32_t i = 0; i < rank; ++i) {
    info.view.shape.push_back(checked_cast<int64_t>(in.number<uint64_t>(), what));
  }
  std::reverse(info.view.shape.begin(), info.view.shape.end());
  const auto type = in.number<uint32_t>();
  const auto dtype = dtype_by_ggml_type(type);
  if (!dtype) {
    fail_input(
        "{}: ggml type {} is not supported; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K "
        "to Q6_K are",
        what, type);
  }
  info.view.dtype = *dtype;
  info.offset = in.number<uint64_t>();
  return info;
}

}  // namespace

std::shared_ptr<const GgufFile> GgufFile::open(const std::string& path) {
  std::shared_ptr<GgufFile> file(new GgufFile());
  file->path_ = path;
  file->map_ = MappedFile::open(path);
  const std::span<const std::byte> bytes = file->map_->bytes();
  Cursor in(file->path_, bytes);
  if (bytes.size() < 4 || std::memcmp(bytes.data(), "GGUF", 4) != 0) {
    fail_input("{}: does not begin with 'GGUF'; not a GGUF file", path);
  }
  in.number<uint32_t>();
  file->version_ = in.number<uint32_t>();
  if (file->version_ != 2 && file->version_ != 3) {
    fail_input("{}: GGUF version {} is not supported; 2 and 3 (little endian) are", path,
               file->version_);
  }
  const auto tensor_count = in.number<uint64_t>(), key_count = in.number<uint64_t>();
  // The smallest tensor entry takes 24 bytes, the smallest key 13.
  if (tensor_count > kMaxTensors || tensor_count > in.left() / 24) {
    fail_input("{}: {} tensors are claimed; {} bytes are left, at most {} are accepted", path,
               tensor_count, in.left(), kMaxTensors);
  }
  if (key_count > kMaxKeys || key_count > in.left() / 13) {
    fail_input("{}: {} keys are claimed; {} bytes are left, at most {} are accepted", path,
               key_count, in.left(), kMaxKeys);
  }
  for (uint64_t i = 0; i < key_count; ++i) {
    std::string key = in.string();
    GgufValue value = read_value(in, key);
    if (!file->values_.emplace(key, std::move(value)).second) {
      fail_input("{}: key '{}' is there twice", path, printable(key));
    }
  }
  const int64_t alignment = file->integer("general.alignment").value_or(32);
  if (alignment < 1 || alignment > static_cast<int64_t>(kMaxAlignment) ||
      (alignment & (alignment - 1)) != 0) {
    fail_input("{}: general.alignment is {}; accepted are powers of two up to {}", path, alignment,
               kMaxAlignment);
  }
  std::vector<Info> infos;
  for (uint64_t i = 0; i < tensor_count; ++i) infos.push_back(read_info(in));

  const uint64_t start =
      tensor_count == 0 ? bytes.size() : checked_align_up(in.at(), alignment, path);
  std::set<std::string_view> names;
  for (Info& info : infos) {
    const std::string what = fmt::format("{}: tensor '{}'", path, printable(info.view.name));
    if (!names.insert(info.view.name).second) fail_input("{} is there twice", what);
    const uint64_t size = tensor_bytes(info.view.dtype, info.view.shape, what);
    if (info.offset % static_cast<uint64_t>(alignment) != 0) {
      fail_input("{}: offset {} is not a multiple of the alignment {}", what, info.offset,
                 alignment);
    }
    const uint64_t begin = checked_add(start, info.offset, what);
    const uint64_t end = checked_add(begin, size, what);
    if (end > bytes.size()) {
      fail_input("{}: bytes [{}, {}) lie outside the file of {} bytes (is it truncated?)", what,
                 begin, end, bytes.size());
    }
    info.view.data = bytes.subspan(begin, size);
  }
  for (Info& info : infos) file->tensors_.push_back(std::move(info.view));
  return file;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

std::optional<int64_t> GgufFile::integer(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* i = std::get_if<int64_t>(value)) return *i;
  if (const auto* u = std::get_if<uint64_t>(value))
    return checked_cast<int64_t>(*u, fmt::format("{}: key '{}'", path_, key));
  fail_input("{}: key '{}' is not an integer", path_, key);
}

std::optional<double> GgufFile::real(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* d = std::get_if<double>(value)) return *d;
  if (const auto i = integer(key)) return static_cast<double>(*i);
  return std::nullopt;
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* b = std::get_if<bool>(value)) return *b;
  fail_input("{}: key '{}' is not a boolean", path_, key);
}

std::optional<std::string> GgufFile::string(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* s = std::get_if<std::string>(value)) return *s;
  fail_input("{}: key '{}' is not a string", path_, key);
}

const std::vector<std::string>* GgufFile::strings(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return nullptr;
  if (const auto* v = std::get_if<std::vector<std::string>>(value)) return v;
  fail_input("{}: key '{}' is not an array of strings", path_, key);
}

const std::vector<int64_t>* GgufFile::integers(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return nullptr;
  if (const auto* v = std::get_if<std::vector<int64_t>>(value)) return v;
  fail_input("{}: key '{}' is not an array of integers", path_, key);
}

const std::vector<double>* GgufFile::reals(std::string_view key) const {
  const GgufValue* value = find(key);
  if (value == nullptr) return nullptr;
  if (const auto* v = std::get_if<std::vector<double>>(value)) return v;
  fail_input("{}: key '{}' is not an array of reals", path_, key);
}

}  // namespace pluq
