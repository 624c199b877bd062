// SPDX-License-Identifier: Apache-2.0
// What @ID@.cc and its CUDA kernels share.
#pragma once

#include <cstdint>

#include "pluq/cuda/linear.h"

namespace kernels {

// One product with a layer [N, K]; the arrays lie in device memory as they do on disk.
struct Linear {
  const uint8_t* codes;    // [N, K/2]
  const uint16_t* scales;  // f16 [N, K/32]
  int64_t n, k;
  pluq::cuda::LinearIo io;  // x, bias and y
};

// linear(exec, args): y = x W^T + bias, on the device that exec is of.
PLUQ_CUDA_TWIN(linear, Linear)

}  // namespace kernels
