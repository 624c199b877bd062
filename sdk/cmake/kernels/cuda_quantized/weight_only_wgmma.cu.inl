// SPDX-License-Identifier: Apache-2.0
// The product with 4- or 8-bit integer weights by wgmma, for more than 64 rows of x on sm_90a:
// PLUQ_INSTANCE is bits. Compiled by the host compiler for the emulated device, and by nvcc for
// sm_90a alone: a build without it has no such launcher (own_90 in sources.cmake).
#include "pluq/cuda/operands.hpp"
#include "pluq/cuda/quantized/registry.cuh"
#include "pluq/cuda/quantized/weight_only.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {
namespace {
template <int Bits>
OpError launch_weight_only_wgmma(const pluq_exec *exec, const WeightOnly &w) {
  if (w.zeros) {
    return to_op_error(w.bf16 ? launch_weight_only<Bits, 128, true, true, true>(exec, w)
                              : launch_weight_only<Bits, 128, true, false, true>(exec, w));
  }
  return to_op_error(w.bf16 ? launch_weight_only<Bits, 128, false, true, true>(exec, w)
                            : launch_weight_only<Bits, 128, false, false, true>(exec, w));
}
template <int Bits>
bool add() {
  if (!built_for_sm_90()) return false;
  registry.weight_only_wgmma[Bits == 8] = &launch_weight_only_wgmma<Bits>;
  return true;
}
const bool registered = add<PLUQ_INSTANCE>();
}  // namespace
}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
