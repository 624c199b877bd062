// SPDX-License-Identifier: Apache-2.0
// Plain data of the float GEMM, shared by the packer, its callers and its ISA files (so no function
// lives here).
//
// y[M, N] = x[M, K] * W[N, K]^T in f32, weights stored as f32, f16, bf16, e4m3 or e5m2 and decoded
// exactly in registers (e4m3's two NaN codes count as +-480: refuse them when loading). Packed
// form, one for every ISA and every M: panels of 32 output rows, each [K][32] elements, so that a
// worker reads one stream. Rows beyond N are zero.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace pluq {
namespace cpu {

constexpr int kFloatPanel = 32;   // output rows per panel
constexpr int kFloatDepth = 128;  // columns decoded to L1 at a time when M is large
constexpr int kFloatAlign = 64;   // alignment of packed weights and workspace, bytes

enum class FloatType : int32_t { kF32 = 0, kF16 = 1, kBf16 = 2, kE4m3 = 3, kE5m2 = 4 };

enum class FloatScale : int32_t {
  kNone = 0,
  kRow = 1,    // y[m, n] is multiplied by scale[n]; one scale per tensor is a row of equal scales
  kBlock = 2,  // scale[n / block_n][k / block_k], edge blocks may be partial
};

struct FloatWeights {
  int64_t n = 0, k = 0;
  FloatType type = FloatType::kF32;
  FloatScale scale = FloatScale::kNone;
  int64_t block_n = 1, block_k = 1;  // kBlock
  const uint8_t* panels = nullptr;   // [num_panels][k][32] elements
  const float* scales = nullptr;     // [N] or [ceil(N / block_n), ceil(K / block_k)]
  int64_t num_panels = 0, panel_bytes = 0;
};

// How phase 1 rounds x to e4m3: q = e4m3(clamp(x / s, +-448)), x becomes q * s. s = max|x| / 448
// over a row or over group_size columns of it, or given. Rows or groups of zeros stay zero.
enum class FloatRound : int32_t { kNone = 0, kToken = 1, kGroup = 2, kStatic = 3 };

struct FloatInput {
  FloatRound round = FloatRound::kNone;
  int64_t m = 0;
  const float* x = nullptr;   // [M, K]
  int64_t ldx = 0;            // elements between rows
  int64_t group_size = 128;   // kGroup
  float static_scale = 1.0f;  // kStatic
};

struct FloatOutput {
  float* y = nullptr;  // [M, N]
  int64_t ldy = 0;
  const float* bias = nullptr;  // [N] or NULL
};

// One ISA's functions; reentrant, no allocation. Every worker calls round, all meet at a barrier,
// every worker calls gemm (with kNone the first step and the barrier may be left out). workspace:
// float_workspace_bytes, 64-byte aligned. The bits of a row of y depend on the ISA, the weights and
// that row of x alone.
struct FloatKernels {
  const char* isa;
  void (*round)(const FloatWeights* w, const FloatInput* in, void* workspace, int worker,
                int n_workers);
  void (*gemm)(const FloatWeights* w, const FloatInput* in, const FloatOutput* out, void* workspace,
               int worker, int n_workers);
};

}  // namespace cpu
}  // namespace pluq
