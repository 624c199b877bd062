// SPDX-License-Identifier: Apache-2.0
// The product of 16-bit activations with integer weights (weight_only.h has layout and formula).
//
// A block of 8 warps owns 128 rows of W and kRows rows of x at a time. Weights, x and scales arrive
// by cp.async, several stages of 64 columns ahead; the pipeline runs on across tiles. Codes become
// 16-bit integers by bit tricks (exact), tensor cores multiply them with x in f32, and at the end
// of each group the sums are scaled and added in f32, so scales are never rounded. A zero point is
// taken from the sum of x over the group, which one more product with ones gives.
// The warps of a block split rows of W, rows of x and columns of K; blocks take equal runs of the
// stages of all tiles. Parts of a tile are added in the order of K by whichever block comes last,
// so results do not depend on timing.
//
// With Wgmma (sm_90a, 128 rows of x) a warpgroup owns 64 rows of W: warp j takes tile j of a slab
// as the A operand in registers, and the 128-byte rows of x, whose pieces are swizzled anyway, are
// B in shared memory. Zero points, integers, are subtracted from the codes. All else is the same.
#pragma once

#include "pluq/cuda/cuda.hpp"
#include "pluq/cuda/quantized/ops.h"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

// How 8 warps share a tile of kRows rows of x.
template <int Bits, bool Zeros, int Rows, bool Wgmma>
struct WoShape {
  static_assert(!Wgmma || Rows == 128, "wgmma is for tiles of 128 rows of x");
  static constexpr int kWarpsM = Rows == 128 && !Wgmma ? 2 : 1,
                       kWarpsN = Wgmma        ? 8
                                 : Rows >= 64 ? 4
                                              : 2,
                       kWarpsK = 8 / (kWarpsM * kWarpsN);
  static constexpr int kTilesM = Rows / kWarpsM / 8;       // of 8 rows of x, per warp
  static constexpr int kTilesN = kWoTileN / kWarpsN / 16;  // of 16 rows of W, per warp
  static constexpr int kSlices = 4 / kWarpsK;              // of 16 columns, per warp and stage
  static constexpr int kScaleRows = 4;                     // groups in a stage, at most
  static constexpr uint32_t kXBytes = Rows * kWoStage * 2, kWBytes = Bits * kWoStage * kWoTileN / 8,
                            kScaleBytes = kScaleRows * (Zeros ? 2 : 1) * kWoTileN * 2,
                            kStageBytes = kXBytes + kWBytes + kScaleBytes;
  static constexpr int kStages = Wgmma       ? 5
                                 : Bits == 4 ? (Rows <= 32   ? 6
                                                : Rows == 64 ? 4
                                                             : 3)
                                             : (Rows <= 32   ? 4
                                                : Rows == 64 ? 3
                                                             : 2);
  static constexpr int kSumRows = Rows / kWarpsM, kSumPitch = kWoTileN + 4;
  static constexpr uint32_t kSums = kStages * kStageBytes;
  static constexpr uint32_t kBytes = kSums + kSumRows * kSumPitch * 4;
  static_assert(!Wgmma || kStageBytes % 1024 == 0, "swizzled rows of x begin at 1024 bytes");
  static_assert(kBytes <= (Wgmma ? 227 : 99) * 1024,
                "shared memory of a block of compute capability 9.0, and of 8.6 and 8.9");
};

struct WoArgs {
  int32_t m, n, tiles_m, tiles, stages;  // stages: of one tile
  int32_t group, group_stages;           // group < 64: columns; else stages per group
  int64_t ldx, ldy;
  bool scales_bf16, pairs;  // pairs: two elements of y may be stored at once
  int32_t y_type;
};

template <bool Bf16>
PLUQ_DEVICE void wo_mma(float *c, const uint32_t *a, const uint32_t *b) {
  if constexpr (Bf16) {
    mma_m16n8k16_bf16(c, a, b);
  } else {
    mma_m16n8k16_f16(c, a, b);
  }
}

// Codes of one tile of 16 x 16 less 2^(b - 1), as the A operand. 4 bits: one word, 8 bits: two.
template <int Bits, bool Bf16>
PLUQ_DEVICE void wo_widen(const uint32_t *words, uint32_t *a) {
  if constexpr (Bits == 4 && !Bf16) {
    // 0x6400 is 1024: the low nibble counts ones, the next one sixteens.
    constexpr int kAndOr = (0xf0 & 0xcc) | 0xaa;
    const uint32_t w = words[0], high = w >> 8;
    const uint32_t magic = 0x64006400U, bias = splat16(0x6408), sixteenth = splat16(0x2c00),
                   minus72 = splat16(0xd480);
    a[0] = sub_f16x2(lop3<kAndOr>(w, 0x000f000fU, magic), bias);
    a[2] = fma_f16x2(lop3<kAndOr>(w, 0x00f000f0U, magic), sixteenth, minus72);
    a[1] = sub_f16x2(lop3<kAndOr>(high, 0x000f000fU, magic), bias);
    a[3] = fma_f16x2(lop3<kAndOr>(high, 0x00f000f0U, magic), sixteenth, minus72);
  } else if constexpr (Bits == 4) {
    // 0x4300 is 128, whose last bit counts ones.
    constexpr int kAndOr = (0xf0 & 0xcc) | 0xaa;
    const uint32_t w = words[0], magic = 0x43004300U, bias = splat16(0x4308);
    a[0] = sub_bf16x2(lop3<kAndOr>(w, 0x000f000fU, magic), bias);
    a[2] = sub_bf16x2(lop3<kAndOr>(w >> 4, 0x000f000fU, magic), bias);
    a[1] = sub_bf16x2(lop3<kAndOr>(w >> 8, 0x000f000fU, magic), bias);
    a[3] = sub_bf16x2(lop3<kAndOr>(w >> 12, 0x000f000fU, magic), bias);
  } else {
    const uint32_t magic = 0x64646464U, bias = splat16(0x6480);
    PLUQ_UNROLL
    for (int i = 0; i < 4; ++i) {
      // Bytes 0, 1 or 2, 3 of a word under 0x64: 1024 + code.
      const uint32_t word = words[i & 1];
      const uint32_t two = sub_f16x2(prmt(word, magic, i < 2 ? 0x4140U : 0x4342U), bias);
      if constexpr (Bf16) {
        const f32x2 v = unpack_f16x2(two);
        a[i] = pack_bf16x2(v.v[0], v.v[1]);
      } else {
        a[i] = two;
      }
    }
  }
}

// The block that works on stage i of all stages of all tiles, and the first stage of a block.
PLUQ_DEVICE int32_t wo_block_of(int32_t i, int32_t total, int32_t blocks) {
  return static_cast<int32_t>((static_cast<int64_t>(i + 1) * blocks - 1) / total);
}
PLUQ_DEVICE int32_t wo_first(int32_t block, int32_t total, int32_t blocks) {
  return static_cast<int32_t>(static_cast<int64_t>(total) * block / blocks);
}

template <int Bits, int Rows, bool Zeros, bool Bf16, bool Wgmma>
struct WoBlock {
  using Shape = WoShape<Bits, Zeros, Rows, Wgmma>;
  static constexpr int kTilesM = Shape::kTilesM, kTilesN = Shape::kTilesN;

  const WoArgs &a;
  gmem<const uint16_t> x;
  gmem<const uint32_t> codes;
  gmem<const uint16_t> scales;
  gmem<const float> bias;
  gmem<uint16_t> y16;
  gmem<float> y32;
  gmem<float> partial;
  smem<unsigned char> raw;
  int lane, warp_m, warp_n, warp_k;

  float sums[kTilesN][kTilesM][4], part[kTilesN][kTilesM][4];
  float ones[Zeros ? kTilesM : 1][4];

  PLUQ_DEVICE smem<unsigned char> stage_of(int slot, uint32_t at, uint32_t bytes) const {
    return raw.template view<unsigned char>(static_cast<uint32_t>(slot) * Shape::kStageBytes + at,
                                            bytes);
  }
  // Whether stage kk of a tile needs scales: its group ends there, or this block's run does.
  PLUQ_DEVICE bool ends_group(int kk, bool run_ends) const {
    return a.group_stages == 0 || (kk + 1) % a.group_stages == 0 || kk + 1 == a.stages || run_ends;
  }

  PLUQ_DEVICE void copy(int tile, int kk, bool run_ends, int slot) const {
    const int tile_m = tile % a.tiles_m, tile_n = tile / a.tiles_m;
    const auto to_x =
        stage_of(slot, 0, Shape::kXBytes).template view<uint16_t>(0, Shape::kXBytes / 2);
    for (int i = static_cast<int>(thread_idx().x); i < Rows * 8; i += kWoThreads) {
      const int row = i / 8, chunk = i % 8, m = tile_m * Rows + row;
      const bool some = m < a.m;
      cp_async16(to_x, row * kWoStage + (chunk ^ (row & 7)) * 8, x,
                 (some ? m : 0) * a.ldx + static_cast<int64_t>(kk) * kWoStage + chunk * 8, some);
    }
    // A slab is 32 * Bits / 4 pieces of 16 bytes.
    constexpr int kPieces = 8 * Bits;
    const auto to_w = stage_of(slot, Shape::kXBytes, Shape::kWBytes)
                          .template view<uint32_t>(0, Shape::kWBytes / 4);
    const int slabs = a.n / 64;
    for (int i = static_cast<int>(thread_idx().x); i < 8 * kPieces; i += kWoThreads) {
      const int slice = i / (2 * kPieces), half = i / kPieces % 2, piece = i % kPieces;
      const int slab = tile_n * 2 + half;
      const bool some = slab < slabs;
      const int64_t from =
          (static_cast<int64_t>(kk * 4 + slice) * slabs + (some ? slab : 0)) * kPieces + piece;
      cp_async16(to_w, i * 4, codes, from * 4, some);
    }
    if ((Wgmma && Zeros) || ends_group(kk, run_ends)) {
      constexpr int kKinds = Zeros ? 2 : 1;
      const int rows = a.group_stages == 0 ? kWoStage / a.group : 1;
      const int first = a.group_stages == 0 ? kk * rows : kk / a.group_stages;
      const auto to_s = stage_of(slot, Shape::kXBytes + Shape::kWBytes, Shape::kScaleBytes)
                            .template view<uint16_t>(0, Shape::kScaleBytes / 2);
      for (int i = static_cast<int>(thread_idx().x); i < rows * kKinds * 16; i += kWoThreads) {
        const int row = i / 16, chunk = i % 16, n = tile_n * kWoTileN + chunk * 8;
        const bool some = n < a.n;
        cp_async16(to_s, row * kWoTileN + chunk * 8, scales,
                   static_cast<int64_t>(first * kKinds + row) * a.n + (some ? n : 0), some);
      }
    }
  }

  PLUQ_DEVICE void clear_part() {
    PLUQ_UNROLL
    for (int n = 0; n < kTilesN; ++n) {
      PLUQ_UNROLL
      for (int m = 0; m < kTilesM; ++m) {
        PLUQ_UNROLL
        for (int i = 0; i < 4; ++i) part[n][m][i] = 0;
      }
    }
    if constexpr (Zeros && !Wgmma) {
      PLUQ_UNROLL
      for (int m = 0; m < kTilesM; ++m) {
        PLUQ_UNROLL
        for (int i = 0; i < 4; ++i) ones[m][i] = 0;
      }
    }
  }
  PLUQ_DEVICE void clear_sums() {
    PLUQ_UNROLL
    for (int n = 0; n < kTilesN; ++n) {
      PLUQ_UNROLL
      for (int m = 0; m < kTilesM; ++m) {
        PLUQ_UNROLL
        for (int i = 0; i < 4; ++i) sums[n][m][i] = 0;
      }
    }
  }

  PLUQ_DEVICE float widen_scale(uint16_t v) const {
    return a.scales_bf16 ? bf16_to_f32(v) : f16_to_f32(v);
  }
  // Ends a group: its sums times its scales.
  PLUQ_DEVICE void fold(int slot, int row) {
    const auto s = stage_of(slot, Shape::kXBytes + Shape::kWBytes, Shape::kScaleBytes)
                       .template view<uint16_t>(0, Shape::kScaleBytes / 2);
    constexpr int kKinds = Zeros ? 2 : 1;
    PLUQ_UNROLL
    for (int n = 0; n < kTilesN; ++n) {
      PLUQ_UNROLL
      for (int r = 0; r < 2; ++r) {
        const int at = row * kKinds * kWoTileN + (warp_n * kTilesN + n) * 16 + lane / 4 + 8 * r;
        const float scale = widen_scale(s.load(at));
        float zero = 0;
        if constexpr (Zeros && !Wgmma) zero = widen_scale(s.load(at + kWoTileN));
        PLUQ_UNROLL
        for (int m = 0; m < kTilesM; ++m) {
          PLUQ_UNROLL
          for (int i = 2 * r; i < 2 * r + 2; ++i) {
            float v = part[n][m][i];
            if constexpr (Zeros && !Wgmma) v = fma_f32(-zero, ones[m][i], v);
            sums[n][m][i] = fma_f32(scale, v, sums[n][m][i]);
          }
        }
      }
    }
    clear_part();
  }

  // The products of one stage by wgmma. The widened weights of all slices stay in registers of
  // their own until the products have read them.
  PLUQ_DEVICE void multiply_wgmma(int slot, bool group_ends) {
    const auto from_x =
        stage_of(slot, 0, Shape::kXBytes).template view<uint16_t>(0, Shape::kXBytes / 2);
    const auto from_w = stage_of(slot, Shape::kXBytes, Shape::kWBytes)
                            .template view<uint32_t>(0, Shape::kWBytes / 4);
    const MatrixDesc b = matrix_desc(from_x, 0, Swizzle::k128B, 0, 1024);
    uint32_t wide[4][4];
    const int slab = warp_n / 4, tile = warp_n % 4;
    PLUQ_UNROLL
    for (int slice = 0; slice < 4; ++slice) {
      const int at = (slice * 2 + slab) * 32 * Bits;
      uint32_t words[2];
      if constexpr (Bits == 4) {
        words[0] = from_w.load(at + lane * 4 + tile);
      } else {
        const u32x2 two =
            from_w.template load_as<u32x2>(at + tile / 2 * 128 + lane * 4 + tile % 2 * 2);
        words[0] = two.v[0], words[1] = two.v[1];
      }
      wo_widen<Bits, Bf16>(words, wide[slice]);
      if constexpr (Zeros) subtract_zeros(slot, slice, wide[slice]);
    }
    if (a.group_stages != 0) {
      wgmma_begin();
      PLUQ_UNROLL
      for (int slice = 0; slice < 4; ++slice) wgmma_slice(wide[slice], b, slice);
      wgmma_end();
      if (group_ends) fold(slot, 0);
      return;
    }
    PLUQ_UNROLL
    for (int slice = 0; slice < 4; ++slice) {
      wgmma_begin();
      wgmma_slice(wide[slice], b, slice);
      wgmma_end();
      if ((slice + 1) * 16 % a.group == 0) fold(slot, slice * 16 / a.group);
    }
  }
  // Zero points are integers of the codes' range, so the differences are exact in 16 bits and no
  // sums of x are needed.
  PLUQ_DEVICE void subtract_zeros(int slot, int slice, uint32_t *wide) const {
    const auto s = stage_of(slot, Shape::kXBytes + Shape::kWBytes, Shape::kScaleBytes)
                       .template view<uint16_t>(0, Shape::kScaleBytes / 2);
    const int row = a.group_stages == 0 ? slice * 16 / a.group : 0;
    PLUQ_UNROLL
    for (int r = 0; r < 2; ++r) {
      const float zero =
          widen_scale(s.load((2 * row + 1) * kWoTileN + warp_n * 16 + lane / 4 + 8 * r));
      const uint32_t two = Bf16 ? pack_bf16x2(zero, zero) : pack_f16x2(zero, zero);
      PLUQ_UNROLL
      for (int i = r; i < 4; i += 2)
        wide[i] = Bf16 ? sub_bf16x2(wide[i], two) : sub_f16x2(wide[i], two);
    }
  }
  PLUQ_DEVICE void wgmma_slice(const uint32_t *wide, MatrixDesc b, int slice) {
    const MatrixDesc at = advance(b, static_cast<uint32_t>(slice) * 32);
    if constexpr (Bf16) {
      wgmma_bf16_rs<Rows>(&part[0][0][0], wide, at);
    } else {
      wgmma_f16_rs<Rows>(&part[0][0][0], wide, at);
    }
  }
  PLUQ_DEVICE void wgmma_begin() {
    wgmma_fence_registers<Rows / 2>(&part[0][0][0]);
    wgmma_fence();
  }
  PLUQ_DEVICE void wgmma_end() {
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_fence_registers<Rows / 2>(&part[0][0][0]);
  }

  // The products of one stage.
  PLUQ_DEVICE void multiply(int slot, bool group_ends) {
    const auto from_x =
        stage_of(slot, 0, Shape::kXBytes).template view<uint16_t>(0, Shape::kXBytes / 2);
    const auto from_w = stage_of(slot, Shape::kXBytes, Shape::kWBytes)
                            .template view<uint32_t>(0, Shape::kWBytes / 4);
    PLUQ_UNROLL_N(1)  // more would not fit the registers of the largest tile
    for (int i = 0; i < Shape::kSlices; ++i) {
      const int slice = warp_k * Shape::kSlices + i;
      uint32_t b[kTilesM][2];
      if constexpr (kTilesM == 1) {
        const int row = lane & 7, chunk = 2 * slice + (lane >> 3 & 1);
        ldmatrix_x2(b[0], from_x, row * kWoStage + (chunk ^ row) * 8);
      } else {
        PLUQ_UNROLL
        for (int m = 0; m < kTilesM; m += 2) {
          const int row = warp_m * (kTilesM * 8) + m * 8 + (lane >> 4) * 8 + (lane & 7),
                    chunk = 2 * slice + (lane >> 3 & 1);
          uint32_t four[4];
          ldmatrix_x4(four, from_x, row * kWoStage + (chunk ^ (row & 7)) * 8);
          b[m][0] = four[0], b[m][1] = four[1], b[m + 1][0] = four[2], b[m + 1][1] = four[3];
        }
      }
      // Words of this warp's tiles.
      uint32_t w[kTilesN * Bits / 4];
      const int slab = kTilesN == 4 ? warp_n : warp_n / 2;
      if constexpr (kTilesN == 4) {
        PLUQ_UNROLL
        for (int h = 0; h < Bits / 4; ++h) {
          const u32x4 four = from_w.load16((((slice * 2 + slab) * (Bits / 4) + h) * 32 + lane) * 4);
          PLUQ_UNROLL
          for (int j = 0; j < 4; ++j) w[4 * h + j] = four.v[j];
        }
      } else if constexpr (Bits == 4) {
        const u32x2 two =
            from_w.template load_as<u32x2>(((slice * 2 + slab) * 32 + lane) * 4 + warp_n % 2 * 2);
        w[0] = two.v[0], w[1] = two.v[1];
      } else {
        const u32x4 four = from_w.load16((((slice * 2 + slab) * 2 + warp_n % 2) * 32 + lane) * 4);
        PLUQ_UNROLL
        for (int j = 0; j < 4; ++j) w[j] = four.v[j];
      }
      PLUQ_UNROLL
      for (int n = 0; n < kTilesN; ++n) {
        uint32_t wide[4];
        wo_widen<Bits, Bf16>(w + n * Bits / 4, wide);
        PLUQ_UNROLL
        for (int m = 0; m < kTilesM; ++m) wo_mma<Bf16>(part[n][m], wide, b[m]);
      }
      if constexpr (Zeros) {
        const uint32_t one = Bf16 ? 0x3f803f80U : 0x3c003c00U, all[4] = {one, one, one, one};
        PLUQ_UNROLL
        for (int m = 0; m < kTilesM; ++m) wo_mma<Bf16>(ones[m], all, b[m]);
      }
      if (a.group_stages == 0 && (i + 1 == Shape::kSlices || (slice + 1) * 16 % a.group == 0)) {
        fold(slot, slice * 16 / a.group);
      }
    }
    if (a.group_stages != 0 && group_ends) fold(slot, 0);
  }

  // Sums of the block's warps along K for 64 rows of x (or all), in shared memory.
  PLUQ_DEVICE void collect(int half) const {
    const auto to = raw.template view<float>(Shape::kSums, Shape::kSumRows * Shape::kSumPitch);
    PLUQ_UNROLL
    for (int w = 0; w < Shape::kWarpsK; ++w) {
      if (warp_k == w && warp_m == half) {
        PLUQ_UNROLL
        for (int n = 0; n < kTilesN; ++n) {
          PLUQ_UNROLL
          for (int m = 0; m < kTilesM; ++m) {
            PLUQ_UNROLL
            for (int i = 0; i < 4; ++i) {
              const int at = (m * 8 + 2 * (lane % 4) + (i & 1)) * Shape::kSumPitch +
                             (warp_n * kTilesN + n) * 16 + lane / 4 + (i >= 2 ? 8 : 0);
              to.store(at, w == 0 ? sums[n][m][i] : to.load(at) + sums[n][m][i]);
            }
          }
        }
      }
      sync_threads();
    }
  }

  PLUQ_DEVICE void store(int m, int n, float v, float w) const {
    if (m >= a.m || n >= a.n) return;
    if (bias) v += bias.load(n), w += bias.load(n + 1);
    const int64_t at = m * a.ldy + n;
    if (a.y_type == 2) {
      if (a.pairs) {
        y32.template store_as<f32x2>(at, f32x2{{v, w}});
      } else {
        y32.store(at, v);
        y32.store(at + 1, w);
      }
      return;
    }
    const uint32_t two = a.y_type == 1 ? pack_bf16x2(v, w) : pack_f16x2(v, w);
    if (a.pairs) {
      y16.template store_as<uint32_t>(at, two);
    } else {
      y16.store(at, static_cast<uint16_t>(two));
      y16.store(at + 1, static_cast<uint16_t>(two >> 16));
    }
  }
};

template <int Bits, int Rows, bool Zeros, bool Bf16, bool Wgmma>
PLUQ_KERNEL(kWoThreads, Rows == 8 ? 2 : 1)
void weight_only_kernel(WoArgs a, gmem<const uint16_t> x, gmem<const uint32_t> codes,
                        gmem<const uint16_t> scales, gmem<const float> bias, gmem<uint16_t> y16,
                        gmem<float> y32, gmem<float> partial, gmem<int32_t> counters) {
  using Block = WoBlock<Bits, Rows, Zeros, Bf16, Wgmma>;
  using Shape = typename Block::Shape;
  constexpr int kStages = Shape::kStages;
  PLUQ_DYNAMIC_SMEM(raw);
  const int warp = static_cast<int>(warp_id());
  Block block{a,
              x,
              codes,
              scales,
              bias,
              y16,
              y32,
              partial,
              raw,
              static_cast<int>(lane_id()),
              warp % Shape::kWarpsM,
              warp / Shape::kWarpsM % Shape::kWarpsN,
              warp / (Shape::kWarpsM * Shape::kWarpsN),
              {},
              {},
              {}};
  const int total = a.tiles * a.stages, blocks = static_cast<int>(grid_dim().x),
            self = static_cast<int>(block_idx().x);
  const int first = wo_first(self, total, blocks), end = wo_first(self + 1, total, blocks);
  const int first_tile = first / a.stages;
  int copy_tile = first_tile, copy_kk = first % a.stages;
  int copied = first;
  const auto copy_next = [&](int slot) {
    if (copied < end) {
      block.copy(copy_tile, copy_kk, copied + 1 == end, slot);
      if (++copy_kk == a.stages) copy_kk = 0, ++copy_tile;
    }
    ++copied;
    cp_async_commit();
  };
  for (int s = 0; s < kStages - 1; ++s) copy_next(s);

  int tile = first_tile, kk = first % a.stages, slot = 0;
  int begin_kk = kk;
  block.clear_sums();
  block.clear_part();
  for (int i = first; i < end; ++i) {
    cp_async_wait<kStages - 2>();
    if constexpr (Wgmma) fence_async_proxy();
    sync_threads();
    copy_next(slot == 0 ? kStages - 1 : slot - 1);
    const bool run_ends = i + 1 == end;
    if constexpr (Wgmma) {
      block.multiply_wgmma(slot, block.ends_group(kk, run_ends));
    } else {
      block.multiply(slot, block.ends_group(kk, run_ends));
    }
    if (++slot == kStages) slot = 0;
    if (++kk < a.stages && !run_ends) continue;

    // A tile or this block's part of it is done.
    const bool whole = begin_kk == 0 && kk == a.stages;
    const int tile_m = tile % a.tiles_m, tile_n = tile / a.tiles_m;
    const int64_t own =
        static_cast<int64_t>(self * 2 + (tile == first_tile ? 0 : 1)) * Rows * kWoTileN;
    PLUQ_UNROLL
    for (int half = 0; half < Shape::kWarpsM; ++half) {
      block.collect(half);
      const auto from = raw.view<float>(Shape::kSums, Shape::kSumRows * Shape::kSumPitch);
      for (int j = static_cast<int>(thread_idx().x); j < Shape::kSumRows * kWoTileN / 2;
           j += kWoThreads) {
        const int row = j / (kWoTileN / 2), column = j % (kWoTileN / 2) * 2;
        const f32x2 v = from.template load_as<f32x2>(row * Shape::kSumPitch + column);
        const int m = half * 64 + row;
        if (whole) {
          block.store(tile_m * Rows + m, tile_n * kWoTileN + column, v.v[0], v.v[1]);
        } else {
          partial.template store_as<f32x2>(own + m * kWoTileN + column, v);
        }
      }
      sync_threads();
    }
    if (!whole) {
      const int tile_first = tile * a.stages;
      const int low = wo_block_of(tile_first, total, blocks),
                high = wo_block_of(tile_first + a.stages - 1, total, blocks);
      const auto last = raw.view<int32_t>(Shape::kSums, 1);
      thread_fence();
      sync_threads();
      if (thread_idx().x == 0) last.store(0, atomic_add(counters, tile, 1) == high - low ? 1 : 0);
      sync_threads();
      if (last.load(0) != 0) {
        thread_fence();
        for (int j = static_cast<int>(thread_idx().x); j < Rows * kWoTileN / 2; j += kWoThreads) {
          const int row = j / (kWoTileN / 2), column = j % (kWoTileN / 2) * 2;
          float v = 0, w = 0;
          for (int b = low; b <= high; ++b) {
            const bool starts_here = wo_first(b, total, blocks) / a.stages == tile;
            const f32x2 p = partial.template load_cg<f32x2>(
                static_cast<int64_t>(b * 2 + (starts_here ? 0 : 1)) * Rows * kWoTileN +
                row * kWoTileN + column);
            v += p.v[0];
            w += p.v[1];
          }
          block.store(tile_m * Rows + row, tile_n * kWoTileN + column, v, w);
        }
        if (thread_idx().x == 0) counters.store(tile, 0);
      }
      sync_threads();
    }
    if (run_ends) break;
    kk = begin_kk = 0;
    ++tile;
    block.clear_sums();
  }
  cp_async_wait_all();
}

template <int Bits, int Rows, bool Zeros, bool Bf16, bool Wgmma = false>
LaunchError launch_weight_only(const pluq_exec *exec, const WeightOnly &w) {
  WoArgs a{};
  a.m = static_cast<int32_t>(w.m), a.n = static_cast<int32_t>(w.n);
  a.tiles_m = static_cast<int32_t>((w.m + Rows - 1) / Rows);
  a.tiles = a.tiles_m * static_cast<int32_t>((w.n + kWoTileN - 1) / kWoTileN);
  a.stages = static_cast<int32_t>(w.k / kWoStage);
  const int64_t group = w.group <= 0 || w.group >= w.k ? w.k : w.group;
  a.group = static_cast<int32_t>(group);
  a.group_stages = group < kWoStage ? 0 : static_cast<int32_t>(group / kWoStage);
  a.ldx = w.ldx, a.ldy = w.ldy;
  a.scales_bf16 = w.scales_bf16;
  a.y_type = w.y_type;
  const uintptr_t unit = w.y_type == 2 ? 8 : 4;
  a.pairs = w.ldy % 2 == 0 && reinterpret_cast<uintptr_t>(w.y) % unit == 0;
  const int64_t blocks = wo_blocks(w.m, w.n, w.k, w.sm_count),
                groups = (w.k + group - 1) / group * (Zeros ? 2 : 1);
  LaunchShape shape;
  shape.grid = {static_cast<uint32_t>(blocks), 1, 1};
  shape.threads = kWoThreads;
  shape.smem_bytes = WoShape<Bits, Zeros, Rows, Wgmma>::kBytes;
  shape.name = "weight_only_kernel";
  const bool wide = w.y_type == 2;
  return launch(&weight_only_kernel<Bits, Rows, Zeros, Bf16, Wgmma>, shape, Stream(exec), a,
                gmem<const uint16_t>(static_cast<const uint16_t *>(w.x)),
                gmem<const uint32_t>(static_cast<const uint32_t *>(w.codes), w.n * w.k * Bits / 32),
                gmem<const uint16_t>(w.scales, groups * w.n), gmem<const float>(w.bias, w.n),
                gmem<uint16_t>(wide ? nullptr : static_cast<uint16_t *>(w.y)),
                gmem<float>(wide ? static_cast<float *>(w.y) : nullptr),
                gmem<float>(w.partial, blocks * 2 * Rows * kWoTileN),
                gmem<int32_t>(w.counters, a.tiles));
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
