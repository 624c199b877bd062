// SPDX-License-Identifier: Apache-2.0
// What goes with the products of weight_only.cu.inl. Compiled by the host compiler for the emulated
// device, and by nvcc.
#include "pluq/cuda/quantized/registry.cuh"
#include "pluq/cuda/quantized/weight_only_load.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {
namespace {
const bool registered = [] {
  registry.weight_only_repack = &launch_weight_only_repack;
  registry.weight_only_dequantize = &launch_weight_only_dequantize;
  registry.gather_columns = &launch_gather_columns;
  return true;
}();
}  // namespace
}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
