// SPDX-License-Identifier: Apache-2.0
// y[M, N] = x[M, K] W[N, K]^T of 8-bit codes by wgmma: int8 x int8 in s32, e4m3 x e4m3 in f32, for
// more than 64 rows of x on sm_90a (ops.h: byte_wgmma_fits). Arguments, layouts and formula are
// those of byte_gemm.cuh; nothing is repacked.
//
// A block makes tiles of 128 x kBn of y, one after another. A stage holds 128 columns of K, A
// [128][128] and B [kBn][128] bytes, as wgmma reads them (Swizzle::k128B). Warpgroup 2 copies
// stages ahead with cp.async, across tiles; warpgroups 0 and 1 multiply 64 rows of x each. They
// meet at two mbarriers per stage, "full" and "empty", and not with each other: while one scales
// its sums the other one's products keep the tensor cores busy.
//
// e4m3: PTX leaves the precision of sums of e4m3 products open, and the tensor cores of sm_90 keep
// fewer bits than f32, which costs more the longer K is. So their sums cover 128 columns only and
// are then added to `total` in f32, times the scales that change along K; the other scales follow
// at the end. The order of sums differs from that of byte_gemm.cuh, so bits may differ.
// int8: exact, zero points and scales as in byte_gemm.cuh, with equal bits. kRuns: scales of W
// change along K; then tiles have 128 columns, otherwise 64, 128 or 256 (byte_wgmma_columns).
#pragma once

#include "pluq/cuda/quantized/byte_gemm.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

constexpr int kByteWgmmaThreads = 384;  // two warpgroups that multiply, one that copies

struct ByteWgmmaShape {
  ByteShape s;
  int32_t tiles_m, tiles_n, stages;  // stages: of one tile
  int32_t a_run, b_run;              // stages per scale; 0: one scale for all of K
  bool fast;                         // y may be stored 8 elements of 16 bits or 2 of f32 at once
};

// The tensors of one call; as in byte_gemm_kernel.
struct ByteTensors {
  gmem<const uint8_t> a, b;
  gmem<const float> a_scale, b_scale;
  gmem<const int32_t> a_zero, a_sum, b_zero, b_sum;
  gmem<const float> bias;
  gmem<uint8_t> y;
};

template <ByteKind kind, int kBn, bool kRuns>
struct ByteWgmma {
  static_assert(kind == ByteKind::kS8 || kind == ByteKind::kE4m3, "codes of 8 bits on both sides");
  using Sum = typename ByteTraits<kind>::Sum;
  static constexpr bool kInt8 = kind == ByteKind::kS8;
  static constexpr bool kPromotes = !kInt8 || kRuns;
  // Columns of one wgmma. Where sums are promoted there are registers for sums of 128 columns only.
  static constexpr int kPart = kPromotes && kBn > 128 ? 128 : kBn, kParts = kBn / kPart;
  static constexpr int kSums = kPart / 2;  // of a thread
  static constexpr int kStages = kBn == 256 ? 4 : kBn == 128 ? 6 : 8;
  static constexpr int kLag = kStages / 2;  // stages in flight; the others are ready or in use
  static constexpr uint32_t kABytes = kByteWgmmaRows * kByteWgmmaDepth,
                            kBBytes = kBn * kByteWgmmaDepth, kStageBytes = kABytes + kBBytes;
  static constexpr uint32_t kBars = kStages * kStageBytes;  // full [kStages], empty [kStages]
  // What belongs to the columns of the tile, for each warpgroup that multiplies: [kBn] scale and
  // bias, and for int8 [kBn] zero point and sum of W's codes.
  static constexpr uint32_t kColumns = kBars + 2 * kStages * 8,
                            kColumnBytes = kBn * (kInt8 ? 16 : 8);
  static constexpr uint32_t kBytes = kColumns + 2 * kColumnBytes;
  static_assert(kBytes <= 227 * 1024, "shared memory of a block on sm_90");
};

// Which tile comes as the index-th: runs of up to 16 tiles down M, so that the blocks at work
// share a few columns of W, which then come from memory once, and 2048 rows of x, which stay in L2.
PLUQ_DEVICE void byte_wgmma_place(const ByteWgmmaShape &w, int index, int &tile_m, int &tile_n) {
  constexpr int kRun = 16;
  const int first = index / (kRun * w.tiles_n) * kRun, in_run = index % (kRun * w.tiles_n);
  const int rows = w.tiles_m - first < kRun ? w.tiles_m - first : kRun;
  tile_m = first + in_run % rows;
  tile_n = in_run / rows;
}

// Lanes 4 i to 4 i + 3 hold 4 words each; then lane 4 i + j holds word j of each, in their order.
PLUQ_DEVICE void transpose_quads(uint32_t *words, int lane) {
  PLUQ_UNROLL
  for (int step = 1; step <= 2; ++step) {  // words and lanes that differ in this bit of their index
    const bool upper = (lane & step) != 0;
    PLUQ_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int low = step == 1 ? 2 * i : i, high = low + step;
      const uint32_t got = shfl_xor(upper ? words[low] : words[high], step);
      words[low] = upper ? got : words[low];
      words[high] = upper ? words[high] : got;
    }
  }
}

// Warpgroup 2: the copies of all stages of all tiles of this block.
template <class Shape>
PLUQ_DEVICE void byte_wgmma_copy(const ByteWgmmaShape &w, const ByteTensors &t,
                                 smem<unsigned char> arena, int kBn) {
  const auto bars = arena.template view<uint64_t>(Shape::kBars, 2 * Shape::kStages);
  const int thread = static_cast<int>(thread_idx().x) - 256, chunk = thread % 8, row = thread / 8;
  // 16 rows further down a chunk keeps its place in the swizzled row.
  const int at =
      static_cast<int>(swizzled_128b(static_cast<uint32_t>(row), static_cast<uint32_t>(chunk)));
  int slot = 0, full = 0;  // slot to fill, and the next one to be announced
  uint32_t parity = 1;     // of the phase of `empty` that must be over: none in the first round
  int begun = 0;
  // The copies of slot `full` have arrived. They were written by the generic proxy and wgmma reads
  // through the async proxy: every thread fences its own before its warp arrives.
  const auto announce = [&] {
    fence_async_proxy();
    sync_warp();
    if (lane_id() == 0) mbar_arrive(bars, full);
    if (++full == Shape::kStages) full = 0;
  };
  const int tiles = w.tiles_m * w.tiles_n;
  for (int tile = static_cast<int>(block_idx().x); tile < tiles;
       tile += static_cast<int>(grid_dim().x)) {
    int tile_m, tile_n;
    byte_wgmma_place(w, tile, tile_m, tile_n);
    const int m0 = tile_m * kByteWgmmaRows + row, n0 = tile_n * kBn + row;
    for (int kt = 0; kt < w.stages; ++kt) {
      mbar_wait(bars, Shape::kStages + slot, parity);
      const uint32_t stage = static_cast<uint32_t>(slot) * Shape::kStageBytes;
      const auto to_a = arena.template view<uint8_t>(stage, Shape::kABytes);
      const auto to_b = arena.template view<uint8_t>(stage + Shape::kABytes, Shape::kBBytes);
      const int64_t column = static_cast<int64_t>(kt) * kByteWgmmaDepth + chunk * 16;
      const bool some = column < w.s.ldb;  // the last stage may be half as deep
      int64_t from = m0 * w.s.lda + column;
      PLUQ_UNROLL
      for (int i = 0; i < kByteWgmmaRows / 16; ++i) {
        const bool valid = some && m0 + 16 * i < static_cast<int>(w.s.m);
        cp_async16(to_a, at + 2048 * i, t.a, valid ? from : 0, valid);
        from += 16 * w.s.lda;
      }
      from = n0 * w.s.ldb + column;
      PLUQ_UNROLL_N(8)  // these warps have few registers
      for (int i = 0; i < static_cast<int>(Shape::kBBytes) / 2048; ++i) {
        const bool valid = some && n0 + 16 * i < static_cast<int>(w.s.n);
        cp_async16(to_b, at + 2048 * i, t.b, valid ? from : 0, valid);
        from += 16 * w.s.ldb;
      }
      cp_async_commit();
      if (begun >= Shape::kLag) {
        cp_async_wait<Shape::kLag>();
        announce();
      } else {
        ++begun;
      }
      if (++slot == Shape::kStages) slot = 0, parity ^= 1;
    }
  }
  cp_async_wait<0>();
  for (int i = 0; i < begun; ++i) announce();
}

// A warpgroup's 64 rows of a tile of y: thread t of warp w holds rows 16 w + t / 4 + {0, 8} and,
// of every 8 columns, 2 (t % 4) and the next (PTX ISA 9.7.15.5.1, D of wgmma).
template <ByteKind kind, int kBn, bool kRuns>
struct ByteWgmmaTile {
  using Shape = ByteWgmma<kind, kBn, kRuns>;
  using Sum = typename Shape::Sum;
  static constexpr int kSums = Shape::kSums, kParts = Shape::kParts;
  static constexpr bool kPromotes = Shape::kPromotes;

  const ByteWgmmaShape &w;
  const ByteTensors &t;
  smem<unsigned char> arena;
  int group, lane;           // warpgroup 0 or 1
  int rows[2];               // of this thread
  int first_column, column;  // of the tile, and of this thread
  Sum sum[kSums];
  float total[kPromotes ? kParts : 1][kPromotes ? kSums : 1];

  PLUQ_DEVICE void begin(int tile_m, int tile_n) {
    const int row = tile_m * kByteWgmmaRows + group * 64 + static_cast<int>(warp_id()) % 4 * 16;
    rows[0] = row + lane / 4;
    rows[1] = rows[0] + 8;
    first_column = tile_n * kBn;
    column = first_column + 2 * (lane % 4);
    PLUQ_UNROLL
    for (int i = 0; i < kSums; ++i) sum[i] = 0;
    if constexpr (kPromotes) {
      PLUQ_UNROLL
      for (int p = 0; p < kParts; ++p) {
        PLUQ_UNROLL
        for (int i = 0; i < kSums; ++i) total[p][i] = 0;
      }
    }
  }

  PLUQ_DEVICE bool has_row(int half) const { return rows[half] < static_cast<int>(w.s.m); }
  PLUQ_DEVICE bool has_column(int col) const { return col < static_cast<int>(w.s.n); }

  // Issues the products of 128 columns of K. The fences: the first one keeps the compiler from
  // moving accesses to `sum` past this point; the second one orders them before the products.
  PLUQ_DEVICE void multiply(int slot, int part, bool accumulate) {
    const uint32_t stage = static_cast<uint32_t>(slot) * Shape::kStageBytes;
    const auto from_a = arena.template view<uint8_t>(stage, Shape::kABytes);
    const auto from_b = arena.template view<uint8_t>(stage + Shape::kABytes, Shape::kBBytes);
    const MatrixDesc a = matrix_desc(from_a, group * 64 * kByteWgmmaDepth, Swizzle::k128B, 0, 1024);
    const MatrixDesc b =
        matrix_desc(from_b, part * Shape::kPart * kByteWgmmaDepth, Swizzle::k128B, 0, 1024);
    wgmma_fence_registers<kSums>(sum);
    wgmma_fence();
    PLUQ_UNROLL
    for (int k = 0; k < kByteWgmmaDepth / 32; ++k) {
      const uint32_t bytes = static_cast<uint32_t>(k) * 32;
      if constexpr (Shape::kInt8) {
        wgmma_s8<Shape::kPart>(sum, advance(a, bytes), advance(b, bytes), accumulate || k > 0);
      } else {
        wgmma_e4m3<Shape::kPart>(sum, advance(a, bytes), advance(b, bytes), accumulate || k > 0);
      }
    }
    wgmma_commit();
  }
  // Waits until `sum` may be read and the stages of all but the last `pending` calls of multiply
  // overwritten.
  template <int pending>
  PLUQ_DEVICE void wait() {
    wgmma_wait<pending>();
    if constexpr (pending == 0) wgmma_fence_registers<kSums>(sum);
  }
  // Called while the first products of a tile are formed.
  PLUQ_DEVICE void begin_columns() const {
    sync_group();  // the store of the tile before is over
    load_columns(0);
  }
  // Each warp waits for its own products only, so each arrives at `empty`.
  PLUQ_DEVICE void release(int slot) const {
    sync_warp();
    if (lane == 0) {
      mbar_arrive(arena.template view<uint64_t>(Shape::kBars, 2 * Shape::kStages),
                  Shape::kStages + slot);
    }
  }

  // ---- e4m3

  // Where the scales that change along K are in the present stage; negative, however often it is
  // counted up: there is none.
  static constexpr int kNone = -(1 << 30);
  int row_at[2], part_at[kParts];
  int a_in, b_in;  // stages of the present run that are done
  PLUQ_DEVICE void begin_scales() {
    PLUQ_UNROLL
    for (int half = 0; half < 2; ++half) {
      row_at[half] = w.a_run != 0 && t.a_scale && has_row(half) ? rows[half] * w.s.a_groups : kNone;
    }
    PLUQ_UNROLL
    for (int p = 0; p < kParts; ++p) {  // b_rows is a multiple of 128 where b_run is not 0
      const int col = column + p * Shape::kPart;
      part_at[p] = w.b_run != 0 && has_column(col)
                       ? col / static_cast<int>(w.s.b_rows) * w.s.b_groups
                       : kNone;
    }
    a_in = b_in = 0;
  }
  PLUQ_DEVICE void next_scales() {
    if (++a_in == w.a_run) {
      a_in = 0;
      ++row_at[0], ++row_at[1];
    }
    if (++b_in == w.b_run) {
      b_in = 0;
      PLUQ_UNROLL
      for (int p = 0; p < kParts; ++p) ++part_at[p];
    }
  }
  PLUQ_DEVICE void stage_e4m3(int slot, bool first) {
    float scale[2];
    PLUQ_UNROLL
    for (int p = 0; p < kParts; ++p) {
      multiply(slot, p, false);
      if (p == 0 && first) begin_columns();
      // Loaded while the products are formed.
      if (p == 0) {
        scale[0] = row_at[0] < 0 ? 1.0F : t.a_scale.load(row_at[0]);
        scale[1] = row_at[1] < 0 ? 1.0F : t.a_scale.load(row_at[1]);
      }
      const float of_part = part_at[p] < 0 ? 1.0F : t.b_scale.load(part_at[p]);
      const float low = scale[0] * of_part, high = scale[1] * of_part;
      wait<0>();
      if (p + 1 == kParts) release(slot);
      PLUQ_UNROLL
      for (int i = 0; i < kSums; ++i) total[p][i] += sum[i] * ((i & 2) == 0 ? low : high);
    }
    next_scales();
  }

  // ---- rows and columns of y

  PLUQ_DEVICE smem<f32x2> scales() const {
    return arena.template view<f32x2>(
        Shape::kColumns + static_cast<uint32_t>(group) * Shape::kColumnBytes, kBn);
  }
  PLUQ_DEVICE smem<u32x2> zeros() const {
    return arena.template view<u32x2>(
        Shape::kColumns + static_cast<uint32_t>(group) * Shape::kColumnBytes + kBn * 8, kBn);
  }
  PLUQ_DEVICE void sync_group() const { named_sync(1 + group, 128); }
  // Writes what belongs to the columns of the tile in group gb of W. A sync_group before keeps
  // those that others still read, one after it lets others read. Scales that change along K are
  // not here for e4m3.
  PLUQ_DEVICE void load_columns(int gb) const {
    const int per_scale = static_cast<int>(w.s.b_rows);
    PLUQ_UNROLL_N(1)  // the sums leave few registers
    for (int i = static_cast<int>(thread_idx().x) % 128; i < kBn; i += 128) {
      const int col = first_column + i;
      const bool some = has_column(col);
      float scale = 1.0F;
      if (some && (Shape::kInt8 || w.b_run == 0))
        scale = t.b_scale.load((per_scale == 1 ? col : col / per_scale) * w.s.b_groups + gb);
      scales().store(i, f32x2{{scale, some && t.bias ? t.bias.load(col) : 0.0F}});
      if constexpr (Shape::kInt8) {
        const int at = col * w.s.b_groups + gb;
        const int32_t zero = some && t.b_zero ? t.b_zero.load(at) : 0,
                      sum_of_codes = some && t.b_sum ? t.b_sum.load(at) : 0;
        zeros().store(i, u32x2{{static_cast<uint32_t>(zero), static_cast<uint32_t>(sum_of_codes)}});
      }
    }
  }
  // Scale, zero point and sum of codes of a row of x, for group gb of W.
  struct OfRow {
    float scale;
    int32_t zero, sum;
  };
  PLUQ_DEVICE OfRow of_row(int half, int gb) const {
    if (!has_row(half)) return {0.0F, 0, 0};
    return {t.a_scale && w.a_run == 0 ? t.a_scale.load(rows[half]) : 1.0F,
            t.a_zero ? t.a_zero.load(rows[half]) : 0,
            t.b_zero ? t.a_sum.load(rows[half] * w.s.b_groups + gb) : 0};
  }

  // int8: sums i to i + 3 of this thread, two columns of each of its rows, as f32: zero points
  // taken off, not scaled yet.
  PLUQ_DEVICE void without_zeros(int i, const OfRow *row, float (*v)[2]) const {
    if (!t.b_zero && !t.a_zero) {
      PLUQ_UNROLL
      for (int e = 0; e < 4; ++e) v[e / 2][e % 2] = static_cast<float>(sum[i + e]);
      return;
    }
    const u32x4 of = zeros().template load_as<u32x4>(local(0, i));
    PLUQ_UNROLL
    for (int e = 0; e < 4; ++e) {
      const auto zero = static_cast<int32_t>(of.v[e % 2 * 2]),
                 of_codes = static_cast<int32_t>(of.v[e % 2 * 2 + 1]);
      v[e / 2][e % 2] = static_cast<float>(static_cast<int64_t>(sum[i + e]) -
                                           static_cast<int64_t>(zero) * row[e / 2].sum -
                                           static_cast<int64_t>(row[e / 2].zero) * of_codes);
    }
  }
  // int8: the sums of a run that ends, times its scales.
  PLUQ_DEVICE void end_run(int gb) {
    sync_group();
    load_columns(gb);
    sync_group();
    const OfRow row[2] = {of_row(0, gb), of_row(1, gb)};
    PLUQ_UNROLL
    for (int i = 0; i < kSums; i += 4) {
      const f32x4 of = scales().template load_as<f32x4>(local(0, i));
      float v[2][2];
      without_zeros(i, row, v);
      PLUQ_UNROLL
      for (int e = 0; e < 4; ++e)
        total[0][i + e] += v[e / 2][e % 2] * (row[e / 2].scale * of.v[e % 2 * 2]);
    }
  }

  // ---- y

  // y in the two columns of sums i to i + 3 of a part, for both rows of this thread.
  PLUQ_DEVICE void values(int part, int i, const OfRow *row, float (*v)[2]) const {
    const f32x4 of = scales().template load_as<f32x4>(local(part, i));
    if constexpr (!Shape::kPromotes) without_zeros(i, row, v);
    PLUQ_UNROLL
    for (int e = 0; e < 4; ++e) {
      const float scale = row[e / 2].scale * of.v[e % 2 * 2], bias = of.v[e % 2 * 2 + 1];
      float &y = v[e / 2][e % 2];
      if constexpr (!Shape::kInt8) {
        y = total[part][i + e] * scale + bias;
      } else if constexpr (kRuns) {
        y = total[part][i + e] + bias;
      } else {
        float all = 0.0F;  // as a sum of one run: no negative zeros
        all += y * scale;
        y = all + bias;
      }
    }
  }
  PLUQ_DEVICE void store() const {
    const OfRow row[2] = {of_row(0, 0), of_row(1, 0)};
    sync_group();
    if (w.fast && w.s.y_type != static_cast<int32_t>(Real::kF32)) {
      PLUQ_UNROLL
      for (int p = 0; p < kParts; ++p) {
        PLUQ_UNROLL
        for (int i = 0; i < kSums; i += 16) store_chunks(p, i, row);
      }
    } else {
      PLUQ_UNROLL
      for (int p = 0; p < kParts; ++p) {
        PLUQ_UNROLL
        for (int i = 0; i < kSums; i += 4) store_pairs(p, i, row);
      }
    }
  }
  // Of this thread: the first of the columns of sums i to i + 3, in the tile.
  PLUQ_DEVICE int local(int part, int i) const {
    return column - first_column + part * Shape::kPart + 2 * i;
  }
  // 32 columns of both rows, of which each of 4 lanes has two of every 8. All lanes take part.
  PLUQ_DEVICE void store_chunks(int p, int i, const OfRow *row) const {
    uint32_t words[2][4];
    PLUQ_UNROLL
    for (int b = 0; b < 4; ++b) {
      float v[2][2];
      values(p, i + 4 * b, row, v);
      PLUQ_UNROLL
      for (int half = 0; half < 2; ++half) {
        words[half][b] = w.s.y_type == static_cast<int32_t>(Real::kF16)
                             ? pack_f16x2(v[half][0], v[half][1])
                             : pack_bf16x2(v[half][0], v[half][1]);
      }
    }
    const int col = first_column + local(p, i) + 6 * (lane % 4);
    PLUQ_UNROLL
    for (int half = 0; half < 2; ++half) {
      transpose_quads(words[half], lane);
      if (!has_row(half) || !has_column(col)) continue;
      t.y.template as<uint16_t>().template store_as<u32x4>(
          rows[half] * w.s.ldy + col,
          u32x4{{words[half][0], words[half][1], words[half][2], words[half][3]}});
    }
  }
  PLUQ_DEVICE void store_pairs(int p, int i, const OfRow *row) const {
    float v[2][2];
    values(p, i, row, v);
    const int col = first_column + local(p, i);
    PLUQ_UNROLL
    for (int half = 0; half < 2; ++half) {
      if (!has_row(half)) continue;
      const int64_t at = rows[half] * w.s.ldy + col;
      if (w.fast) {  // f32
        if (has_column(col)) store_real_pair(t.y, w.s.y_type, at, v[half][0], v[half][1]);
      } else {
        if (has_column(col)) store_real(t.y, w.s.y_type, at, v[half][0]);
        if (has_column(col + 1)) store_real(t.y, w.s.y_type, at + 1, v[half][1]);
      }
    }
  }
};

// Warpgroups 0 and 1: all tiles of this block.
template <class Tile>
PLUQ_DEVICE void byte_wgmma_multiply(Tile &tile) {
  using Shape = typename Tile::Shape;
  const ByteWgmmaShape &w = tile.w;
  const auto bars = tile.arena.template view<uint64_t>(Shape::kBars, 2 * Shape::kStages);
  const int tiles = w.tiles_m * w.tiles_n;
  int slot = 0;
  uint32_t parity = 0;
  for (int index = static_cast<int>(block_idx().x); index < tiles;
       index += static_cast<int>(grid_dim().x)) {
    int tile_m, tile_n;
    byte_wgmma_place(w, index, tile_m, tile_n);
    tile.begin(tile_m, tile_n);
    if constexpr (!Shape::kInt8) tile.begin_scales();
    for (int kt = 0; kt < w.stages; ++kt) {
      mbar_wait(bars, slot, parity);
      if constexpr (!Shape::kInt8) {
        tile.stage_e4m3(slot, kt == 0);
      } else if constexpr (Shape::kPromotes) {
        const bool ends = (kt + 1) % w.b_run == 0 || kt + 1 == w.stages;
        tile.multiply(slot, 0, kt % w.b_run != 0);
        tile.template wait<0>();
        tile.release(slot);
        if (ends) tile.end_run(kt / w.b_run);  // leaves the columns' biases for the store
      } else {
        // The products of one stage go on while those of the next are issued.
        tile.multiply(slot, 0, kt > 0);
        if (kt == 0) tile.begin_columns();
        tile.template wait<1>();
        if (kt > 0) tile.release(slot == 0 ? Shape::kStages - 1 : slot - 1);
      }
      if (++slot == Shape::kStages) slot = 0, parity ^= 1;
    }
    if constexpr (!Shape::kPromotes) {
      tile.template wait<0>();
      tile.release(slot == 0 ? Shape::kStages - 1 : slot - 1);
    }
    tile.store();
  }
}

template <ByteKind kind, int kBn, bool kRuns>
PLUQ_KERNEL(kByteWgmmaThreads, 1)
void byte_wgmma_kernel(gmem<const uint8_t> a, gmem<const uint8_t> b, gmem<const float> a_scale,
                       gmem<const float> b_scale, gmem<const int32_t> a_zero,
                       gmem<const int32_t> a_sum, gmem<const int32_t> b_zero,
                       gmem<const int32_t> b_sum, gmem<const float> bias, gmem<uint8_t> y,
                       ByteWgmmaShape w) {
  using Tile = ByteWgmmaTile<kind, kBn, kRuns>;
  using Shape = typename Tile::Shape;
  const ByteTensors t{a, b, a_scale, b_scale, a_zero, a_sum, b_zero, b_sum, bias, y};
  PLUQ_DYNAMIC_SMEM(arena);
  if (thread_idx().x == 0) {
    const auto bars = arena.template view<uint64_t>(Shape::kBars, 2 * Shape::kStages);
    for (int i = 0; i < Shape::kStages; ++i) {
      mbar_init(bars, i, 4);                   // full: the warps that copy
      mbar_init(bars, Shape::kStages + i, 8);  // empty: the warps that multiply
    }
    fence_mbar_init();
  }
  sync_threads();
  const int group = static_cast<int>(warp_id()) / 4;
  if (group == 2) {
    set_max_registers_down<40>();
    byte_wgmma_copy<Shape>(w, t, arena, kBn);
  } else {
    set_max_registers_up<232>();
    Tile tile{w, t, arena, group, static_cast<int>(lane_id()), {}, 0, 0, {}, {}, {}, {}, 0, 0};
    byte_wgmma_multiply(tile);
  }
}

template <ByteKind kind, int kBn, bool kRuns>
OpError launch_byte_wgmma_tile(const pluq_exec *exec, const ByteGemm &g, const ByteShape &s) {
  using Shape = ByteWgmma<kind, kBn, kRuns>;
  ByteWgmmaShape w{};
  w.s = s;
  w.tiles_m = static_cast<int32_t>((g.m + kByteWgmmaRows - 1) / kByteWgmmaRows);
  w.tiles_n = static_cast<int32_t>((g.n + kBn - 1) / kBn);
  w.stages = static_cast<int32_t>((s.ldb + kByteWgmmaDepth - 1) / kByteWgmmaDepth);
  w.a_run = static_cast<int32_t>(s.a_group / kByteWgmmaDepth);
  w.b_run = static_cast<int32_t>(s.b_group / kByteWgmmaDepth);
  const int64_t y_bytes = real_bytes(g.y_type);
  const int64_t at_once = g.y_type == Real::kF32 ? 2 : 8;
  w.fast = g.n % at_once == 0 && g.ldy % at_once == 0 &&
           reinterpret_cast<uintptr_t>(g.y) % static_cast<uintptr_t>(at_once * y_bytes) == 0;
  const int64_t tiles = static_cast<int64_t>(w.tiles_m) * w.tiles_n;
  LaunchShape shape;
  shape.grid = {
      static_cast<uint32_t>(g.sm_count == 0 || tiles < g.sm_count ? tiles : int64_t{g.sm_count}), 1,
      1};
  shape.threads = kByteWgmmaThreads;
  shape.smem_bytes = Shape::kBytes;
  shape.name = "byte_wgmma_kernel";
  const int64_t b_scales = (g.n + g.b_rows - 1) / g.b_rows * s.b_groups;
  return to_op_error(
      launch(&byte_wgmma_kernel<kind, kBn, kRuns>, shape, Stream(exec),
             gmem<const uint8_t>(static_cast<const uint8_t *>(g.a), extent(g.m, s.ldb, g.lda)),
             gmem<const uint8_t>(g.b, g.n * s.ldb), gmem<const float>(g.a_scale, g.m * s.a_groups),
             gmem<const float>(g.b_scale, b_scales), gmem<const int32_t>(g.a_zero, g.m),
             gmem<const int32_t>(g.a_sum, g.m * s.b_groups),
             gmem<const int32_t>(g.b_zero, g.n * s.b_groups),
             gmem<const int32_t>(g.b_sum, g.n * s.b_groups), gmem<const float>(g.bias, g.n),
             gmem<uint8_t>(static_cast<uint8_t *>(g.y), extent(g.m, g.n, g.ldy) * y_bytes), w));
}

// For products that byte_wgmma_fits.
template <ByteKind kind>
OpError launch_byte_wgmma(const pluq_exec *exec, const ByteGemm &g) {
  if (g.m == 0 || g.n == 0) return {};
  ByteShape s{};
  if (OpError e = make_byte_shape<kind>(g, s)) return e;
  if constexpr (kind == ByteKind::kS8) {
    if (s.b_group != 0) return launch_byte_wgmma_tile<kind, 128, true>(exec, g, s);
  }
  switch (byte_wgmma_columns(g.m, g.n, g.sm_count)) {
    case 64:
      return launch_byte_wgmma_tile<kind, 64, false>(exec, g, s);
    case 128:
      return launch_byte_wgmma_tile<kind, 128, false>(exec, g, s);
    default:
      return launch_byte_wgmma_tile<kind, 256, false>(exec, g, s);
  }
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
