// SPDX-License-Identifier: Apache-2.0
// y[M, N] = x[M, K] W[N, K]^T with weights of one byte: int8 x int8, e4m3 x e4m3, or 16-bit
// activations x fp8 weights that are converted exactly in registers. Scales per row, per run of
// columns, or both; sums are promoted to f32 at the end of each run (ops.h has the formula).
//
// A block makes kBm x 128 of y with 8 warps. A stage holds 64 columns: A [kBm][64] and B [128][64],
// in chunks of 16 bytes that are swizzled so that 8 rows of one chunk column meet 32 banks. Four
// stages are copied ahead with cp.async. Few rows: K is cut into parts whose f32 sums are written
// to `partial` and added in order by sum_parts_kernel.
#pragma once

#include "pluq/cuda/operands.hpp"
#include "pluq/cuda/quantized/ops.h"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

struct ByteShape {
  int64_t m, n, k, lda, ldb, ldy;
  int64_t a_group, b_group, b_rows, period;  // groups of 0: one; period in columns
  int32_t a_groups, b_groups;
  int32_t splits;
  int32_t y_type;
};

template <ByteKind kind>
struct ByteTraits {
  static constexpr bool kWide = static_cast<int>(kind) >= 2;
  static constexpr bool kBf16 = kind == ByteKind::kBf16E4m3 || kind == ByteKind::kBf16E5m2;
  static constexpr bool kE5m2 = kind == ByteKind::kF16E5m2 || kind == ByteKind::kBf16E5m2;
  static constexpr int kABytes = kWide ? 2 : 1;       // of an element of A
  static constexpr int kARow = kByteDepth * kABytes;  // bytes of a row of a stage of A
  using Sum = std::conditional_t<kind == ByteKind::kS8, int32_t, float>;
};

constexpr int kByteStages = 4;  // copied ahead

// Dynamic shared memory of byte_gemm_kernel.
template <ByteKind kind, int kBm>
constexpr uint32_t byte_shared_bytes() {
  return kByteStages * (kBm * ByteTraits<kind>::kARow + kByteTileN * kByteDepth);
}

// Byte offset of 16-byte chunk `chunk` of row `row` in a stage with rows of 64 or 128 bytes.
template <int row_bytes>
PLUQ_DEVICE int swizzled(int row, int chunk) {
  if constexpr (row_bytes == 64) {
    return row * 64 + ((chunk ^ (row >> 1 & 3)) << 4);
  } else {
    return row * 128 + ((chunk ^ (row & 7)) << 4);
  }
}

// Two fp8 codes in the upper bytes of the halves of `spread` to two 16-bit floats, exactly: their
// bits are shifted into place and the difference of the exponents' biases is multiplied away. NaN
// codes become numbers; loading refuses them.
template <ByteKind kind>
PLUQ_DEVICE uint32_t widen_pair(uint32_t spread) {
  using T = ByteTraits<kind>;
  constexpr int kShift = T::kBf16 ? (T::kE5m2 ? 3 : 4) : (T::kE5m2 ? 0 : 1);
  const uint32_t bits = (spread & 0x80008000U) | ((spread & 0x7f007f00U) >> kShift);
  if constexpr (T::kBf16) {
    constexpr uint32_t kFactor = T::kE5m2 ? 0x77807780U : 0x7b807b80U;  // 2^112, 2^120
    return fma_bf16x2(bits, kFactor, 0x80008000U);
  } else if constexpr (T::kE5m2) {
    return bits;
  } else {
    return mul_f16x2(bits, 0x5c005c00U);  // 2^8
  }
}

template <ByteKind kind, int kBm>
PLUQ_KERNEL(256, 1)
void byte_gemm_kernel(gmem<const uint8_t> a, gmem<const uint8_t> b, gmem<const float> a_scale,
                      gmem<const float> b_scale, gmem<const int32_t> a_zero,
                      gmem<const int32_t> a_sum, gmem<const int32_t> b_zero,
                      gmem<const int32_t> b_sum, gmem<const float> bias, gmem<uint8_t> y,
                      gmem<float> partial, ByteShape s) {
  using T = ByteTraits<kind>;
  using Sum = typename T::Sum;
  constexpr int kStages = kByteStages;
  constexpr int kWarpsM = kBm >= 32 ? 2 : 1, kWarpsN = 8 / kWarpsM;
  constexpr int kMt = kBm / kWarpsM / 16, kNt = kByteTileN / kWarpsN / 8;
  constexpr int kABytes = kBm * T::kARow, kBBytes = kByteTileN * kByteDepth;
  constexpr int kStageBytes = kABytes + kBBytes;
  constexpr int kAChunks = T::kARow / 16;
  PLUQ_DYNAMIC_SMEM(arena);
  const int thread = static_cast<int>(thread_idx().x), lane = lane_id(), warp = thread / 32;
  const int warp_m = warp / kWarpsN, warp_n = warp % kWarpsN;
  const int g = lane / 4, t = lane % 4;
  const int64_t m0 = static_cast<int64_t>(block_idx().y) * kBm;
  const int64_t n0 = static_cast<int64_t>(block_idx().x) * kByteTileN;
  const int depth = static_cast<int>(s.ldb / kByteDepth);
  const int split = static_cast<int>(block_idx().z);
  const int first = static_cast<int>(static_cast<int64_t>(depth) * split / s.splits);
  const int last = static_cast<int>(static_cast<int64_t>(depth) * (split + 1) / s.splits);

  // Copies the 64 columns of stage tile kt; commits even when there is nothing left, so that
  // groups stay aligned.
  const auto fetch = [&](int kt) {
    if (kt < last) {
      const uint32_t at = static_cast<uint32_t>(kt % kStages) * kStageBytes;
      const auto stage_a = arena.template view<uint8_t>(at, kABytes);
      const auto stage_b = arena.template view<uint8_t>(at + kABytes, kBBytes);
      PLUQ_UNROLL
      for (int i = thread; i < kBm * kAChunks; i += 256) {
        const int row = i / kAChunks, chunk = i % kAChunks;
        const int64_t column = static_cast<int64_t>(kt) * kByteDepth + chunk * (16 / T::kABytes);
        const bool valid = m0 + row < s.m && column < s.k;
        cp_async16(stage_a, swizzled<T::kARow>(row, chunk), a,
                   valid ? ((m0 + row) * s.lda + column) * T::kABytes : 0, valid);
      }
      PLUQ_UNROLL
      for (int i = thread; i < kByteTileN * 4; i += 256) {
        const int row = i / 4, chunk = i % 4;
        const bool valid = n0 + row < s.n;
        cp_async16(
            stage_b, swizzled<64>(row, chunk), b,
            valid ? (n0 + row) * s.ldb + static_cast<int64_t>(kt) * kByteDepth + chunk * 16 : 0,
            valid);
      }
    }
    cp_async_commit();
  };

  Sum sum[kMt][kNt][4];
  float total[kMt][kNt][4];
  PLUQ_UNROLL
  for (int i = 0; i < kMt; ++i) {
    PLUQ_UNROLL
    for (int j = 0; j < kNt; ++j) {
      PLUQ_UNROLL
      for (int c = 0; c < 4; ++c) {
        sum[i][j][c] = 0;
        total[i][j][c] = 0;
      }
    }
  }
  // Of this thread: + 16 i + (c >= 2 ? 8 : 0), and + 8 j + (c & 1).
  const int row0 = static_cast<int>(m0) + warp_m * (kMt * 16) + g;
  const int col0 = static_cast<int>(n0) + warp_n * (kNt * 8) + 2 * t;
  const int rows = static_cast<int>(s.m), cols = static_cast<int>(s.n);

  // Adds the sums of the run of columns that holds column k, scaled, and begins the next run.
  // complete: the run ends here, so its zero points are taken off. Long, so it is called once.
  const auto promote = [&](int64_t k, bool complete) {
    const int ga = s.a_group == 0 ? 0 : static_cast<int>(k / s.a_group);
    const int gb = s.b_group == 0 ? 0 : static_cast<int>(k / s.b_group);
    const int per_scale = static_cast<int>(s.b_rows);
    const bool zeros = kind == ByteKind::kS8 && complete && (a_zero || b_zero);
    float as[kMt][2];
    int32_t row_sum[kMt][2], row_zero[kMt][2];  // 0 where they play no part
    PLUQ_UNROLL
    for (int i = 0; i < kMt; ++i) {
      PLUQ_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = row0 + 16 * i + 8 * half;
        const bool inside = row < rows;
        as[i][half] = inside && a_scale ? a_scale.load(row * s.a_groups + ga) : 1.0F;
        row_sum[i][half] = zeros && b_zero && inside ? a_sum.load(row * s.b_groups + gb) : 0;
        row_zero[i][half] = zeros && a_zero && inside ? a_zero.load(row) : 0;
      }
    }
    PLUQ_UNROLL
    for (int j = 0; j < kNt; ++j) {
      PLUQ_UNROLL
      for (int c = 0; c < 2; ++c) {
        const int col = col0 + 8 * j + c;
        if (col >= cols) continue;
        const float bs = b_scale.load((per_scale == 1 ? col : col / per_scale) * s.b_groups + gb);
        const int64_t zero = zeros && b_zero ? b_zero.load(col * s.b_groups + gb) : 0;
        const int64_t col_sum = zeros && a_zero ? b_sum.load(col * s.b_groups + gb) : 0;
        PLUQ_UNROLL
        for (int i = 0; i < kMt; ++i) {
          PLUQ_UNROLL
          for (int half = 0; half < 2; ++half) {
            float v = static_cast<float>(sum[i][j][2 * half + c]);
            if constexpr (kind == ByteKind::kS8) {
              if (zeros) {
                v = static_cast<float>(sum[i][j][2 * half + c] - zero * row_sum[i][half] -
                                       col_sum * row_zero[i][half]);
              }
            }
            total[i][j][2 * half + c] += v * (as[i][half] * bs);
            sum[i][j][2 * half + c] = 0;
          }
        }
      }
    }
  };

  PLUQ_UNROLL
  for (int i = 0; i < kStages - 1; ++i) fetch(first + i);
  // Columns until the run ends; never 0 when there is only one run.
  int64_t left =
      s.period == 0 ? -1 : s.period - static_cast<int64_t>(first) * kByteDepth % s.period;
  bool pending = false;  // sums that are not promoted yet
  for (int kt = first; kt < last; ++kt) {
    cp_async_wait<kStages - 2>();
    sync_threads();
    fetch(kt + kStages - 1);
    const uint32_t at = static_cast<uint32_t>(kt % kStages) * kStageBytes;
    const auto stage_a = arena.template view<uint8_t>(at, kABytes);
    const auto stage_b = arena.template view<uint8_t>(at + kABytes, kBBytes);
    PLUQ_UNROLL_N(1)                        // `promote` is long, and called once
    for (int half = 0; half < 2; ++half) {  // 32 columns each
      if constexpr (T::kWide) {
        PLUQ_UNROLL
        for (int part = 0; part < 2; ++part) {  // 16 columns each
          const int step = 2 * half + part;
          uint32_t bf[kNt][2];
          PLUQ_UNROLL
          for (int j = 0; j < kNt; ++j) {
            const int row = warp_n * (kNt * 8) + 8 * j + g;
            const uint32_t word =
                stage_b.template load_as<uint32_t>(swizzled<64>(row, step) + 4 * t);
            bf[j][0] = widen_pair<kind>(prmt(word, 0, 0x1404));
            bf[j][1] = widen_pair<kind>(prmt(word, 0, 0x3424));
          }
          PLUQ_UNROLL
          for (int i = 0; i < kMt; ++i) {
            uint32_t af[4];
            ldmatrix_x4(
                af, stage_a,
                swizzled<128>(warp_m * (kMt * 16) + 16 * i + (lane & 15), 2 * step + (lane >> 4)));
            PLUQ_UNROLL
            for (int j = 0; j < kNt; ++j) {
              if constexpr (T::kBf16) {
                mma_m16n8k16_bf16(sum[i][j], af, bf[j]);
              } else {
                mma_m16n8k16_f16(sum[i][j], af, bf[j]);
              }
            }
          }
        }
      } else {
        uint32_t bf[kNt][2];
        PLUQ_UNROLL
        for (int j = 0; j < kNt; j += 2) {
          uint32_t r[4];
          ldmatrix_x4(r, stage_b,
                      swizzled<64>(warp_n * (kNt * 8) + 8 * j + (lane & 7) + (lane >> 4 << 3),
                                   2 * half + (lane >> 3 & 1)));
          bf[j][0] = r[0], bf[j][1] = r[1], bf[j + 1][0] = r[2], bf[j + 1][1] = r[3];
        }
        PLUQ_UNROLL
        for (int i = 0; i < kMt; ++i) {
          uint32_t af[4];
          ldmatrix_x4(
              af, stage_a,
              swizzled<64>(warp_m * (kMt * 16) + 16 * i + (lane & 15), 2 * half + (lane >> 4)));
          PLUQ_UNROLL
          for (int j = 0; j < kNt; ++j) {
            if constexpr (kind == ByteKind::kS8) {
              mma_m16n8k32_s8(sum[i][j], af, bf[j]);
            } else {
              mma_m16n8k32_e4m3(sum[i][j], af, bf[j]);
            }
          }
        }
      }
      // The run ends here, or the part of K does: the end of K may have cut the run before, and the
      // next part may go on with it.
      const int64_t k = static_cast<int64_t>(kt) * kByteDepth + 32 * half;
      pending = pending || k < s.k;
      left -= 32;
      if (left == 0 || (half == 1 && kt + 1 == last)) {
        const int64_t end = k + 32 < s.k ? k + 32 : s.k;
        if (pending) promote(end - 1, left == 0 || end == s.k);
        pending = false;
        if (left == 0) left = s.period;
      }
    }
  }
  cp_async_wait<0>();
  sync_threads();

  // Through shared memory, so that the conversion to y's type is written once, in a loop, and a
  // warp stores whole rows: pairs of columns, exchanged so that 8 rows of one column meet all banks.
  const auto out = arena.template view<float>(0, kBm * kByteTileN);
  const auto pair_at = [](int row, int pair) {
    return row * kByteTileN + 2 * (pair ^ (row & 7) << 2);
  };
  PLUQ_UNROLL
  for (int i = 0; i < kMt; ++i) {
    PLUQ_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = warp_m * (kMt * 16) + 16 * i + 8 * half + g;
      PLUQ_UNROLL
      for (int j = 0; j < kNt; ++j) {
        out.template store_as<f32x2>(pair_at(row, warp_n * (kNt * 4) + 4 * j + t),
                                     {{total[i][j][2 * half], total[i][j][2 * half + 1]}});
      }
    }
  }
  sync_threads();
  PLUQ_UNROLL_N(1)
  for (int i = thread; i < kBm * (kByteTileN / 2); i += 256) {
    const int row = i / (kByteTileN / 2), pair = i % (kByteTileN / 2);
    if (m0 + row >= s.m) return;  // no barrier follows
    const f32x2 v = out.template load_as<f32x2>(pair_at(row, pair));
    PLUQ_UNROLL
    for (int c = 0; c < 2; ++c) {
      const int64_t col = n0 + 2 * pair + c;
      if (col >= s.n) continue;
      if (s.splits > 1) {
        partial.store((split * s.m + m0 + row) * s.n + col, v.v[c]);
      } else {
        store_real(y, s.y_type, (m0 + row) * s.ldy + col, v.v[c] + (bias ? bias.load(col) : 0.0F));
      }
    }
  }
}

// y[m, n] = sum over the parts, in order, + bias[n].
inline constexpr int kSumThreads = 256;
template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void sum_parts_kernel(gmem<const float> partial, gmem<const float> bias, gmem<uint8_t> y, int64_t m,
                      int64_t n, int64_t ldy, int32_t splits, int32_t y_type) {
  const int64_t i = static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x;
  if (i >= m * n) return;
  float sum = 0;
  for (int32_t p = 0; p < splits; ++p) sum += partial.load(p * m * n + i);
  const int64_t col = i % n;
  store_real(y, y_type, i / n * ldy + col, sum + (bias ? bias.load(col) : 0.0F));
}

template <ByteKind kind, int kBm>
OpError launch_byte_tile(const Stream &stream, const ByteGemm &g, const ByteShape &s) {
  using T = ByteTraits<kind>;
  LaunchShape shape;
  shape.grid = {static_cast<uint32_t>((g.n + kByteTileN - 1) / kByteTileN),
                static_cast<uint32_t>((g.m + kBm - 1) / kBm), static_cast<uint32_t>(s.splits)};
  shape.threads = 256;
  shape.smem_bytes = byte_shared_bytes<kind, kBm>();
  shape.name = "byte_gemm_kernel";
  const auto bytes = static_cast<const uint8_t *>(g.a);
  const int64_t a_bytes =
      extent(g.m, g.lda < s.ldb ? g.k : s.ldb, g.lda) * T::kABytes;  // direct x or padded codes
  const int64_t b_scales = (g.n + g.b_rows - 1) / g.b_rows * s.b_groups;
  return to_op_error(launch(
      &byte_gemm_kernel<kind, kBm>, shape, stream, gmem<const uint8_t>(bytes, a_bytes),
      gmem<const uint8_t>(g.b, g.n * s.ldb), gmem<const float>(g.a_scale, g.m * s.a_groups),
      gmem<const float>(g.b_scale, b_scales), gmem<const int32_t>(g.a_zero, g.m),
      gmem<const int32_t>(g.a_sum, g.m * s.b_groups),
      gmem<const int32_t>(g.b_zero, g.n * s.b_groups),
      gmem<const int32_t>(g.b_sum, g.n * s.b_groups), gmem<const float>(g.bias, g.n),
      gmem<uint8_t>(static_cast<uint8_t *>(g.y), extent(g.m, g.n, g.ldy) * real_bytes(g.y_type)),
      gmem<float>(g.partial, s.splits > 1 ? s.splits * g.m * g.n : 0), s));
}

// Checks the arguments and completes them.
template <ByteKind kind>
OpError make_byte_shape(const ByteGemm &g, ByteShape &s) {
  const auto refuse = [](const char *what) {
    return OpError{PLUQ_STATUS_INVALID, std::string("byte_gemm: ") + what};
  };
  s.m = g.m, s.n = g.n, s.k = g.k, s.lda = g.lda, s.ldb = byte_pitch(g.k), s.ldy = g.ldy;
  s.a_group = g.a_group >= g.k ? 0 : g.a_group;
  s.b_group = g.b_group >= g.k ? 0 : g.b_group;
  s.b_rows = g.b_rows;
  s.a_groups = s.a_group == 0 ? 1 : static_cast<int32_t>((g.k + s.a_group - 1) / s.a_group);
  s.b_groups = s.b_group == 0 ? 1 : static_cast<int32_t>((g.k + s.b_group - 1) / s.b_group);
  int64_t x = s.a_group, z = s.b_group;  // the runs in which both scales stay: their common divisor
  while (z != 0) {
    const int64_t r = x % z;
    x = z, z = r;
  }
  s.period = x;
  s.splits = g.splits < 1 ? 1 : g.splits;
  s.y_type = static_cast<int32_t>(g.y_type);
  constexpr int64_t kMost = 1 << 30;  // rows, columns and scales are counted in 31 bits
  if (g.m >= kMost || g.n >= kMost || g.m * s.a_groups >= kMost || g.n * s.b_groups >= kMost ||
      g.m * s.b_groups >= kMost) {
    return refuse("M, N or the number of scales is beyond 2^30");
  }
  if (s.period % kBytePeriod != 0) return refuse("scales change within 32 columns");
  if (kind == ByteKind::kS8 && g.k > kMaxInt8Depth) return refuse("K is beyond 131072");
  if (g.b_zero != nullptr && g.a_sum == nullptr) return refuse("zero points of W need sums of x");
  if (g.a_zero != nullptr && g.b_sum == nullptr) return refuse("zero points of x need sums of W");
  if (reinterpret_cast<uintptr_t>(g.a) % 16 != 0 || reinterpret_cast<uintptr_t>(g.b) % 16 != 0 ||
      g.lda * ByteTraits<kind>::kABytes % 16 != 0) {
    return refuse("rows of x or W do not begin at multiples of 16 bytes");
  }
  if (g.lda < s.ldb && (!ByteTraits<kind>::kWide || g.k % 8 != 0))
    return refuse("rows of x are not padded to 64 columns");
  return {};
}

template <ByteKind kind>
OpError launch_byte_gemm(const pluq_exec *exec, const ByteGemm &g) {
  if (g.m == 0 || g.n == 0) return {};
  ByteShape s{};
  OpError e = make_byte_shape<kind>(g, s);
  if (e) return e;
  const Stream stream(exec);
  if (g.m <= 16) {
    e = launch_byte_tile<kind, 16>(stream, g, s);
  } else if (kind != ByteKind::kS8 || g.m <= 64) {
    e = launch_byte_tile<kind, 64>(stream, g, s);
  } else if constexpr (kind == ByteKind::kS8) {  // the others' sums and scales would spill
    e = launch_byte_tile<kind, 128>(stream, g, s);
  }
  if (e || s.splits == 1) return e;
  LaunchShape shape;
  shape.grid = {static_cast<uint32_t>((g.m * g.n + kSumThreads - 1) / kSumThreads), 1, 1};
  shape.threads = kSumThreads;
  shape.name = "sum_parts_kernel";
  return to_op_error(launch(
      &sum_parts_kernel<kSumThreads>, shape, stream,
      gmem<const float>(g.partial, s.splits * g.m * g.n), gmem<const float>(g.bias, g.n),
      gmem<uint8_t>(static_cast<uint8_t *>(g.y), extent(g.m, g.n, g.ldy) * real_bytes(g.y_type)),
      g.m, g.n, g.ldy, s.splits, s.y_type));
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
