// SPDX-License-Identifier: Apache-2.0
// The product with 4- or 8-bit integer weights for one tile: PLUQ_INSTANCE is bits, rows of x.
// Compiled by the host compiler for the emulated device, and by nvcc.
#include "pluq/cuda/operands.hpp"
#include "pluq/cuda/quantized/registry.cuh"
#include "pluq/cuda/quantized/weight_only.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {
namespace {
template <int Bits, int Rows>
OpError launch_weight_only_tile(const pluq_exec *exec, const WeightOnly &w) {
  if (w.zeros) {
    return to_op_error(w.bf16 ? launch_weight_only<Bits, Rows, true, true>(exec, w)
                              : launch_weight_only<Bits, Rows, true, false>(exec, w));
  }
  return to_op_error(w.bf16 ? launch_weight_only<Bits, Rows, false, true>(exec, w)
                            : launch_weight_only<Bits, Rows, false, false>(exec, w));
}
template <int Bits, int Rows>
bool add() {
  registry.weight_only[Bits == 8][wo_tile_index(Rows)] = &launch_weight_only_tile<Bits, Rows>;
  return true;
}
const bool registered = add<PLUQ_INSTANCE>();
}  // namespace
}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
