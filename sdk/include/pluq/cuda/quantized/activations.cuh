// SPDX-License-Identifier: Apache-2.0
// Rounding of activations to int8 or e4m3 before a product, a block per row; ops.h names the modes.
// Codes and scales equal the CPU's (pluq/cpu/int_kernels.inl, float_kernels.inl) bit for bit. Codes
// are written with the row padded to a multiple of 64 columns by zeros. A row that holds an Inf or
// a NaN gets NaN as its int8 scale.
#pragma once

#include "pluq/cuda/quantized/byte_gemm.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

constexpr int kRoundThreads = 256;

struct RoundShape {
  int64_t k, ldx, pitch, group, sum_group;
  int32_t x_type, mode, as_f16;
  float static_scale, bound;
  int32_t static_zero;
};

PLUQ_DEVICE float to_nearest(float v) { return rintf(v); }

// The result of every thread's value, combined in a fixed order; all threads of the block call it.
template <class Op>
PLUQ_DEVICE float block_reduce(smem<float> slots, float v, Op op) {
  PLUQ_UNROLL
  for (int lanes = 16; lanes > 0; lanes /= 2) v = op(v, shfl_xor(v, lanes));
  sync_threads();  // the slots may still be read
  if (lane_id() == 0) slots.store(warp_id(), v);
  sync_threads();
  v = slots.load(0);
  for (int i = 1; i < kRoundThreads / 32; ++i) v = op(v, slots.load(i));
  return v;
}

PLUQ_DEVICE float bounded(float v, float bound) {
  return bound > 0 && v > bound ? bound : bound > 0 && v < -bound ? -bound : v;
}

// v / scale as e4m3, clamped; a scale that is not above 0 belongs to a run of zeros.
PLUQ_DEVICE uint8_t fp8_code(float v, float scale) {
  if (!(scale > 0.0F)) return 0;
  const float q = v / scale;
  return f32_to_e4m3(q > 448.0F ? 448.0F : q < -448.0F ? -448.0F : q);
}

template <bool kInt8>
PLUQ_KERNEL(kRoundThreads, 1)
void round_rows_kernel(gmem<const uint8_t> x, gmem<uint8_t> codes, gmem<float> scales,
                       gmem<int32_t> zeros, gmem<int32_t> sums, RoundShape s) {
  PLUQ_STATIC_SMEM(float, slots, kRoundThreads / 32);
  const int thread = static_cast<int>(thread_idx().x);
  const int64_t m = block_idx().x;
  const int64_t in = m * s.ldx, out = m * s.pitch;
  const auto mode = static_cast<RoundMode>(s.mode);
  const auto larger = [](float p, float q) { return p > q ? p : q; };

  if constexpr (kInt8) {
    float low = 0, high = 0, odd = 0;  // odd: 1 when something is not finite
    for (int64_t k = thread; k < s.k; k += kRoundThreads) {
      const float v = load_real(x, s.x_type, in + k);
      low = v < low ? v : low;
      high = v > high ? v : high;
      if ((float_bits(v) & 0x7f800000U) == 0x7f800000U) odd = 1;
    }
    low = -block_reduce(slots, -low, larger);
    high = block_reduce(slots, high, larger);
    odd = block_reduce(slots, odd, larger);
    float scale = s.static_scale;
    int32_t zero = 0;
    bool dead = odd > 0;
    if (mode == RoundMode::kInt8Static) {
      zero = s.static_zero;
    } else if (mode == RoundMode::kInt8Token) {
      scale = larger(high, -low) / 127.0F;
      dead = dead || !(scale > 0.0F);
    } else {
      scale = (high * 0.5F - low * 0.5F) / 127.5F;  // halves first: the difference may overflow
      dead = dead || !(scale > 0.0F);
      if (!dead) {
        const float z = -128.0F - low / scale;
        zero = static_cast<int32_t>(to_nearest(z < -128.0F ? -128.0F : z > 127.0F ? 127.0F : z));
      }
    }
    if (thread == 0) {
      scales.store(m, odd > 0 ? bits_float(0x7fc00000U) : dead ? 0.0F : scale);
      if (zeros) zeros.store(m, dead ? 0 : zero);
    }
    const float bottom = -128.0F - static_cast<float>(zero),
                top = 127.0F - static_cast<float>(zero);
    for (int64_t k = thread; k < s.pitch; k += kRoundThreads) {
      int32_t q = 0;
      if (k < s.k && !dead) {
        const float v = load_real(x, s.x_type, in + k) / scale;
        q = static_cast<int32_t>(to_nearest(v < bottom ? bottom : v > top ? top : v)) + zero;
      }
      if (s.as_f16 != 0) {
        codes.as<uint16_t>().store(out + k,
                                   f32_to_f16(static_cast<float>(k < s.k && !dead ? q - zero : 0)));
      } else {
        codes.store(out + k, static_cast<uint8_t>(q));
      }
    }
    if (sums &&
        s.as_f16 == 0) {  // a warp per run; codes are read back after all of them are written
      sync_threads();
      const int64_t run = s.sum_group == 0 ? s.k : s.sum_group, runs = (s.k + run - 1) / run;
      for (int64_t r = warp_id(); r < runs; r += kRoundThreads / 32) {
        int32_t sum = 0;
        const int64_t end = (r + 1) * run < s.k ? (r + 1) * run : s.k;
        for (int64_t k = r * run + lane_id(); k < end; k += 32)
          sum += static_cast<int8_t>(codes.load(out + k));
        sum = warp_sum(sum);
        if (lane_id() == 0) sums.store(m * runs + r, sum);
      }
    }
  } else {
    const auto put = [&](int64_t k, uint8_t code) {
      if (s.as_f16 != 0) {
        codes.as<uint16_t>().store(out + k, e4m3_to_f16_bits(code));
      } else {
        codes.store(out + k, code);
      }
    };
    if (mode == RoundMode::kFp8Group) {  // a warp per run
      const int64_t runs = (s.k + s.group - 1) / s.group;
      for (int64_t r = warp_id(); r < runs; r += kRoundThreads / 32) {
        const int64_t end = (r + 1) * s.group < s.k ? (r + 1) * s.group : s.k;
        float most = 0;
        for (int64_t k = r * s.group + lane_id(); k < end; k += 32) {
          const float v = bounded(load_real(x, s.x_type, in + k), s.bound);
          most = larger(v < 0 ? -v : v, most);
        }
        PLUQ_UNROLL
        for (int lanes = 16; lanes > 0; lanes /= 2) most = larger(shfl_xor(most, lanes), most);
        const float scale = most / 448.0F;
        if (lane_id() == 0) scales.store(m * runs + r, scale);
        for (int64_t k = r * s.group + lane_id(); k < end; k += 32)
          put(k, fp8_code(bounded(load_real(x, s.x_type, in + k), s.bound), scale));
      }
    } else {
      float scale = s.static_scale;
      if (mode == RoundMode::kFp8Token) {
        float most = 0;
        for (int64_t k = thread; k < s.k; k += kRoundThreads) {
          const float v = bounded(load_real(x, s.x_type, in + k), s.bound);
          most = larger(v < 0 ? -v : v, most);
        }
        scale = block_reduce(slots, most, larger) / 448.0F;
      }
      if (thread == 0) scales.store(m, scale);
      for (int64_t k = thread; k < s.k; k += kRoundThreads)
        put(k, fp8_code(bounded(load_real(x, s.x_type, in + k), s.bound), scale));
    }
    for (int64_t k = s.k + thread; k < s.pitch; k += kRoundThreads) put(k, 0);
  }
}

template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void cast_rows_kernel(gmem<const uint8_t> x, gmem<uint8_t> out, int64_t m, int64_t k, int64_t ldx,
                      int64_t pitch, int32_t x_type, int32_t out_type) {
  const int64_t i = static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x;
  if (i >= m * pitch) return;
  const int64_t row = i / pitch, column = i % pitch;
  store_real(out, out_type, i, column < k ? load_real(x, x_type, row * ldx + column) : 0.0F);
}

inline OpError launch_round(const pluq_exec *exec, const RoundActivations &r) {
  if (r.m == 0 || r.k == 0) return {};
  if (r.mode == RoundMode::kFp8Group && r.group < 1)
    return {PLUQ_STATUS_INVALID, "round: groups of " + std::to_string(r.group) + " columns"};
  RoundShape s{};
  s.k = r.k, s.ldx = r.ldx, s.pitch = byte_pitch(r.k), s.group = r.group;
  s.sum_group = r.sum_group >= r.k ? 0 : r.sum_group;
  s.x_type = static_cast<int32_t>(r.x_type), s.mode = static_cast<int32_t>(r.mode);
  s.as_f16 = r.as_f16 ? 1 : 0;
  s.static_scale = r.static_scale, s.bound = r.bound, s.static_zero = r.static_zero;
  const int64_t groups = r.mode == RoundMode::kFp8Group ? (r.k + r.group - 1) / r.group : 1;
  const int64_t sum_groups = s.sum_group == 0 ? 1 : (r.k + s.sum_group - 1) / s.sum_group;
  const bool int8 = static_cast<int>(r.mode) <= static_cast<int>(RoundMode::kInt8Static);
  LaunchShape shape;
  shape.grid = {static_cast<uint32_t>(r.m), 1, 1};
  shape.threads = kRoundThreads;
  shape.name = "round_rows_kernel";
  const gmem<const uint8_t> x(static_cast<const uint8_t *>(r.x),
                              extent(r.m, r.k, r.ldx) * real_bytes(r.x_type));
  const gmem<uint8_t> codes(static_cast<uint8_t *>(r.codes), r.m * s.pitch * (r.as_f16 ? 2 : 1));
  const gmem<float> scales(r.scales, r.m * groups);
  const gmem<int32_t> zeros(r.zeros, r.m), sums(r.sums, r.m * sum_groups);
  const Stream stream(exec);
  return to_op_error(
      int8 ? launch(&round_rows_kernel<true>, shape, stream, x, codes, scales, zeros, sums, s)
           : launch(&round_rows_kernel<false>, shape, stream, x, codes, scales, zeros, sums, s));
}

// x to rows of byte_pitch(K) elements of out_type in r.codes.
inline OpError launch_cast(const pluq_exec *exec, const RoundActivations &r, Real out_type) {
  if (r.m == 0 || r.k == 0) return {};
  const int64_t pitch = byte_pitch(r.k);
  LaunchShape shape;
  shape.grid = {static_cast<uint32_t>((r.m * pitch + kRoundThreads - 1) / kRoundThreads), 1, 1};
  shape.threads = kRoundThreads;
  shape.name = "cast_rows_kernel";
  return to_op_error(launch(
      &cast_rows_kernel<kRoundThreads>, shape, Stream(exec),
      gmem<const uint8_t>(static_cast<const uint8_t *>(r.x),
                          extent(r.m, r.k, r.ldx) * real_bytes(r.x_type)),
      gmem<uint8_t>(static_cast<uint8_t *>(r.codes), r.m * pitch * real_bytes(out_type)), r.m, r.k,
      r.ldx, pitch, static_cast<int32_t>(r.x_type), static_cast<int32_t>(out_type)));
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
