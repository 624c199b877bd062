// SPDX-License-Identifier: Apache-2.0
// A kernel that must spill: 64 live values with 32 registers. compile.py has to notice it.
#include "pluq/cuda/cuda.hpp"

namespace pluq {
inline namespace PLUQ_CUDA_SIDE {

using namespace cuda;

PLUQ_KERNEL(1024, 2) void spilling_kernel(gmem<const float> x, gmem<float> y, int rounds) {
  float v[64];
  const int t = static_cast<int>(thread_idx().x);
  PLUQ_UNROLL
  for (int i = 0; i < 64; ++i) v[i] = x.load(i * 1024 + t);
  for (int r = 0; r < rounds; ++r) {
    PLUQ_UNROLL
    for (int i = 0; i < 64; ++i) v[i] = fma_f32(v[i], v[(i + 7) % 64], v[(i * 3 + 1) % 64]);
  }
  PLUQ_UNROLL
  for (int i = 0; i < 64; ++i) y.store(i * 1024 + t, v[i]);
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace pluq
