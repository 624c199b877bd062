// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/convert.h"

#include <bit>
#include <cstring>

#include "base/error.h"
#include "checkpoint/dtype.h"

namespace pluq {

float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float f16_to_f32(uint16_t h) {
  // The float multiplier normalises subnormals; infinities and NaN keep their exponent.
  const float scaled = std::bit_cast<float>(static_cast<uint32_t>(h & 0x7fff) << 13) * 0x1.0p112F;
  const uint32_t special = (h & 0x7c00) == 0x7c00 ? 0x7f800000U : 0U;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | special |
                              static_cast<uint32_t>(h & 0x8000) << 16);
}

uint16_t f32_to_f16(float value) {
  auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  bits &= 0x7fffffffU;
  if (bits > 0x7f800000U) return static_cast<uint16_t>(sign | 0x7e00);
  if (bits >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00);
  if (bits < 0x38800000U) {  // subnormal: the float adder rounds
    const auto out = std::bit_cast<uint32_t>(std::bit_cast<float>(bits) + 0.5F);
    return static_cast<uint16_t>(sign | (out - 0x3f000000U));
  }
  bits += 0xfff + (bits >> 13 & 1);
  return static_cast<uint16_t>(sign | ((bits - 0x38000000U) >> 13));
}

void to_f32(uint32_t dtype_id, std::span<const std::byte> data, float* out) {
  const auto sixteen = [&](float (*convert)(uint16_t)) {
    for (size_t i = 0; i < data.size() / 2; ++i) {
      uint16_t bits;
      std::memcpy(&bits, data.data() + 2 * i, 2);
      out[i] = convert(bits);
    }
  };
  switch (dtype_id) {
    case PLUQ_DTYPE_F32:
      if (!data.empty()) std::memcpy(out, data.data(), data.size());
      return;
    case PLUQ_DTYPE_F16:
      return sixteen(&f16_to_f32);
    case PLUQ_DTYPE_BF16:
      return sixteen(&bf16_to_f32);
    default:
      fail_input("a tensor is {}, expected F32, F16 or BF16", dtype_name(dtype_id));
  }
}

std::vector<float> to_f32(uint32_t dtype_id, std::span<const std::byte> data) {
  std::vector<float> out(data.size() / (dtype_id == PLUQ_DTYPE_F32 ? 4 : 2));
  to_f32(dtype_id, data, out.data());
  return out;
}

void from_f32(uint32_t dtype_id, std::span<const float> values, std::byte* out) {
  const auto sixteen = [&](uint16_t (*convert)(float)) {
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t bits = convert(values[i]);
      std::memcpy(out + 2 * i, &bits, 2);
    }
  };
  switch (dtype_id) {
    case PLUQ_DTYPE_F32:
      if (!values.empty()) std::memcpy(out, values.data(), values.size_bytes());
      return;
    case PLUQ_DTYPE_F16:
      return sixteen(&f32_to_f16);
    case PLUQ_DTYPE_BF16:
      return sixteen(&f32_to_bf16);
    default:
      fail_input("cannot write {}; F32, F16 and BF16 can be written", dtype_name(dtype_id));
  }
}

}  // namespace pluq
