// SPDX-License-Identifier: Apache-2.0
// For kernel sources of linear layers: all primitives, and the operands of linear.h as launchers
// and kernels handle them.
#pragma once

#include <utility>

#include "pluq/cuda/cuda.hpp"
#include "pluq/cuda/linear.h"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

// x[i], which is a Real.
PLUQ_DEVICE float load_real(gmem<const uint8_t> x, int32_t type, int64_t i) {
  if (type == static_cast<int32_t>(Real::kF32)) return x.as<const float>().load(i);
  const uint16_t h = x.as<const uint16_t>().load(i);
  return type == static_cast<int32_t>(Real::kF16) ? f16_to_f32(h) : bf16_to_f32(h);
}

// y[i] = v, rounded to a Real.
PLUQ_DEVICE void store_real(gmem<uint8_t> y, int32_t type, int64_t i, float v) {
  if (type == static_cast<int32_t>(Real::kF32)) {
    y.as<float>().store(i, v);
  } else {
    y.as<uint16_t>().store(
        i, type == static_cast<int32_t>(Real::kF16) ? f32_to_f16(v) : f32_to_bf16(v));
  }
}

// y[i], y[i + 1] = v, w by one store: i even, y at a multiple of two elements.
PLUQ_DEVICE void store_real_pair(gmem<uint8_t> y, int32_t type, int64_t i, float v, float w) {
  if (type == static_cast<int32_t>(Real::kF32)) {
    y.as<float>().store_as<f32x2>(i, f32x2{{v, w}});
  } else {
    y.as<uint16_t>().store_as<uint32_t>(
        i, type == static_cast<int32_t>(Real::kF16) ? pack_f16x2(v, w) : pack_bf16x2(v, w));
  }
}

inline OpError to_op_error(LaunchError e) { return {e.status, std::move(e.text)}; }

// Bytes of a Real.
inline int64_t real_bytes(Real type) { return type == Real::kF32 ? 4 : 2; }

// The extent in elements of M rows of `width`, `ld` apart.
inline int64_t extent(int64_t m, int64_t width, int64_t ld) {
  return m == 0 ? 0 : (m - 1) * ld + width;
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
