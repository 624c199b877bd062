// SPDX-License-Identifier: Apache-2.0
// The table of launchers of one side (pluq/cuda/quantized/ops.h), with the kernels that have no
// instances; those that have are found in the registry. Compiled by the host compiler for the emulated device, and by nvcc.
#include "pluq/cuda/quantized/activations.cuh"
#include "pluq/cuda/quantized/load.cuh"
#include "pluq/cuda/quantized/registry.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

inline OpError not_linked(const char *what, int number) {
  return {PLUQ_STATUS_UNSUPPORTED,
          std::string(what) + ": kind " + std::to_string(number) + " is not linked into this plugin"};
}

inline OpError byte_gemm(const pluq_exec *exec, const ByteGemm &g) {
  const int kind = static_cast<int>(g.kind);
  if (kind < 0 || kind >= kByteKinds || registry.byte_gemm[kind] == nullptr) {
    return not_linked("byte_gemm", kind);
  }
  if (byte_wgmma_fits(g) && registry.byte_wgmma[kind] != nullptr) {
    return registry.byte_wgmma[kind](exec, g);
  }
  return registry.byte_gemm[kind](exec, g);
}

inline OpError block_linear(const pluq_exec *exec, const BlockLinear &l) {
  const int format = static_cast<int>(l.w.format), type = static_cast<int>(l.w.type);
  if (l.w.format == BlockFormat::kGguf) {
    if (type < 0 || type >= kGgufTypes || registry.gguf[type] == nullptr) {
      return not_linked("block_linear, block type of GGUF", type);
    }
    return registry.gguf[type](exec, l);
  }
  if (format < 0 || format >= kBlockFormats || registry.block_linear[format] == nullptr) {
    return not_linked("block_linear", format);
  }
  return registry.block_linear[format](exec, l);
}

inline OpError weight_only(const pluq_exec *exec, const WeightOnly &w) {
  auto launcher = registry.weight_only[w.bits == 8][wo_tile_index(wo_tile_m(w.m))];
  const auto wgmma = registry.weight_only_wgmma[w.bits == 8];
  if (w.sm == 90 && w.m > 64 && wgmma != nullptr) launcher = wgmma;
  if (launcher == nullptr || !wo_fits(w.n, w.k, w.bits, w.group)) {
    return not_linked("weight_only, bits", w.bits);
  }
  return launcher(exec, w);
}
template <class Args>
OpError linked(OpError (*launcher)(const pluq_exec *, const Args &), const pluq_exec *exec,
               const Args &args) {
  return launcher == nullptr ? not_linked("the part weight_only", 0) : launcher(exec, args);
}
inline OpError weight_only_repack(const pluq_exec *exec, const WeightOnlyRepack &p) {
  return linked(registry.weight_only_repack, exec, p);
}
inline OpError weight_only_dequantize(const pluq_exec *exec, const WeightOnlyDequantize &d) {
  return linked(registry.weight_only_dequantize, exec, d);
}
inline OpError gather_columns(const pluq_exec *exec, const GatherColumns &g) {
  return linked(registry.gather_columns, exec, g);
}

}  // namespace PLUQ_CUDA_SIDE

#if PLUQ_CUDA_EMULATE
const QuantizedOps &quantized_ops_emulated() {
#else
const QuantizedOps &quantized_ops_device() {
#endif
  static const QuantizedOps ops{&launch_upload,       &launch_pack_bytes,      &launch_sum_bytes,
                                &launch_pack_codes,   &launch_load_reals,      &launch_load_ints,
                                &launch_sort_columns, &launch_round,           &launch_cast,
                                &byte_gemm,           &block_linear,           &weight_only,
                                &weight_only_repack,  &weight_only_dequantize, &gather_columns};
  return ops;
}

}  // namespace cuda
}  // namespace pluq
