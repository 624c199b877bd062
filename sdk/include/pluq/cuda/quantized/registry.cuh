// SPDX-License-Identifier: Apache-2.0
// Where the kernels with instances put their launchers, so that a plugin links only those it needs.
// One registry per shared object and side, filled before anything of it is called.
#pragma once

#include "pluq/cuda/platform.hpp"
#include "pluq/cuda/quantized/ops.h"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

constexpr int kByteKinds = 6;
constexpr int kBlockFormats = 6;
constexpr int kGgufTypes = 32;

struct Registry {
  OpError (*byte_gemm[kByteKinds])(const pluq_exec *, const ByteGemm &);           // by ByteKind
  OpError (*byte_wgmma[2])(const pluq_exec *, const ByteGemm &);                   // kS8, kE4m3
  OpError (*block_linear[kBlockFormats])(const pluq_exec *, const BlockLinear &);  // by BlockFormat
  OpError (*gguf[kGgufTypes])(const pluq_exec *, const BlockLinear &);  // by ggml's number
  // by 4 or 8 bits, by wo_tile_index
  OpError (*weight_only[2][kWoTiles])(const pluq_exec *, const WeightOnly &);
  OpError (*weight_only_wgmma[2])(const pluq_exec *, const WeightOnly &);  // by 4 or 8 bits
  OpError (*weight_only_repack)(const pluq_exec *, const WeightOnlyRepack &);
  OpError (*weight_only_dequantize)(const pluq_exec *, const WeightOnlyDequantize &);
  OpError (*gather_columns)(const pluq_exec *, const GatherColumns &);
};
inline Registry registry;  // zero until the instances' initialisers have run

// Whether this build holds code for compute capability 9.0 (sm_90a): kernels of wgmma trap
// elsewhere and are not registered without it.
constexpr bool built_for_sm_90() {
#ifdef __CUDACC__
  for (const int arch : {__CUDA_ARCH_LIST__}) {
    if (arch == 900) return true;
  }
  return false;
#else
  return true;
#endif
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
