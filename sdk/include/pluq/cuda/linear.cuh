// SPDX-License-Identifier: Apache-2.0
// y = x W^T + bias for a format that can decode 16 weights: a GEMV up to 8 rows of x, a GEMM on
// tensor cores above. A decoder is a struct that kernels get by value:
//   PLUQ_DEVICE void run(int64_t row, int64_t k0, float *w) const;
//     writes W[row, k0 .. k0 + 15], k0 a multiple of kRun = 16, zeros beyond K; row < N, k0 < K
// It holds gmem<const T> arrays with their sizes and plain numbers. The launcher:
//   launch_decoded(exec, decoder, n, k, io)
// Included by kernel sources only (X.cu.inl); a plugin's C++ includes linear.hpp.
#pragma once

#include "pluq/cuda/quantized/block_linear.cuh"
