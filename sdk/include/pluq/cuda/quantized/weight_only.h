// SPDX-License-Identifier: Apache-2.0
// Integer weights of 4 or 8 bits under 16-bit activations, for the tensor cores: arguments, layout
// and the choice of launch shape. Included by ops.h; no kernel code here.
//
//   y[m, n] = sum over k of x[m, k] * scale[g, n] * (code[n, k] - zero[g, n]) + bias[n],  g = k /
//   group
//
// Layout of the codes: slabs of 16 columns of K and 64 rows of N, slab (s, b) at index s * N / 64 +
// b; a slab is 4 tiles of 16 rows in the order in which the 32 lanes of a warp hold the A operand
// of mma m16n8k16 (W is A, x^T is B), so that a lane reads 16 bytes for 4 bits and twice 16 for 8.
// With g = lane / 4, t = lane % 4, tile j has rows n = 64 b + 16 j + {g, g + 8}, columns k = 16 s +
// {2 t, 2 t + 1, 2 t + 8, 2 t + 9}:
//   4 bits: word j of the lane; nibbles 0 and 4: row g, columns 2 t, 2 t + 1; nibbles 1 and 5: row
//           g, columns 2 t + 8, 2 t + 9; nibbles 2, 6 and 3, 7: row g + 8 in the same way
//   8 bits: half j / 2 holds [32 lanes][4 words]; words 2 (j % 2) and 2 (j % 2) + 1: rows g and g +
//           8, bytes in the order of the columns above
// Scales: [groups, N] of F16 or BF16, with zero points [groups, 2, N]: scales, then zero - 2^(b -
// 1) as values of the same type.
#pragma once

#include <cstdint>

#include "pluq/abi.h"
#include "pluq/stored.hpp"

namespace pluq {
namespace cuda {

constexpr int kWoStage = 64;   // columns of K per pipeline stage
constexpr int kWoTileN = 128;  // rows of N per block
constexpr int kWoThreads = 256;

struct WeightOnly {
  int64_t m = 0, n = 0, k = 0;  // n and k are multiples of 64
  int32_t bits = 4;             // 4 or 8
  int64_t group = 0;            // columns per scale: 16, 32 or a multiple of 64; 0: all
  bool zeros = false;
  const void *codes = nullptr;
  const uint16_t *scales = nullptr;
  bool scales_bf16 = false;
  const void *x = nullptr;  // 16-byte aligned
  int64_t ldx = 0;          // a multiple of 8
  bool bf16 = false;        // type of x
  const float *bias = nullptr;
  void *y = nullptr;
  int64_t ldy = 0;
  int32_t y_type = 0;  // 0: F16, 1: BF16, 2: F32 (pluq::cuda::Real)
  // Blocks that share a tile meet here. counters are zero between calls; one call at a time.
  float *partial = nullptr;     // wo_partial_bytes()
  int32_t *counters = nullptr;  // wo_counters()
  uint32_t sm_count = 0;
  uint32_t sm = 0;  // compute capability: 80, 89, 90; at 90 more than 64 rows take wgmma
};

// Codes as a checkpoint stores them to the layout above; order: column of the checkpoint for each
// column k, or NULL.
struct WeightOnlyRepack {
  StoredInts stored;
  const void *source = nullptr;
  int64_t source_bytes = 0;
  int64_t n = 0, k = 0;
  const int32_t *order = nullptr;  // [K]
  uint32_t *packed = nullptr;      // [n k bits / 32]
};

// out[i, j] = x[i, order[j]]: 16-bit elements, rows of out `k` apart.
struct GatherColumns {
  const uint16_t *x = nullptr;
  int64_t m = 0, k = 0, ldx = 0;
  const int32_t *order = nullptr;
  uint16_t *out = nullptr;
};

// Rows [first, first + count) of W, multiples of 16, in the type of w.bf16: out [count, k].
struct WeightOnlyDequantize {
  WeightOnly w;
  int64_t first = 0, count = 0;
  uint16_t *out = nullptr;
};

// Whether the kernels serve this layer.
inline bool wo_fits(int64_t n, int64_t k, int bits, int64_t group) {
  constexpr int64_t kMost = int64_t{1} << 24;  // stages of all tiles are counted in 32 bits
  return n < kMost && k < kMost && (bits == 4 || bits == 8) && n >= 64 && n % 64 == 0 && k >= 64 && k % 64 == 0 &&
         (group <= 0 || group >= k || group == 16 || group == 32 || group % 64 == 0);
}

// Rows of x per block: the smallest of 8, 16, 32, 64 and 128 that holds M.
inline int wo_tile_m(int64_t m) {
  return m <= 8 ? 8 : m <= 16 ? 16 : m <= 32 ? 32 : m <= 64 ? 64 : 128;
}

constexpr int kWoTiles = 5;
constexpr int wo_tile_index(int rows) {
  return rows == 8 ? 0 : rows == 16 ? 1 : rows == 32 ? 2 : rows == 64 ? 3 : 4;
}

// Blocks of a launch. The (tile, stage of K) pairs are dealt out in equal runs, so a run may end
// inside a tile, whose parts are then added in the order of K.
inline int64_t wo_blocks(int64_t m, int64_t n, int64_t k, uint32_t sm_count) {
  const int tile = wo_tile_m(m);
  const int64_t tiles = (m + tile - 1) / tile * ((n + kWoTileN - 1) / kWoTileN),
                stages = tiles * (k / kWoStage);
  const int64_t resident =
      static_cast<int64_t>(sm_count == 0 ? 64 : sm_count) * (tile == 8 ? 2 : 1);
  constexpr int64_t kFewestStages = 4;
  const int64_t most = (stages + kFewestStages - 1) / kFewestStages;
  return most < resident ? (most < 1 ? 1 : most) : resident;
}
inline int64_t wo_partial_bytes(int64_t m, int64_t n, int64_t k, uint32_t sm_count) {
  return m < 1 ? 0 : wo_blocks(m, n, k, sm_count) * 2 * wo_tile_m(m) * kWoTileN * 4;
}
inline int64_t wo_counters(int64_t m, int64_t n) {
  const int tile = wo_tile_m(m);
  return (m + tile - 1) / tile * ((n + kWoTileN - 1) / kWoTileN);
}

}  // namespace cuda
}  // namespace pluq
