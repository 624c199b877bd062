// SPDX-License-Identifier: Apache-2.0
// The structs that a call on a method takes, filled in for the usual case: a whole layer, float32
// rows on the CPU.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "pluq/abi.h"

namespace pluq {

// x [m, k] and y [m, n], rows ld apart. The caller keeps the memory.
pluq_activation f32_rows(const float* x, int64_t m, int64_t k, int64_t ld);
pluq_output f32_output(float* y, int64_t m, int64_t n, int64_t ld);

// A whole layer of module class Linear that holds these tensors. What else the call needs
// (arithmetic, limits, a shard) is the caller's to add. Strings and tensors must outlive the
// description.
pluq_layer_desc whole_layer(std::string_view name, std::string_view kind, int64_t in_features,
                            int64_t out_features, std::span<const pluq_tensor> tensors);

}  // namespace pluq
