// SPDX-License-Identifier: Apache-2.0
// Products of 8-bit codes by wgmma, for more than 64 rows of x on sm_90a: PLUQ_INSTANCE is the
// ByteKind. Compiled by the host compiler for the emulated device, and by nvcc for sm_90a alone: a
// build without it has no such launcher (own_90 in sources.cmake).
#include "pluq/cuda/quantized/byte_wgmma.cuh"
#include "pluq/cuda/quantized/registry.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {
namespace {
const bool registered = [] {
  if (!built_for_sm_90()) return false;
  registry.byte_wgmma[PLUQ_INSTANCE] = &launch_byte_wgmma<static_cast<ByteKind>(PLUQ_INSTANCE)>;
  return true;
}();
}  // namespace
}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
