// SPDX-License-Identifier: Apache-2.0
// Plain floats of any width as f32, and back to 16 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace pluq {

float f16_to_f32(uint16_t bits);
float bf16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);   // round to nearest even; beyond the range to infinity
uint16_t f32_to_bf16(float value);  // round to nearest even

// Elements of dtype F32, F16 or BF16, at any alignment. Throws Error(kInput) for another dtype.
void to_f32(uint32_t dtype_id, std::span<const std::byte> data, float* out);
std::vector<float> to_f32(uint32_t dtype_id, std::span<const std::byte> data);

// f32 values as F32, F16 or BF16 bytes.
void from_f32(uint32_t dtype_id, std::span<const float> values, std::byte* out);

}  // namespace pluq
