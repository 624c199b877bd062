// SPDX-License-Identifier: Apache-2.0
// What the plugin asks of its kernels (log4_gemm.cu.inl). Pointers are device memory.
#pragma once

#include <algorithm>
#include <cstdint>

#include "pluq/cuda/linear.h"

namespace log4 {

constexpr int64_t kTileK = 64;    // columns of W per step
constexpr int64_t kFewRows = 16;  // rows of x up to which K is split over blocks

// 32-bit words of a layer in the run-time layout (log4_gemm.cu.inl draws it).
inline int64_t packed_words(int64_t n, int64_t k) {
  return (n + 7) / 8 * ((k + kTileK - 1) / kTileK) * 64;
}

// Parts of K for few rows, so that narrow layers still fill the GPU; depends on the layer alone.
inline int64_t splits(int64_t n, int64_t k, uint32_t sm_count) {
  const int64_t steps = (k + kTileK - 1) / kTileK, blocks = (n + 63) / 64;
  return std::clamp<int64_t>(2 * int64_t{sm_count} / std::max<int64_t>(blocks, 1), 1,
                             std::clamp<int64_t>(steps / 2, 1, 16));
}

struct Repack {
  const uint8_t* codes;  // [N, K/2], as on disk
  const float* scale;    // [N]
  int64_t n, k;
  uint32_t* packed;  // packed_words(n, k)
  float* scale_out;  // [N]
};
// The codes in the order of the GEMM's registers, and a copy of the scales.
PLUQ_CUDA_TWIN(repack, Repack)

struct Gemm {
  const uint32_t* packed;
  const float* scale;  // [N]
  int64_t n, k;
  float* partial;  // [splits, M, N] for M <= kFewRows and splits > 1
  int64_t splits;
  pluq::cuda::LinearIo io;
};
// y = x W^T + bias.
PLUQ_CUDA_TWIN(gemm, Gemm)

}  // namespace log4
