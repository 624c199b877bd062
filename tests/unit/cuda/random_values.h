// SPDX-License-Identifier: Apache-2.0
// For tests of kernels: reproducible numbers, 16-bit floats and what y becomes when it is stored.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "pluq/cuda/quantized/ops.h"
#include "pluq/plugin.hpp"

namespace pluq {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2654435761U + 12345) {}
  uint32_t bits() {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<uint32_t>(state_ >> 32);
  }
  int below(int n) { return static_cast<int>(bits() % static_cast<uint32_t>(n)); }
  double unit() { return bits() / 4294967296.0; }  // [0, 1)
  float real(double lo, double hi) { return static_cast<float>(lo + (hi - lo) * unit()); }

 private:
  uint64_t state_;
};

inline float bfloat_to_float(uint16_t h) {
  const uint32_t bits = static_cast<uint32_t>(h) << 16;
  float v;
  std::memcpy(&v, &bits, 4);
  return v;
}
inline uint16_t to_half(cuda::Real type, float v) {
  return type == cuda::Real::kF16 ? float_to_half(v) : float_to_bfloat(v);
}
inline float from_half(cuda::Real type, uint16_t h) {
  return type == cuda::Real::kF16 ? Tensor::half(h) : bfloat_to_float(h);
}
// Half the distance of neighbours of a number near v: the most that storing moves it, relatively.
inline double store_error(cuda::Real type) {
  return type == cuda::Real::kF16 ? 0x1p-11 : type == cuda::Real::kBf16 ? 0x1p-8 : 0x1p-24;
}
inline double read_y(const void* y, cuda::Real type, int64_t i) {
  if (type == cuda::Real::kF32) return static_cast<const float*>(y)[i];
  return from_half(type, static_cast<const uint16_t*>(y)[i]);
}

}  // namespace pluq
