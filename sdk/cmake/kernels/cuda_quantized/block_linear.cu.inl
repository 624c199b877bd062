// SPDX-License-Identifier: Apache-2.0
// The dequantizing GEMV and GEMM of one format: PLUQ_INSTANCE is the name of its decoder. Compiled
// by the host compiler for the emulated device, and by nvcc.
#include "pluq/cuda/quantized/block_linear.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {
template OpError launch_block_linear<PLUQ_INSTANCE>(const pluq_exec *, const BlockLinear &);
}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
