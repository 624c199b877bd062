// SPDX-License-Identifier: Apache-2.0
// Kernels beside the product of weight_only.cuh: repacking from the checkpoint's layouts, gathering
// columns of x for weights whose columns were sorted by group, and W itself for large M.
#pragma once

#include "pluq/cuda/quantized/stored.cuh"
#include "pluq/cuda/quantized/weight_only.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

// A thread makes a word: 8 codes of 4 bits or 4 of 8.
template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void weight_only_repack_kernel(IntSource source, gmem<const int32_t> order, gmem<uint32_t> packed,
                               int64_t n, int64_t k) {
  const int bits = source.bits;
  const int64_t i = static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x;
  const int64_t slab_words = 32 * bits;
  if (i >= n * k / (16 * 64) * slab_words) return;
  const int64_t slab = i / slab_words;
  const int word = static_cast<int>(i % slab_words), lane = word / 4 % 32,
            half = word / 128;  // of 8-bit slabs
  const int64_t slice = slab / (n / 64), row0 = slab % (n / 64) * 64;
  const int g = lane / 4, t = lane % 4;
  const auto code = [&](int row, int column) {
    const int64_t from = slice * 16 + column;
    return source.at(row0 + row, order ? order.load(from) : from);
  };
  uint32_t out = 0;
  if (bits == 4) {
    const int row = word % 4 * 16 + g;
    PLUQ_UNROLL_N(1)  // a code at a time, for the registers
    for (int nibble = 0; nibble < 8; ++nibble) {
      const int column = 2 * t + nibble / 4 + (nibble & 1) * 8;
      out |= code(row + (nibble & 2) * 4, column) << (4 * nibble);
    }
  } else {
    const int j = word % 4, row = (half * 2 + j / 2) * 16 + g + j % 2 * 8;
    PLUQ_UNROLL_N(1)
    for (int byte = 0; byte < 4; ++byte) {
      out |= code(row, 2 * t + (byte & 1) + (byte & 2) * 4) << (8 * byte);
    }
  }
  packed.store(i, out);
}

inline OpError launch_weight_only_repack(const pluq_exec *exec, const WeightOnlyRepack &p) {
  const int bits = p.stored.bits;
  if ((bits != 4 && bits != 8) || p.n % 64 != 0 || p.k % 64 != 0)
    return {PLUQ_STATUS_INVALID, "weight_only_repack: 4 or 8 bits, N and K multiples of 64"};
  if (OpError e = check_stored(p.stored, "weight_only_repack")) return e;
  const int64_t words = p.n * p.k * bits / 32;
  return to_op_error(launch(&weight_only_repack_kernel<kLoadThreads>,
                            load_shape(words, "weight_only_repack_kernel"), Stream(exec),
                            IntSource::make(p.stored, p.source, p.source_bytes),
                            gmem<const int32_t>(p.order, p.order == nullptr ? 0 : p.k),
                            gmem<uint32_t>(p.packed, words), p.n, p.k));
}

template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void gather_columns_kernel(gmem<const uint16_t> x, gmem<const int32_t> order, gmem<uint16_t> out,
                           int64_t k, int64_t ldx) {
  const int64_t i = static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x;
  const int64_t row = block_idx().y;
  if (i < k) out.store(row * k + i, x.load(row * ldx + order.load(i)));
}

inline OpError launch_gather_columns(const pluq_exec *exec, const GatherColumns &g) {
  constexpr int64_t kMostRows = 65535;
  for (int64_t first = 0; first < g.m; first += kMostRows) {
    const int64_t rows = g.m - first < kMostRows ? g.m - first : kMostRows;
    LaunchShape shape;
    shape.grid = {static_cast<uint32_t>((g.k + kLoadThreads - 1) / kLoadThreads),
                  static_cast<uint32_t>(rows), 1};
    shape.threads = kLoadThreads;
    shape.name = "gather_columns_kernel";
    if (LaunchError e = launch(&gather_columns_kernel<kLoadThreads>, shape, Stream(exec),
                               gmem<const uint16_t>(g.x + first * g.ldx, (rows - 1) * g.ldx + g.k),
                               gmem<const int32_t>(g.order, g.k),
                               gmem<uint16_t>(g.out + first * g.k, rows * g.k), g.k, g.ldx)) {
      return to_op_error(std::move(e));
    }
  }
  return {};
}

// A warp widens a tile of 16 x 16.
template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void weight_only_dequantize_kernel(gmem<const uint32_t> codes, gmem<const uint16_t> scales,
                                   gmem<uint16_t> out, int64_t n, int64_t k, int64_t group,
                                   int64_t first, int64_t count, int32_t bits, int32_t zeros,
                                   int32_t scales_bf16, int32_t bf16) {
  const int64_t unit = (static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x) / 32;
  const int64_t tiles = count / 16;
  if (unit >= tiles * (k / 16)) return;
  const int64_t slice = unit / tiles, row0 = first + unit % tiles * 16;
  const int lane = static_cast<int>(lane_id()), g = lane / 4, t = lane % 4;
  const int tile = static_cast<int>(row0 % 64 / 16);
  const int64_t slab = (slice * (n / 64) + row0 / 64) * 32 * bits;
  uint32_t wide[4];
  if (bits == 4) {
    const uint32_t word = codes.load(slab + lane * 4 + tile);
    wo_widen<4, false>(&word, wide);
  } else {
    const int64_t at = slab + tile / 2 * 128 + lane * 4 + tile % 2 * 2;
    const uint32_t words[2] = {codes.load(at), codes.load(at + 1)};
    wo_widen<8, false>(words, wide);
  }
  PLUQ_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int64_t row = row0 + g + (i & 1) * 8, column = slice * 16 + 2 * t + (i >= 2 ? 8 : 0);
    // Groups are multiples of 16 columns.
    const int64_t from = column / group * (zeros != 0 ? 2 : 1) * n + row;
    const auto real = [&](uint16_t v) { return scales_bf16 != 0 ? bf16_to_f32(v) : f16_to_f32(v); };
    const float scale = real(scales.load(from)),
                zero = zeros != 0 ? real(scales.load(from + n)) : 0;
    const f32x2 code = unpack_f16x2(wide[i]);
    const float low = scale * (code.v[0] - zero), high = scale * (code.v[1] - zero);
    out.as<uint32_t>().store(((row - first) * k + column) / 2,
                             bf16 != 0 ? pack_bf16x2(low, high) : pack_f16x2(low, high));
  }
}

inline OpError launch_weight_only_dequantize(const pluq_exec *exec, const WeightOnlyDequantize &d) {
  const WeightOnly &w = d.w;
  const int64_t group = w.group <= 0 || w.group >= w.k ? w.k : w.group,
                warps = d.count / 16 * (w.k / 16),
                groups = (w.k + group - 1) / group * (w.zeros ? 2 : 1);
  LaunchShape shape;
  shape.grid = {static_cast<uint32_t>((warps * 32 + kLoadThreads - 1) / kLoadThreads), 1, 1};
  shape.threads = kLoadThreads;
  shape.name = "weight_only_dequantize_kernel";
  return to_op_error(launch(
      &weight_only_dequantize_kernel<kLoadThreads>, shape, Stream(exec),
      gmem<const uint32_t>(static_cast<const uint32_t *>(w.codes), w.n * w.k * w.bits / 32),
      gmem<const uint16_t>(w.scales, groups * w.n), gmem<uint16_t>(d.out, d.count * w.k), w.n, w.k,
      group, d.first, d.count, w.bits, w.zeros ? 1 : 0, w.scales_bf16 ? 1 : 0, w.bf16 ? 1 : 0));
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
