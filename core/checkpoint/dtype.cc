// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/dtype.h"

#include "base/checked.h"
#include "base/error.h"

namespace pluq {
namespace {

struct Row {
  pluq_dtype type;
  const char* name;
  bool safetensors;
};

constexpr uint32_t ggml(uint32_t type) { return PLUQ_DTYPE_GGML_BASE + type; }

constexpr Row kTypes[] = {
    {{PLUQ_DTYPE_BOOL, 1, 1}, "BOOL", true},
    {{PLUQ_DTYPE_U8, 1, 1}, "U8", true},
    {{PLUQ_DTYPE_I8, 1, 1}, "I8", true},
    {{PLUQ_DTYPE_U16, 1, 2}, "U16", true},
    {{PLUQ_DTYPE_I16, 1, 2}, "I16", true},
    {{PLUQ_DTYPE_U32, 1, 4}, "U32", true},
    {{PLUQ_DTYPE_I32, 1, 4}, "I32", true},
    {{PLUQ_DTYPE_U64, 1, 8}, "U64", true},
    {{PLUQ_DTYPE_I64, 1, 8}, "I64", true},
    {{PLUQ_DTYPE_F16, 1, 2}, "F16", true},
    {{PLUQ_DTYPE_BF16, 1, 2}, "BF16", true},
    {{PLUQ_DTYPE_F32, 1, 4}, "F32", true},
    {{PLUQ_DTYPE_F64, 1, 8}, "F64", true},
    {{PLUQ_DTYPE_F8_E4M3, 1, 1}, "F8_E4M3", true},
    {{PLUQ_DTYPE_F8_E5M2, 1, 1}, "F8_E5M2", true},
    {{PLUQ_DTYPE_F8_E8M0, 1, 1}, "F8_E8M0", true},
    {{PLUQ_DTYPE_F4_E2M1, 2, 1}, "F4", true},
    {{PLUQ_DTYPE_F8_E4M3FNUZ, 1, 1}, "F8_E4M3FNUZ", true},
    {{PLUQ_DTYPE_F8_E5M2FNUZ, 1, 1}, "F8_E5M2FNUZ", true},
    {{ggml(2), 32, 18}, "Q4_0", false},
    {{ggml(3), 32, 20}, "Q4_1", false},
    {{ggml(6), 32, 22}, "Q5_0", false},
    {{ggml(7), 32, 24}, "Q5_1", false},
    {{ggml(8), 32, 34}, "Q8_0", false},
    {{ggml(10), 256, 84}, "Q2_K", false},
    {{ggml(11), 256, 110}, "Q3_K", false},
    {{ggml(12), 256, 144}, "Q4_K", false},
    {{ggml(13), 256, 176}, "Q5_K", false},
    {{ggml(14), 256, 210}, "Q6_K", false},
};

const Row* find(uint32_t id) {
  for (const Row& row : kTypes) {
    if (row.type.id == id) return &row;
  }
  return nullptr;
}

}  // namespace

pluq_dtype dtype_by_id(uint32_t id) {
  const Row* row = find(id);
  return row == nullptr ? pluq_dtype{id, 0, 0} : row->type;
}

std::string dtype_name(uint32_t id) {
  const Row* row = find(id);
  return row == nullptr ? fmt::format("type {}", id) : row->name;
}

std::optional<pluq_dtype> dtype_by_safetensors_name(std::string_view name) {
  for (const Row& row : kTypes) {
    if (row.safetensors && name == row.name) return row.type;
  }
  return std::nullopt;
}

std::string safetensors_dtype_names() {
  std::string out;
  for (const Row& row : kTypes) {
    if (row.safetensors) out += (out.empty() ? "" : ", ") + std::string(row.name);
  }
  return out;
}

std::optional<pluq_dtype> dtype_by_ggml_type(uint32_t type) {
  switch (type) {
    case 0:
      return dtype_by_id(PLUQ_DTYPE_F32);
    case 1:
      return dtype_by_id(PLUQ_DTYPE_F16);
    case 24:
      return dtype_by_id(PLUQ_DTYPE_I8);
    case 25:
      return dtype_by_id(PLUQ_DTYPE_I16);
    case 26:
      return dtype_by_id(PLUQ_DTYPE_I32);
    case 27:
      return dtype_by_id(PLUQ_DTYPE_I64);
    case 28:
      return dtype_by_id(PLUQ_DTYPE_F64);
    case 30:
      return dtype_by_id(PLUQ_DTYPE_BF16);
    default:
      break;
  }
  if (type > 0xffff) return std::nullopt;
  const Row* row = find(ggml(type));
  if (row == nullptr) return std::nullopt;
  return row->type;
}

bool is_plain_float(uint32_t id) {
  return id == PLUQ_DTYPE_F32 || id == PLUQ_DTYPE_F16 || id == PLUQ_DTYPE_BF16;
}

uint64_t tensor_bytes(const pluq_dtype& dtype, std::span<const int64_t> shape,
                      std::string_view what) {
  uint64_t elements = 1;
  for (const int64_t dim : shape) {
    if (dim < 0) fail_input("{}: dimension {} is negative", what, dim);
    elements = checked_mul(elements, static_cast<uint64_t>(dim), what);
  }
  const uint64_t inner = shape.empty() ? 1 : static_cast<uint64_t>(shape.back());
  // Sub-byte scalar types need only whole bytes in total; block types whole blocks along the
  // innermost dimension.
  const uint64_t must_divide = dtype.id >= PLUQ_DTYPE_GGML_BASE ? inner : elements;
  if (dtype.block_elements == 0 || must_divide % dtype.block_elements != 0) {
    fail_input("{}: shape {} is not a whole number of {} blocks of {} elements", what,
               shape_text(shape), dtype_name(dtype.id), dtype.block_elements);
  }
  return checked_mul(elements / dtype.block_elements, uint64_t{dtype.block_bytes}, what);
}

std::string shape_text(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace pluq
