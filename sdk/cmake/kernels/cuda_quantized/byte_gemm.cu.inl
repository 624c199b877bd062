// SPDX-License-Identifier: Apache-2.0
// One kind of the 8-bit GEMM: PLUQ_INSTANCE is the ByteKind. Compiled by the host compiler for the
// emulated device, and by nvcc.
#include "pluq/cuda/quantized/byte_gemm.cuh"
#include "pluq/cuda/quantized/registry.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {
namespace {
const bool registered = [] {
  registry.byte_gemm[PLUQ_INSTANCE] = &launch_byte_gemm<static_cast<ByteKind>(PLUQ_INSTANCE)>;
  return true;
}();
}  // namespace
}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
