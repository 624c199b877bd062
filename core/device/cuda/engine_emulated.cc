// SPDX-License-Identifier: Apache-2.0
// The engine's kernels for the emulated device.
#define PLUQ_CUDA_EMULATE 1
#include "device/cuda/engine_kernels.cuh"

#include "device/cuda/emulated_runtime.h"

namespace pluq {

std::unique_ptr<EngineOps> make_emulated_ops(void* stream, const pluq_cuda_emulator* emulator,
                                             uint32_t dtype, uint32_t sm_count) {
  const cuda::Stream on(stream, emulator);
  if (dtype == PLUQ_DTYPE_BF16) return std::make_unique<cuda::engine::Ops<true>>(on, sm_count);
  return std::make_unique<cuda::engine::Ops<false>>(on, sm_count);
}

}  // namespace pluq
