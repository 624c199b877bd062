// SPDX-License-Identifier: Apache-2.0
// The CUDA kernels of cuda_log4: y[M, N] = (x[M, K] P[N, K]^T) * scale[N] + bias[N], where P holds
// powers of two. These are exact in f16 and bf16, so tensor cores multiply them without rounding,
// and a code becomes a 16-bit float by moving its bits into place.
//
// Run-time layout, [ceil(N/8)][ceil(K/64)][lane 0..31] of 8 bytes: what that lane of a warp gives
// to four m16n8k16 products as the operand B. With g = lane / 4 and t = lane % 4, pair p = 2 s + h
// (step s of 16 columns, half h) is W[8 i + g, 64 j + 16 s + 8 h + 2 t + {0, 1}]; the pair lies in
// word p / 4 at bits 4 (p % 4), its odd column 16 bits higher. Columns and rows beyond the edge are
// code 0: x is zero there, and such rows of y are not written.
#include "log4_gemm.h"
#include "pluq/cuda/operands.hpp"

namespace log4 {
inline namespace PLUQ_CUDA_SIDE {

using namespace pluq::cuda;

constexpr int kThreads = 128;  // 4 warps, each all rows of the tile and 16 columns of y
constexpr int kTileN = 64;

// A thread per word of the layout; there are at least 8 N of them.
PLUQ_KERNEL(kThreads, 1)
void repack_kernel(gmem<const uint8_t> codes, gmem<const float> scale, gmem<uint32_t> packed,
                   gmem<float> scale_out, int64_t n, int64_t k, int64_t words) {
  const int64_t i = static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x;
  if (i >= words) return;
  if (i < n) scale_out.store(i, scale.load(i));
  const int64_t tiles_k = (k + kTileK - 1) / kTileK;
  const int64_t lane = i / 2 % 32, tile = i / 64;
  const int64_t row = tile / tiles_k * 8 + lane / 4;
  const int64_t first = tile % tiles_k * kTileK + lane % 4 * 2;
  uint32_t word = 0;
  PLUQ_UNROLL
  for (int j = 0; j < 4; ++j) {
    const int64_t pair = i % 2 * 4 + j, column = first + pair * 8;
    if (row >= n || column >= k) continue;
    const uint32_t both = codes.load((row * k + column) / 2);
    word |= (both & 15U) << (4 * j) | both >> 4 << (4 * j + 16);
  }
  packed.store(i, word);
}

// Two codes, in bits 0-3 and 16-19, to two 16-bit floats: bit 3 is the sign, bits 0-2 are e of
// 2^-e.
template <bool kBf16>
PLUQ_DEVICE uint32_t powers_of_two(uint32_t codes) {
  const uint32_t sign = (codes & 0x00080008U) << 12, e = codes & 0x00070007U;
  return sign | (kBf16 ? 0x3f803f80U - (e << 7) : 0x3c003c00U - (e << 10));
}

struct Shape {
  int64_t m, n, k, ldx, ldy;
  int32_t y_type, splits;
  int32_t aligned;  // every 8 columns of x are 16 aligned bytes
};

// A tile of 16 kMt rows and 64 columns of y. x goes through shared memory, two stages of 64
// columns in chunks of 16 bytes that are swizzled against bank conflicts; W goes from global
// memory to registers, a step ahead.
template <bool kBf16, int kMt>
PLUQ_KERNEL(kThreads, 2)
void gemm_kernel(gmem<const uint16_t> x, gmem<const uint32_t> packed, gmem<const float> scale,
                 gmem<const float> bias, gmem<uint8_t> y, gmem<float> partial, Shape s) {
  constexpr int kRows = 16 * kMt, kStage = kRows * 128;
  PLUQ_STATIC_SMEM(uint8_t, tiles, 2 * kStage);
  const int thread = static_cast<int>(thread_idx().x), lane = lane_id(), warp = warp_id();
  const int64_t m0 = static_cast<int64_t>(block_idx().y) * kRows;
  const int64_t tiles_n = (s.n + 7) / 8, tiles_k = (s.k + kTileK - 1) / kTileK;
  const int64_t part = block_idx().z;
  const int64_t begin = tiles_k * part / s.splits, end = tiles_k * (part + 1) / s.splits;
  const int64_t tile_n = static_cast<int64_t>(block_idx().x) * (kTileN / 8) + warp * 2;

  const auto fetch_x = [&](int64_t step) {
    const auto stage = tiles.template view<uint8_t>(step % 2 == 0 ? 0 : kStage, kStage);
    PLUQ_UNROLL
    for (int i = 0; i < kMt; ++i) {  // 8 chunks a row
      const int row = (thread + kThreads * i) / 8, chunk = thread % 8;
      const int64_t column = step * kTileK + chunk * 8, from = (m0 + row) * s.ldx + column;
      const bool valid = m0 + row < s.m && column < s.k;
      const int at = row * 128 + ((chunk ^ (row & 7)) << 4);
      if (s.aligned != 0) {
        cp_async16(stage, at, x, valid ? from : 0, valid);
      } else {
        u32x4 v{{0, 0, 0, 0}};
        PLUQ_UNROLL
        for (int j = 0; j < 8; ++j) {
          if (valid) v.v[j / 2] |= static_cast<uint32_t>(x.load(from + j)) << (j % 2 * 16);
        }
        stage.template store_as<u32x4>(at, v);
      }
    }
    cp_async_commit();
  };
  u32x2 next[2];
  const auto fetch_w = [&](int64_t step) {
    PLUQ_UNROLL
    for (int j = 0; j < 2; ++j) {
      next[j] = u32x2{{0, 0}};
      if (tile_n + j < tiles_n) {
        next[j] = packed.template load_once<u32x2>(((tile_n + j) * tiles_k + step) * 64 + lane * 2);
      }
    }
  };

  float sum[kMt][2][4];
  PLUQ_UNROLL
  for (int i = 0; i < kMt; ++i) {
    PLUQ_UNROLL
    for (int j = 0; j < 8; ++j) sum[i][j / 4][j % 4] = 0;
  }
  if (begin < end) {
    fetch_x(begin);
    fetch_w(begin);
  }
  for (int64_t step = begin; step < end; ++step) {
    cp_async_wait<0>();
    sync_threads();  // this stage is there, and all are done with the other
    const u32x2 w[2] = {next[0], next[1]};
    if (step + 1 < end) {
      fetch_x(step + 1);
      fetch_w(step + 1);
    }
    const auto stage = tiles.template view<uint8_t>(step % 2 == 0 ? 0 : kStage, kStage);
    PLUQ_UNROLL
    for (int k16 = 0; k16 < 4; ++k16) {
      uint32_t b[2][2];
      PLUQ_UNROLL
      for (int j = 0; j < 2; ++j) {
        PLUQ_UNROLL
        for (int half = 0; half < 2; ++half) {
          const int pair = 2 * k16 + half;
          b[j][half] = powers_of_two<kBf16>(w[j].v[pair / 4] >> (4 * (pair % 4)));
        }
      }
      PLUQ_UNROLL
      for (int i = 0; i < kMt; ++i) {
        uint32_t a[4];
        const int row = 16 * i + (lane & 15), chunk = 2 * k16 + (lane >> 4);
        ldmatrix_x4(a, stage, row * 128 + ((chunk ^ (row & 7)) << 4));
        PLUQ_UNROLL
        for (int j = 0; j < 2; ++j) {
          if constexpr (kBf16) {
            mma_m16n8k16_bf16(sum[i][j], a, b[j]);
          } else {
            mma_m16n8k16_f16(sum[i][j], a, b[j]);
          }
        }
      }
    }
  }

  PLUQ_UNROLL
  for (int i = 0; i < kMt; ++i) {
    PLUQ_UNROLL
    for (int c = 0; c < 8; ++c) {
      const int64_t row = m0 + 16 * i + lane / 4 + (c % 4 >= 2 ? 8 : 0);
      const int64_t column = (tile_n + c / 4) * 8 + lane % 4 * 2 + c % 2;
      if (row >= s.m || column >= s.n) continue;
      const float v = sum[i][c / 4][c % 4];
      if (s.splits > 1) {
        partial.store((part * s.m + row) * s.n + column, v);
      } else {
        store_real(y, s.y_type, row * s.ldy + column,
                   v * scale.load(column) + (bias ? bias.load(column) : 0.0F));
      }
    }
  }
}

// The parts of K, added in their order: the same bits every time.
PLUQ_KERNEL(kThreads, 1)
void sum_parts_kernel(gmem<const float> partial, gmem<const float> scale, gmem<const float> bias,
                      gmem<uint8_t> y, Shape s) {
  const int64_t i = static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x;
  if (i >= s.m * s.n) return;
  float sum = 0;
  for (int32_t part = 0; part < s.splits; ++part) sum += partial.load(part * s.m * s.n + i);
  const int64_t column = i % s.n;
  store_real(y, s.y_type, i / s.n * s.ldy + column,
             sum * scale.load(column) + (bias ? bias.load(column) : 0.0F));
}

template <bool kBf16>
OpError launch_gemm(const pluq_exec* exec, const Gemm& g) {
  const LinearIo& io = g.io;
  const bool few = io.m <= kFewRows;
  Shape s{io.m, g.n, g.k, io.ldx, io.ldy, static_cast<int32_t>(io.y_type), 1, 0};
  s.splits = few ? static_cast<int32_t>(g.splits) : 1;
  s.aligned = reinterpret_cast<uintptr_t>(io.x) % 16 == 0 && io.ldx % 8 == 0 ? 1 : 0;
  const gmem<const uint16_t> x(static_cast<const uint16_t*>(io.x), extent(io.m, g.k, io.ldx));
  const gmem<const uint32_t> packed(g.packed, packed_words(g.n, g.k));
  const gmem<const float> scale(g.scale, g.n), bias(io.bias, g.n);
  const gmem<uint8_t> y(static_cast<uint8_t*>(io.y),
                        extent(io.m, g.n, io.ldy) * real_bytes(io.y_type));
  const gmem<float> partial(g.partial, s.splits > 1 ? s.splits * io.m * g.n : 0);
  const Stream stream(exec);
  LaunchShape shape;
  shape.threads = kThreads;
  shape.name = "log4_gemm_kernel";
  const int64_t rows = few ? 16 : 64;
  shape.grid = {static_cast<uint32_t>((g.n + kTileN - 1) / kTileN),
                static_cast<uint32_t>((io.m + rows - 1) / rows), static_cast<uint32_t>(s.splits)};
  const auto kernel = few ? &gemm_kernel<kBf16, 1> : &gemm_kernel<kBf16, 4>;
  LaunchError error = launch(kernel, shape, stream, x, packed, scale, bias, y, partial, s);
  if (!error && s.splits > 1) {
    shape.name = "log4_sum_parts_kernel";
    shape.grid = {static_cast<uint32_t>((io.m * g.n + kThreads - 1) / kThreads), 1, 1};
    error = launch(&sum_parts_kernel, shape, stream, gmem<const float>(partial), scale, bias, y, s);
  }
  return to_op_error(std::move(error));
}

}  // namespace PLUQ_CUDA_SIDE

pluq::cuda::OpError PLUQ_CUDA_TWIN_NAME(repack)(const pluq_exec* exec, const Repack& r) {
  const int64_t words = packed_words(r.n, r.k);
  LaunchShape shape;
  shape.threads = kThreads;
  shape.name = "log4_repack_kernel";
  shape.grid = {static_cast<uint32_t>((words + kThreads - 1) / kThreads), 1, 1};
  return to_op_error(launch(&repack_kernel, shape, Stream(exec),
                            gmem<const uint8_t>(r.codes, r.n * r.k / 2),
                            gmem<const float>(r.scale, r.n), gmem<uint32_t>(r.packed, words),
                            gmem<float>(r.scale_out, r.n), r.n, r.k, words));
}

pluq::cuda::OpError PLUQ_CUDA_TWIN_NAME(gemm)(const pluq_exec* exec, const Gemm& g) {
  if (g.io.m == 0 || g.n == 0) return {};
  switch (g.io.x_type) {
    case Real::kF16:
      return launch_gemm<false>(exec, g);
    case Real::kBf16:
      return launch_gemm<true>(exec, g);
    case Real::kF32:
      break;
  }
  return {PLUQ_STATUS_UNSUPPORTED, "cuda_log4: x is F32; F16 and BF16 are built"};
}

}  // namespace log4
