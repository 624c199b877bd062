// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "checkpoint/dtype.h"

namespace pluq {
namespace {

namespace json = boost::json;

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr size_t kMaxTensors = 1'000'000;

struct Extent {
  uint64_t begin, end;
  size_t tensor;
};

uint64_t unsigned_number(const json::value& value, std::string_view what) {
  if (value.is_uint64()) return value.get_uint64();
  if (value.is_int64() && value.get_int64() >= 0) return static_cast<uint64_t>(value.get_int64());
  fail_input("{}: expected a whole number from 0, found {}", what,
             printable(json::serialize(value), 40));
}

const json::value& member(const json::object& object, std::string_view key, std::string_view what) {
  const json::value* value = object.if_contains(key);
  if (value == nullptr) fail_input("{}: '{}' is missing", what, key);
  return *value;
}

TensorView parse_tensor(const std::string& where, std::string_view name, const json::value& entry,
                        uint64_t data_bytes, Extent* extent) {
  const std::string what = fmt::format("{}: tensor '{}'", where, printable(name));
  if (!entry.is_object()) fail_input("{}: expected an object", what);
  const json::object& object = entry.get_object();
  for (const auto& [key, value] : object) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      fail_input("{}: unknown key '{}'; accepted are dtype, shape, data_offsets", what,
                 printable(key));
    }
  }
  TensorView tensor;
  tensor.name = name;
  const json::value& type = member(object, "dtype", what);
  const auto dtype = type.is_string() ? dtype_by_safetensors_name(type.get_string()) : std::nullopt;
  if (!dtype) {
    fail_input("{}: dtype {} is not known; accepted are {}", what,
               printable(json::serialize(type), 40), safetensors_dtype_names());
  }
  tensor.dtype = *dtype;
  const json::value& shape = member(object, "shape", what);
  if (!shape.is_array()) fail_input("{}: shape is not a list", what);
  if (shape.get_array().size() > 16)
    fail_input("{}: {} dimensions, at most 16", what, shape.get_array().size());
  for (const json::value& dim : shape.get_array()) {
    tensor.shape.push_back(checked_cast<int64_t>(unsigned_number(dim, what), what));
  }
  const json::value& offsets = member(object, "data_offsets", what);
  if (!offsets.is_array() || offsets.get_array().size() != 2)
    fail_input("{}: data_offsets is not [begin, end]", what);
  extent->begin = unsigned_number(offsets.get_array()[0], what);
  extent->end = unsigned_number(offsets.get_array()[1], what);
  if (extent->begin > extent->end || extent->end > data_bytes) {
    fail_input(
        "{}: data_offsets [{}, {}] lie outside the {} bytes of data (is the file truncated?)", what,
        extent->begin, extent->end, data_bytes);
  }
  const uint64_t want = tensor_bytes(tensor.dtype, tensor.shape, what);
  if (extent->end - extent->begin != want) {
    fail_input("{}: {} {} needs {} bytes, data_offsets [{}, {}] give {}", what,
               dtype_name(tensor.dtype.id), shape_text(tensor.shape), want, extent->begin,
               extent->end, extent->end - extent->begin);
  }
  return tensor;
}

void check_cover(const std::string& where, std::vector<Extent> extents,
                 const std::vector<TensorView>& tensors, uint64_t data_bytes) {
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t at = 0;
  for (const Extent& e : extents) {
    if (e.begin != at) {
      fail_input("{}: tensor '{}' begins at byte {} of the data, {} bytes {} the one before it",
                 where, printable(tensors[e.tensor].name), e.begin,
                 e.begin > at ? e.begin - at : at - e.begin,
                 e.begin > at ? "after the end of (a hole)" : "before the end of (an overlap)");
    }
    at = e.end;
  }
  if (at != data_bytes) {
    fail_input("{}: the tensors end at byte {} of the data, the file has {} bytes after that",
               where, at, data_bytes - at);
  }
}

}  // namespace

SafetensorsFile read_safetensors(std::shared_ptr<const MappedFile> map) {
  const std::string& where = map->path();
  const std::span<const std::byte> bytes = map->bytes();
  if (bytes.size() < 8)
    fail_input("{}: {} bytes, too short for a safetensors file", where, bytes.size());
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  if (header_bytes > kMaxHeader) {
    fail_input("{}: a header of {} bytes, at most {} are accepted (is this a safetensors file?)",
               where, header_bytes, kMaxHeader);
  }
  if (header_bytes > bytes.size() - 8) {
    fail_input("{}: a header of {} bytes does not fit into the file of {} bytes (is it truncated?)",
               where, header_bytes, bytes.size());
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header_bytes);
  if (text.empty() || text.front() != '{')
    fail_input("{}: the header does not begin with '{{'", where);
  const std::span<const std::byte> data = bytes.subspan(8 + header_bytes);

  JsonLimits limits;
  limits.max_bytes = kMaxHeader;
  limits.max_depth = 4;
  limits.max_values = 16 * kMaxTensors;
  const json::value header = parse_json(text, where, limits);
  const json::object& entries = header.get_object();
  if (entries.size() > kMaxTensors)
    fail_input("{}: {} tensors, at most {}", where, entries.size(), kMaxTensors);

  SafetensorsFile file;
  file.map = std::move(map);
  std::vector<Extent> extents;
  for (const auto& [key, value] : entries) {
    if (key == "__metadata__") {
      if (!value.is_object()) fail_input("{}: __metadata__ is not an object", where);
      for (const auto& [k, v] : value.get_object()) {
        if (!v.is_string())
          fail_input("{}: __metadata__ '{}' is not a string", where, printable(k));
        file.metadata.emplace_back(k, v.get_string());
      }
      continue;
    }
    Extent extent{};
    TensorView tensor = parse_tensor(where, key, value, data.size(), &extent);
    tensor.data = data.subspan(extent.begin, extent.end - extent.begin);
    extent.tensor = file.tensors.size();
    extents.push_back(extent);
    file.tensors.push_back(std::move(tensor));
  }
  check_cover(where, std::move(extents), file.tensors, data.size());
  return file;
}

}  // namespace pluq
