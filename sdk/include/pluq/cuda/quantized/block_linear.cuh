// SPDX-License-Identifier: Apache-2.0
// y[M, N] = x[M, K] W[N, K]^T for any format with a decoder. Up to 8 rows: a GEMV, a warp per row
// of W, all in f32. More: tiles of 64 x 64, W decoded to the activations' 16-bit type in shared
// memory and multiplied with m16n8k16.
#pragma once

#include "pluq/cuda/quantized/byte_gemm.cuh"
#include "pluq/cuda/quantized/decoders.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

struct BlockShape {
  int64_t m, n, k, ldx, ldy;
  int32_t y_type;
  int32_t aligned;  // rows of x begin at multiples of 16 bytes and K is a multiple of 8
};

template <class Decoder, bool kBf16, int kRows>
PLUQ_KERNEL(256, 1)
void block_gemv_kernel(Decoder decoder, gmem<const uint16_t> x, gmem<const float> row_scale,
                       gmem<const float> bias, gmem<uint8_t> y, BlockShape s) {
  const int64_t n = static_cast<int64_t>(block_idx().x) * 8 + warp_id();
  if (n >= s.n) return;  // whole warps leave, and no barrier follows
  float sum[kRows];
  PLUQ_UNROLL
  for (int m = 0; m < kRows; ++m) sum[m] = 0;
  for (int64_t k = lane_id() * kRun; k < s.k; k += 32 * kRun) {
    float w[kRun];
    decoder.run(n, k, w);
    PLUQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      if (m >= s.m) continue;
      PLUQ_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int64_t k8 = k + 8 * half;
        if (s.aligned != 0) {
          if (k8 >= s.k) continue;
          const u32x4 v = x.load16(m * s.ldx + k8);
          PLUQ_UNROLL
          for (int j = 0; j < 4; ++j) {
            const f32x2 pair = kBf16 ? unpack_bf16x2(v.v[j]) : unpack_f16x2(v.v[j]);
            sum[m] += pair.v[0] * w[8 * half + 2 * j];
            sum[m] += pair.v[1] * w[8 * half + 2 * j + 1];
          }
        } else {
          PLUQ_UNROLL
          for (int j = 0; j < 8; ++j) {
            if (k8 + j >= s.k) continue;
            const uint16_t h = x.load(m * s.ldx + k8 + j);
            sum[m] += (kBf16 ? bf16_to_f32(h) : f16_to_f32(h)) * w[8 * half + j];
          }
        }
      }
    }
  }
  PLUQ_UNROLL
  for (int m = 0; m < kRows; ++m) {
    if (m >= s.m) continue;
    const float total = warp_sum(sum[m]);
    if (lane_id() != 0) continue;
    const float scaled = row_scale ? total * row_scale.load(m) : total;
    store_real(y, s.y_type, m * s.ldy + n, scaled + (bias ? bias.load(n) : 0.0F));
  }
}

// 4 warps, each 32 x 32 of y. Two buffers of A [64][32] and W [64][32] in 16 bits; a thread decodes
// 16 columns of one row of W per step.
template <class Decoder, bool kBf16>
PLUQ_KERNEL(128, 2)
void block_gemm_kernel(Decoder decoder, gmem<const uint16_t> x, gmem<const float> row_scale,
                       gmem<const float> bias, gmem<uint8_t> y, BlockShape s) {
  constexpr int kTile = 64, kDepth = 32, kBytes = kTile * kDepth * 2;
  PLUQ_STATIC_SMEM(uint8_t, buffers, 4 * kBytes);
  const int thread = static_cast<int>(thread_idx().x), lane = lane_id(), warp = thread / 32;
  const int warp_m = warp / 2, warp_n = warp % 2, g = lane / 4, t = lane % 4;
  const int64_t m0 = static_cast<int64_t>(block_idx().y) * kTile;
  const int64_t n0 = static_cast<int64_t>(block_idx().x) * kTile;
  const int64_t steps = (s.k + kDepth - 1) / kDepth;

  const auto fetch = [&](int64_t step) {
    const uint32_t at = static_cast<uint32_t>(step % 2) * 2 * kBytes;
    const auto tile_x = buffers.template view<uint8_t>(at, kBytes);
    const auto tile_w = buffers.template view<uint8_t>(at + kBytes, kBytes);
    PLUQ_UNROLL
    for (int i = 0; i < 2; ++i) {  // 256 chunks of 8 columns
      const int row = (thread + 128 * i) / 4, chunk = (thread + 128 * i) % 4;
      const int64_t column = step * kDepth + chunk * 8;
      if (s.aligned != 0) {
        const bool valid = m0 + row < s.m && column < s.k;
        cp_async16(tile_x, swizzled<64>(row, chunk), x, valid ? (m0 + row) * s.ldx + column : 0,
                   valid);
      } else {
        u32x4 v{{0, 0, 0, 0}};
        PLUQ_UNROLL
        for (int j = 0; j < 8; ++j) {
          if (m0 + row < s.m && column + j < s.k) {
            v.v[j / 2] |= static_cast<uint32_t>(x.load((m0 + row) * s.ldx + column + j))
                          << (j % 2 * 16);
          }
        }
        tile_x.template store_as<u32x4>(swizzled<64>(row, chunk), v);
      }
    }
    cp_async_commit();
    const int row = thread / 2, part = thread % 2;
    const int64_t column = step * kDepth + part * kRun;
    float w[kRun];
    if (n0 + row < s.n && column < s.k) {
      decoder.run(n0 + row, column, w);
    } else {
      PLUQ_UNROLL
      for (int j = 0; j < kRun; ++j) w[j] = 0;
    }
    PLUQ_UNROLL
    for (int half = 0; half < 2; ++half) {
      u32x4 v;
      PLUQ_UNROLL
      for (int j = 0; j < 4; ++j) {
        const float lo = w[8 * half + 2 * j], hi = w[8 * half + 2 * j + 1];
        v.v[j] = kBf16 ? pack_bf16x2(lo, hi) : pack_f16x2(lo, hi);
      }
      tile_w.template store_as<u32x4>(swizzled<64>(row, 2 * part + half), v);
    }
  };

  float sum[2][4][4];
  PLUQ_UNROLL
  for (int i = 0; i < 2; ++i) {
    PLUQ_UNROLL
    for (int j = 0; j < 4; ++j) {
      PLUQ_UNROLL
      for (int c = 0; c < 4; ++c) sum[i][j][c] = 0;
    }
  }
  fetch(0);
  for (int64_t step = 0; step < steps; ++step) {
    cp_async_wait<0>();
    sync_threads();  // this step's tiles are there, and all are done with the other buffer
    if (step + 1 < steps) fetch(step + 1);
    const uint32_t at = static_cast<uint32_t>(step % 2) * 2 * kBytes;
    const auto tile_x = buffers.template view<uint8_t>(at, kBytes);
    const auto tile_w = buffers.template view<uint8_t>(at + kBytes, kBytes);
    PLUQ_UNROLL
    for (int half = 0; half < 2; ++half) {  // 16 columns
      uint32_t bf[4][2];
      PLUQ_UNROLL
      for (int j = 0; j < 4; j += 2) {
        uint32_t r[4];
        ldmatrix_x4(r, tile_w,
                    swizzled<64>(warp_n * 32 + 8 * j + (lane & 7) + (lane >> 4 << 3),
                                 2 * half + (lane >> 3 & 1)));
        bf[j][0] = r[0], bf[j][1] = r[1], bf[j + 1][0] = r[2], bf[j + 1][1] = r[3];
      }
      PLUQ_UNROLL
      for (int i = 0; i < 2; ++i) {
        uint32_t af[4];
        ldmatrix_x4(af, tile_x,
                    swizzled<64>(warp_m * 32 + 16 * i + (lane & 15), 2 * half + (lane >> 4)));
        PLUQ_UNROLL
        for (int j = 0; j < 4; ++j) {
          if constexpr (kBf16) {
            mma_m16n8k16_bf16(sum[i][j], af, bf[j]);
          } else {
            mma_m16n8k16_f16(sum[i][j], af, bf[j]);
          }
        }
      }
    }
  }
  PLUQ_UNROLL
  for (int i = 0; i < 2; ++i) {
    PLUQ_UNROLL
    for (int c = 0; c < 4; ++c) {
      const int64_t row = m0 + warp_m * 32 + 16 * i + g + (c >= 2 ? 8 : 0);
      if (row >= s.m) continue;
      const float scale = row_scale ? row_scale.load(row) : 1.0F;
      PLUQ_UNROLL
      for (int j = 0; j < 4; ++j) {
        const int64_t col = n0 + warp_n * 32 + 8 * j + 2 * t + (c & 1);
        if (col >= s.n) continue;
        store_real(y, s.y_type, row * s.ldy + col,
                   sum[i][j][c] * scale + (bias ? bias.load(col) : 0.0F));
      }
    }
  }
}

template <class Decoder, bool kBf16>
OpError launch_block_typed(const pluq_exec *exec, const Decoder &decoder, int64_t n, int64_t k,
                           const LinearIo &l) {
  BlockShape s{};
  s.m = l.m, s.n = n, s.k = k, s.ldx = l.ldx, s.ldy = l.ldy;
  s.y_type = static_cast<int32_t>(l.y_type);
  s.aligned = reinterpret_cast<uintptr_t>(l.x) % 16 == 0 && l.ldx % 8 == 0 && s.k % 8 == 0 ? 1 : 0;
  const gmem<const uint16_t> x(static_cast<const uint16_t *>(l.x), extent(s.m, s.k, s.ldx));
  const gmem<const float> row_scale(l.row_scale, s.m), bias(l.bias, s.n);
  const gmem<uint8_t> y(static_cast<uint8_t *>(l.y),
                        extent(s.m, s.n, s.ldy) * real_bytes(l.y_type));
  const Stream stream(exec);
  LaunchShape shape;
  if (s.m <= kGemvRows) {
    shape.grid = {static_cast<uint32_t>((s.n + 7) / 8), 1, 1};
    shape.threads = 256;
    shape.name = "block_gemv_kernel";
    const auto kernel = s.m == 1   ? &block_gemv_kernel<Decoder, kBf16, 1>
                        : s.m <= 4 ? &block_gemv_kernel<Decoder, kBf16, 4>
                                   : &block_gemv_kernel<Decoder, kBf16, 8>;
    return to_op_error(launch(kernel, shape, stream, decoder, x, row_scale, bias, y, s));
  }
  shape.grid = {static_cast<uint32_t>((s.n + 63) / 64), static_cast<uint32_t>((s.m + 63) / 64), 1};
  shape.threads = 128;
  shape.name = "block_gemm_kernel";
  return to_op_error(
      launch(&block_gemm_kernel<Decoder, kBf16>, shape, stream, decoder, x, row_scale, bias, y, s));
}

// y = x W^T + bias on exec's stream, W [n, k] from a decoder.
template <class Decoder>
OpError launch_decoded(const pluq_exec *exec, const Decoder &decoder, int64_t n, int64_t k,
                       const LinearIo &l) {
  if (l.m == 0 || n == 0) return {};
  switch (l.x_type) {
    case Real::kF16:
      return launch_block_typed<Decoder, false>(exec, decoder, n, k, l);
    case Real::kBf16:
      return launch_block_typed<Decoder, true>(exec, decoder, n, k, l);
    case Real::kF32:
      break;
  }
  return {PLUQ_STATUS_UNSUPPORTED, "block_linear: x is F32; F16 and BF16 are built"};
}

// Whether a decoder can read these weights.
template <class Decoder>
OpError check_weights(const Decoder &, const BlockWeights &) {
  return {};
}
template <int kType>
OpError check_weights(const GgufDecoder<kType> &, const BlockWeights &w) {
  constexpr int kAlign = GgufDecoder<kType>::kAlign;
  if (reinterpret_cast<uintptr_t>(w.codes) % kAlign == 0) return {};
  return {PLUQ_STATUS_INVALID, "block_linear: blocks of GGUF do not begin at a multiple of " +
                                   std::to_string(kAlign) + " bytes"};
}

template <class Decoder>
OpError launch_block_linear(const pluq_exec *exec, const BlockLinear &l) {
  if (OpError e = check_weights(Decoder::make(l.w), l.w)) return e;
  return launch_decoded(exec, Decoder::make(l.w), l.w.n, l.w.k, l);
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
