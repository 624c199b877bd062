// SPDX-License-Identifier: Apache-2.0
// What a plugin calls on a CUDA device for quantized linear layers: plain arguments and a table of
// launchers, one for the real device and one for the emulated. No kernel code here.
//
// All pointers are device memory unless a name ends in _host. Launchers enqueue on exec->stream,
// allocate nothing, wait for nothing, and answer an error by value. M rows of x, N rows of W, K
// columns; y[M, N] = x[M, K] W[N, K]^T + bias[N].
#pragma once

#include "pluq/cuda/linear.h"
#include "pluq/cuda/quantized/weight_only.h"

namespace pluq {
namespace cuda {

// ---------------------------------------------------------------- 8-bit weights

// How the products of an 8-bit weight are formed.
//   kS8    int8 codes x int8 codes in s32
//   kE4m3  e4m3 codes x e4m3 codes in f32; needs compute capability 8.9
//   others 16-bit activations x e4m3 or e5m2 weights, converted exactly, in f32
enum class ByteKind : int32_t {
  kS8 = 0,
  kE4m3 = 1,
  kF16E4m3 = 2,
  kF16E5m2 = 3,
  kBf16E4m3 = 4,
  kBf16E5m2 = 5
};

constexpr int kByteDepth = 64;   // columns per pipeline stage; rows are padded to it with zeros
constexpr int kBytePeriod = 32;  // runs of columns with one scale are multiples of it
constexpr int kByteTileN = 128;  // columns of y per block
constexpr int64_t kMaxInt8Depth = 131072;  // longest K of kS8: s32 sums

inline int64_t byte_pitch(int64_t k) { return (k + kByteDepth - 1) / kByteDepth * kByteDepth; }
inline bool byte_kind_wide(ByteKind kind) { return kind >= ByteKind::kF16E4m3; }

// a: [M, K padded to kByteDepth] codes, zero beyond K; for the 16-bit kinds elements of 2 bytes,
// whose pitch may be any multiple of 8 and whose columns beyond K are not read.
// b: [N, byte_pitch(K)], zero beyond K; for the 16-bit kinds packed by pack_bytes(interleave).
//   y = sum over g of a_scale[m, g] b_scale[n, g] (sum over k in g of (a - a_zero)(b - b_zero))
struct ByteGemm {
  ByteKind kind = ByteKind::kS8;
  int64_t m = 0, n = 0, k = 0;
  const void *a = nullptr;
  int64_t lda = 0;  // elements
  const uint8_t *b = nullptr;
  const float *a_scale = nullptr;  // [M, a_groups]; NULL: ones (16-bit kinds)
  int64_t a_group = 0;             // columns per scale; 0: one group
  const float *b_scale = nullptr;  // [ceil(N / b_rows), b_groups]
  int64_t b_group = 0, b_rows = 1;
  // kS8 only, or NULL. Sums and zeros are per group of b.
  const int32_t *a_zero = nullptr;  // [M]
  const int32_t *a_sum = nullptr;   // [M, b_groups] sums of a's codes; with b_zero
  const int32_t *b_zero = nullptr;  // [N, b_groups]
  const int32_t *b_sum = nullptr;   // [N, b_groups] sums of (b - b_zero); with a_zero
  const float *bias = nullptr;      // [N] or NULL
  void *y = nullptr;
  int64_t ldy = 0;
  Real y_type = Real::kF16;
  float *partial = nullptr;  // [splits, M, N] when splits > 1
  int32_t splits = 1;
  uint32_t sm = 0;        // compute capability: 80, 89, 90; see byte_wgmma_fits
  uint32_t sm_count = 0;  // multiprocessors; 0: not known
};

// Parts that K is cut into, so that few rows still fill `sm_count` multiprocessors; the partial
// sums are added in a fixed order.
inline int32_t byte_splits(int64_t m, int64_t n, int64_t k, uint32_t sm_count) {
  if (m > 64) return 1;
  const int64_t rows = m <= 16 ? 16 : 64;
  const int64_t tiles = (n + kByteTileN - 1) / kByteTileN * ((m + rows - 1) / rows);
  const int64_t depth = byte_pitch(k) / kByteDepth;
  int64_t splits = (2 * static_cast<int64_t>(sm_count == 0 ? 64 : sm_count) + tiles - 1) / tiles;
  if (splits > depth / 8) splits = depth / 8;  // at least 8 stages each
  return static_cast<int32_t>(splits < 1 ? 1 : splits > 16 ? 16 : splits);
}

constexpr int kByteWgmmaRows = 128;   // rows of y per block of byte_wgmma.cuh
constexpr int kByteWgmmaDepth = 128;  // columns of K per stage; scales change at multiples of it

// Whether a product of 8-bit codes goes to byte_wgmma.cuh, where that is linked and built: more
// than 64 rows at compute capability 9.0. What is left to byte_gemm.cuh: scales that change within
// 128 columns of K, e4m3 codes of W whose scales change along K and within 128 rows, and int8 codes
// of x whose scales change along K. Results of int8 are the same to the bit, those of e4m3 are not:
// sums are added in another order.
inline bool byte_wgmma_fits(const ByteGemm &g) {
  const int64_t a_group = g.a_group >= g.k ? 0 : g.a_group,
                b_group = g.b_group >= g.k ? 0 : g.b_group;
  if (g.sm != 90 || g.m <= 64 || g.splits > 1 || a_group % kByteWgmmaDepth != 0 ||
      b_group % kByteWgmmaDepth != 0) {
    return false;
  }
  if (g.kind == ByteKind::kS8) return a_group == 0;
  return g.kind == ByteKind::kE4m3 && (b_group == 0 || g.b_rows % kByteTileN == 0);
}

// Columns of y per tile, 64, 128 or 256: the least time of all rounds over the multiprocessors,
// where a round counts as the bytes that a tile reads, 3 : 4 : 6. Counted, not measured.
inline int byte_wgmma_columns(int64_t m, int64_t n, uint32_t sm_count) {
  const int64_t sms = sm_count == 0 ? 132 : sm_count;
  const int64_t tiles_m = (m + kByteWgmmaRows - 1) / kByteWgmmaRows;
  const auto time = [&](int64_t columns) {
    return (tiles_m * ((n + columns - 1) / columns) + sms - 1) / sms * (columns / 64 + 2);
  };
  const int narrow = time(128) <= time(64) ? 128 : 64;
  return time(256) <= time(narrow) ? 256 : narrow;
}

// ---------------------------------------------------------------- rounding of activations

enum class RoundMode : int32_t {
  kInt8Token = 0,      // s = max|x| / 127, q = clamp(rne(x / s))
  kInt8TokenAsym = 1,  // s = (max(x, 0) - min(x, 0)) / 255, z = clamp(rne(-128 - min / s))
  kInt8Static = 2,     // q = clamp(rne(x / s) + z)
  kFp8Token = 3,       // s = max|x| / 448, q = e4m3(clamp(x / s))
  kFp8Group = 4,       // the same per run of `group` columns
  kFp8Static = 5
};

struct RoundActivations {
  RoundMode mode = RoundMode::kInt8Token;
  int64_t m = 0, k = 0;
  const void *x = nullptr;  // [M, K]
  int64_t ldx = 0;
  Real x_type = Real::kF16;
  int64_t group = 0;         // kFp8Group
  float static_scale = 1;    // k*Static
  int32_t static_zero = 0;   // kInt8Static
  float bound = 0;           // kFp8*: x is clamped to +-bound first; 0: it is not
  bool as_f16 = false;       // write f16 values: of e4m3 codes, of int8 codes less their zero point
  void *codes = nullptr;     // [M, byte_pitch(K)]
  float *scales = nullptr;   // [M], kFp8Group: [M, ceil(K / group)]
  int32_t *zeros = nullptr;  // [M], when a zero point may be other than 0
  int32_t *sums = nullptr;   // [M, ceil(K / sum_group)] sums of int8 codes, or NULL
  int64_t sum_group = 0;     // 0: all of K
};

// ---------------------------------------------------------------- weights of any block format

enum class BlockFormat : int32_t {
  kInt = 0,    // streams of 2..8-bit codes, any groups, any order of columns
  kNf4 = 1,    // 16 values, scales per block of the flattened matrix
  kMxfp4 = 2,  // e2m1, e8m0 per 32
  kNvfp4 = 3,  // e2m1, e4m3 per 16, one divisor
  kGguf = 4,   // blocks of GGUF
  kByte = 5    // int8 rows with scales per group and zero points
};

// Where codes and scales of W lie; which members count depends on the format.
//   kInt    codes: row n is a stream of b-bit codes in words of 32 bits, code_pitch words apart;
//           W = scale[g, n] * (code - zero[g, n]), g = order[k] or (k + k_begin) / group
//   kNf4    codes: element i of the flattened matrix in byte i / 2, upper half first;
//           W = table[code] * scale[i / group]
//   kMxfp4  codes: [N, K / 2], low half first; scale_bytes [N, G]
//   kNvfp4  the same, W = e2m1 * (e4m3 / divisor)
//   kGguf   codes: [N, K / elements] blocks, type = ggml's number
//   kByte   codes: [N, K] int8; W = scale[n, g] * (code - zero[n, g])
struct BlockWeights {
  BlockFormat format = BlockFormat::kInt;
  int64_t n = 0, k = 0;
  const void *codes = nullptr;
  int64_t codes_bytes = 0;  // of the array at codes
  int64_t code_pitch = 0;   // kInt: words between rows
  int32_t bits = 4;         // kInt
  int32_t type = 0;         // kGguf
  const uint8_t *scale_bytes = nullptr;
  const float *scales = nullptr;
  const float *zeros = nullptr;    // kInt, kByte: NULL: `zero` for all
  const int32_t *order = nullptr;  // kInt: [K] group of each column, or NULL
  int64_t group = 0;               // columns (kNf4: elements) per scale
  int64_t groups = 1;              // scales per row
  int64_t k_begin = 0;             // first column's position in its first group
  float zero = 0;
  bool offsets = false;  // kInt: zeros are offsets, W = scale * code + zeros[g, n]
  float divisor = 1;
  const float *table = nullptr;  // kNf4: [16]
};

struct BlockLinear : LinearIo {
  BlockWeights w;
};

// ---------------------------------------------------------------- loading

// Rows of bytes to rows of `pitch` bytes, the rest zero. interleave: in every 16 bytes, byte 4 t +
// i (i < 2) is source byte 2 t + i and byte 4 t + 2 + i is source byte 2 t + 8 + i, the order in
// which the 16-bit kinds of ByteGemm hold B.
struct PackBytes {
  const uint8_t *source = nullptr;
  int64_t rows = 0, row_bytes = 0;
  uint8_t *packed = nullptr;
  int64_t pitch = 0;
  bool interleave = false;
};

// out[n, g] = sum over the columns of group g of (w[n, k] - zero[n, g]).
struct SumBytes {
  const uint8_t *w = nullptr;  // int8 [N, pitch]
  int64_t n = 0, k = 0, pitch = 0;
  int64_t group = 0;              // 0: all of K
  const int32_t *zero = nullptr;  // [N, G] or NULL
  int32_t *out = nullptr;
};

// Codes as a checkpoint stores them to a stream per row, zero beyond K.
struct PackCodes {
  StoredInts stored;
  const void *source = nullptr;
  int64_t source_bytes = 0;
  int64_t n = 0, k = 0;
  uint32_t *packed = nullptr;  // [N, code_pitch(K, b)]
};
inline int64_t code_pitch(int64_t k, int bits) { return (k + 31) / 32 * bits; }

// A table of scales or zero points as a checkpoint stores it to out[g * out_pitch + n], rounded to
// out_type.
struct LoadTable {
  const void *source = nullptr;
  int64_t source_bytes = 0;
  int64_t n = 0, groups = 0;
  void *out = nullptr;
  int64_t out_pitch = 0;  // elements between groups
  Real out_type = Real::kF32;
};
struct LoadReals : LoadTable {
  StoredReals stored;
  Real type = Real::kF16;
};
struct LoadInts : LoadTable {
  StoredInts stored;
  int32_t less = 0;  // subtracted from each
};

// Columns sorted by their group, in order within one. Group g must have `size` columns, the last
// one the rest of K.
struct SortColumns {
  const int32_t *groups = nullptr;  // [K]
  int64_t k = 0, size = 0;
  int32_t *order = nullptr;  // [K] column
};

// One side's launchers. `sm` is the device's compute capability.
struct QuantizedOps {
  // Host bytes into device memory by value, in pieces: for tables made on the host while loading.
  OpError (*upload)(const pluq_exec *exec, const void *source_host, int64_t bytes, void *out);
  OpError (*pack_bytes)(const pluq_exec *exec, const PackBytes &args);
  OpError (*sum_bytes)(const pluq_exec *exec, const SumBytes &args);
  OpError (*pack_codes)(const pluq_exec *exec, const PackCodes &args);
  OpError (*load_reals)(const pluq_exec *exec, const LoadReals &args);
  OpError (*load_ints)(const pluq_exec *exec, const LoadInts &args);
  OpError (*sort_columns)(const pluq_exec *exec, const SortColumns &args);
  OpError (*round)(const pluq_exec *exec, const RoundActivations &args);
  // x of 16 or 32 bits to rows of `out_type` with byte_pitch(K) elements, zero beyond K.
  OpError (*cast)(const pluq_exec *exec, const RoundActivations &args, Real out_type);
  OpError (*byte_gemm)(const pluq_exec *exec, const ByteGemm &args);
  OpError (*block_linear)(const pluq_exec *exec, const BlockLinear &args);
  // These four need the part `weight_only`.
  OpError (*weight_only)(const pluq_exec *exec, const WeightOnly &args);
  OpError (*weight_only_repack)(const pluq_exec *exec, const WeightOnlyRepack &args);
  OpError (*weight_only_dequantize)(const pluq_exec *exec, const WeightOnlyDequantize &args);
  OpError (*gather_columns)(const pluq_exec *exec, const GatherColumns &args);
};

const QuantizedOps &quantized_ops_emulated();
#if defined(PLUQ_HAS_CUDA) && PLUQ_HAS_CUDA
const QuantizedOps &quantized_ops_device();
#endif

}  // namespace cuda
}  // namespace pluq
