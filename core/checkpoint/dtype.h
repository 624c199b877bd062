// SPDX-License-Identifier: Apache-2.0
// The element types that checkpoints use: names, block sizes, bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "pluq/dtype.h"

namespace pluq {

// The type with this id; block sizes 0 when the id is not known.
pluq_dtype dtype_by_id(uint32_t id);

// "BF16", "F8_E4M3", "Q4_K"; "type 4123" for an unknown id. Safetensors' own names where it has
// one.
std::string dtype_name(uint32_t id);

// By safetensors name ("BF16"), or nothing.
std::optional<pluq_dtype> dtype_by_safetensors_name(std::string_view name);
// Accepted safetensors names, for messages.
std::string safetensors_dtype_names();

// By ggml type number, or nothing.
std::optional<pluq_dtype> dtype_by_ggml_type(uint32_t type);

// True for F32, F16, BF16.
bool is_plain_float(uint32_t id);

// Bytes of a dense tensor. Throws Error(kInput), naming `what`, on negative dimensions, overflow or
// a partial block along the innermost dimension.
uint64_t tensor_bytes(const pluq_dtype& dtype, std::span<const int64_t> shape,
                      std::string_view what);

// "[32, 256]"
std::string shape_text(std::span<const int64_t> shape);

}  // namespace pluq
