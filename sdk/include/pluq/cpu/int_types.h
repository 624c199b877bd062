// SPDX-License-Identifier: Apache-2.0
// Plain data shared by the integer GEMM's packer, its callers and its ISA files. No inline function
// may live here: ISA files include this header, and a weak copy compiled for a newer CPU could win
// at link time.
//
// y[M, N] = x[M, K] * W[N, K]^T, W[n, k] = scale[g, n] * (code[n, k] - zero[g, n])   (or scale *
// code + offset), where columns are taken in an order `perm` and g is the run of that order that
// holds k.
//
// Packed weights, one form for every ISA and every M. 32 output rows make a panel; panels follow
// each other:
//   panel := group[num_groups]
//   group := step[padded_k / 8] scales zeros? sums?     (each part a multiple of 64 bytes)
//   step, 4 bits, 128 bytes: byte [n][i] (n < 32, i < 4) = code[n][i] | code[n][i + 4] << 4
//   step, 8 bits, 256 bytes: byte [h][n][i] (h < 2)      = code[n][4 h + i]
//   scales := 32 x f16, bf16 or f32;   zeros := 32 x int16 (integer zeros) or 32 x f32 (offsets);
//   sums := 32 x int32, sum over the group's columns of (code - zero): only for activations with a
//   zero point.
// A group whose length is no multiple of 8 is padded with columns that no activation touches.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace pluq {
namespace cpu {

constexpr int kIntPanel = 32;  // output rows per panel
constexpr int kIntStep = 8;    // columns per step; groups are padded to it
constexpr int kIntMaxGroup =
    32768;  // columns per group: beyond it int32 sums could overflow; split the group
constexpr int kIntAlign = 64;       // alignment of packed weights and workspace, bytes
constexpr int kIntSuperRows = 768;  // rows (limbs counted) worked on per pass over the weights
constexpr int kIntUnpackSteps =
    64;  // longest group, in steps, that is unpacked to L1 (256 bytes each)
constexpr int kIntScratchRows = 12;  // rows of the largest tile of any ISA

enum class IntScaleType : int32_t { kF16 = 0, kBf16 = 1, kF32 = 2 };

enum class IntZeroKind : int32_t {
  kConstant =
      0,  // one integer for the whole matrix (8 for symmetric 4-bit codes, 128 for int8 + 128)
  kInteger = 1,  // an integer in [-32768, 32767] per (group, row)
  kOffset = 2,   // w = scale * code + offset, a float per (group, row)
};

enum class IntActivation : int32_t {
  kGroup = 0,      // int8 per row and group: q = rne(x * 127 / amax)
  kToken = 1,      // int8 per row: s = max|x| / divisor, q = clamp(rne(x / s))
  kTokenAsym = 2,  // int8 per row with a zero point: s = (max(x,0) - min(x,0)) / 255
  kStatic = 3,     // q = clamp(rne(x / static_scale) + static_zero)
  kCodes = 4,      // codes, scales and zeros are given
  kExact = 5,      // 24-bit fixed point per row and group in three int8 digits: float32 accuracy
};

// A packed matrix. The pointers go into the packed buffer (made by int_pack_init) and live as long
// as it.
struct IntWeights {
  int64_t n = 0;
  int64_t k = 0;
  int32_t code_bits = 0;   // 4 or 8: storage width of a code
  int32_t num_groups = 0;  // G
  IntScaleType scale_type = IntScaleType::kF32;
  IntZeroKind zero_kind = IntZeroKind::kConstant;
  int32_t zero_constant = 0;
  int32_t has_sums = 0;  // 1: kTokenAsym, and kStatic/kCodes with zero points, are possible
  const int32_t* group_begin = nullptr;   // [G + 1] first position (permuted order) of each group
  const int32_t* padded_begin = nullptr;  // [G + 1] the same after padding; multiples of kIntStep
  const int32_t* perm = nullptr;          // [K] position -> column of x; NULL: the identity
  const uint8_t* panels = nullptr;        // [num_panels, panel_bytes]
  int64_t num_panels = 0;
  int64_t panel_bytes = 0;
  int32_t scale_bytes = 0;  // bytes of scales, zeros and sums of one (panel, group)
  int32_t zero_bytes = 0;
  int32_t sum_bytes = 0;
};

// What phase 1 turns into int8. x is read in every mode but kCodes. A row that holds an Inf or a
// NaN yields a row of NaN in every mode that reads x.
struct IntInput {
  IntActivation mode = IntActivation::kGroup;
  int64_t m = 0;                  // rows
  const float* x = nullptr;       // [M, K], original column order
  int64_t ldx = 0;                // elements between rows of x
  float divisor = 127.0f;         // kToken
  float static_scale = 1.0f;      // kStatic, kStatic only: > 0
  int32_t static_zero = 0;        // kStatic
  const int8_t* codes = nullptr;  // kCodes: [M, K], original column order
  int64_t ld_codes = 0;
  const float* code_scales = nullptr;   // kCodes: [M], or [1] when one_scale
  const int32_t* code_zeros = nullptr;  // kCodes: [M] (or [1]), in [-128, 127]; NULL: all zero
  int32_t one_scale = 0;
};

struct IntOutput {
  float* y = nullptr;           // [M, N]
  int64_t ldy = 0;              // elements between rows of y
  const float* bias = nullptr;  // [N] or NULL
};

// One ISA's functions. All are reentrant and allocate nothing. `workspace` is
// int_workspace_bytes(...) bytes, 64-byte aligned. Every worker calls quantize, then all meet at a
// barrier, then every worker calls gemm; with n_workers == 1 no barrier is needed. Bits of y depend
// on the ISA, the weights and the row's own input only.
struct IntKernels {
  const char* isa;  // "portable", "avx2", "avx512" (needs VNNI), "avx512-emulated"
  void (*quantize)(const IntWeights* w, const IntInput* in, void* workspace, int worker,
                   int n_workers);
  void (*gemm)(const IntWeights* w, const IntInput* in, const IntOutput* out, void* workspace,
               int worker, int n_workers);
};

}  // namespace cpu
}  // namespace pluq
