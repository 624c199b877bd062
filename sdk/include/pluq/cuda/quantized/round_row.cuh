// SPDX-License-Identifier: Apache-2.0
// Rounding of one row of activations to int8 or e4m3 by a block, for kernels that make the row
// themselves: its values come from a function of the column. RoundMode in ops.h names the formulas.
// Codes and scales equal the CPU's (pluq/cpu/int_kernels.inl, float_kernels.inl) bit for bit, for
// any number of threads. Codes are padded by zeros to byte_pitch(K) columns. A row that holds an
// Inf or a NaN gets NaN as its int8 scale; a NaN has the e4m3 code of NaN.
#pragma once

#include "pluq/cuda/operands.hpp"
#include "pluq/cuda/quantized/ops.h"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

struct RoundShape {
  int64_t k = 0, pitch = 0;  // columns, and elements between rows of codes
  int64_t group = 0;         // kFp8Group
  int64_t sum_group = 0;     // 0: all of K
  int32_t mode = 0;          // RoundMode
  int32_t as_f16 = 0;        // codes are f16 values
  float static_scale = 1, bound = 0;
  int32_t static_zero = 0;
};

// Arrays of all rows, as in RoundActivations.
struct RoundOutput {
  gmem<uint8_t> codes;
  gmem<float> scales;
  gmem<int32_t> zeros, sums;  // or null
};

inline bool rounds_to_int8(RoundMode mode) {
  return static_cast<int>(mode) <= static_cast<int>(RoundMode::kInt8Static);
}

PLUQ_DEVICE float to_nearest(float v) { return rintf(v); }

PLUQ_DEVICE float larger(float p, float q) { return p > q ? p : q; }

// The largest of every thread's value; all threads of the block call it. slots: [kThreads / 32]
template <int kThreads>
PLUQ_DEVICE float block_largest(const smem<float>& slots, float v) {
  PLUQ_UNROLL
  for (int lanes = 16; lanes > 0; lanes /= 2) v = larger(v, shfl_xor(v, lanes));
  sync_threads();  // the slots may still be read
  if (lane_id() == 0) slots.store(warp_id(), v);
  sync_threads();
  v = slots.load(0);
  for (int i = 1; i < kThreads / 32; ++i) v = larger(v, slots.load(i));
  return v;
}

PLUQ_DEVICE float bounded(float v, float bound) {
  return bound > 0 && v > bound ? bound : bound > 0 && v < -bound ? -bound : v;
}

// v / scale as e4m3, clamped; a scale that is not above 0 belongs to a run of zeros and NaN.
PLUQ_DEVICE uint8_t fp8_code(float v, float scale) {
  if (!(scale > 0.0F)) return v == v ? 0 : 0x7f;
  const float q = v / scale;
  return f32_to_e4m3(q > 448.0F ? 448.0F : q < -448.0F ? -448.0F : q);
}

// Sums of row m's codes, which are read back: a warp per run of columns.
template <int kThreads>
PLUQ_DEVICE void sum_codes(int64_t m, const RoundOutput& out, const RoundShape& s) {
  sync_threads();
  const int64_t run = s.sum_group == 0 ? s.k : s.sum_group, runs = (s.k + run - 1) / run;
  for (int64_t r = warp_id(); r < runs; r += kThreads / 32) {
    int32_t sum = 0;
    const int64_t end = (r + 1) * run < s.k ? (r + 1) * run : s.k;
    for (int64_t k = r * run + lane_id(); k < end; k += 32)
      sum += static_cast<int8_t>(out.codes.load(m * s.pitch + k));
    sum = warp_sum(sum);
    if (lane_id() == 0) out.sums.store(m * runs + r, sum);
  }
}

template <int kThreads, class Load>
PLUQ_DEVICE void round_row_int8(const Load& load, int64_t m, const RoundOutput& out,
                                const smem<float>& slots, const RoundShape& s) {
  const int thread = static_cast<int>(thread_idx().x);
  const int64_t at = m * s.pitch;
  const auto mode = static_cast<RoundMode>(s.mode);
  float low = 0, high = 0, odd = 0;  // odd: 1 when something is not finite
  for (int64_t k = thread; k < s.k; k += kThreads) {
    const float v = load(k);
    low = v < low ? v : low;
    high = v > high ? v : high;
    if ((float_bits(v) & 0x7f800000U) == 0x7f800000U) odd = 1;
  }
  low = -block_largest<kThreads>(slots, -low);
  high = block_largest<kThreads>(slots, high);
  odd = block_largest<kThreads>(slots, odd);
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
    out.scales.store(m, odd > 0 ? bits_float(0x7fc00000U) : dead ? 0.0F : scale);
    if (out.zeros) out.zeros.store(m, dead ? 0 : zero);
  }
  const float bottom = -128.0F - static_cast<float>(zero), top = 127.0F - static_cast<float>(zero);
  for (int64_t k = thread; k < s.pitch; k += kThreads) {
    int32_t q = 0;
    if (k < s.k && !dead) {
      const float v = load(k) / scale;
      q = static_cast<int32_t>(to_nearest(v < bottom ? bottom : v > top ? top : v)) + zero;
    }
    if (s.as_f16 != 0) {
      const float value = static_cast<float>(k < s.k && !dead ? q - zero : 0);
      out.codes.template as<uint16_t>().store(at + k, f32_to_f16(value));
    } else {
      out.codes.store(at + k, static_cast<uint8_t>(q));
    }
  }
  if (out.sums && s.as_f16 == 0) sum_codes<kThreads>(m, out, s);
}

template <int kThreads, class Load>
PLUQ_DEVICE void round_row_fp8(const Load& load, int64_t m, const RoundOutput& out,
                               const smem<float>& slots, const RoundShape& s) {
  const int thread = static_cast<int>(thread_idx().x);
  const int64_t at = m * s.pitch;
  const auto mode = static_cast<RoundMode>(s.mode);
  const auto put = [&](int64_t k, uint8_t code) {
    if (s.as_f16 != 0) {
      out.codes.template as<uint16_t>().store(at + k, e4m3_to_f16_bits(code));
    } else {
      out.codes.store(at + k, code);
    }
  };
  if (mode == RoundMode::kFp8Group) {  // a warp per run
    const int64_t runs = (s.k + s.group - 1) / s.group;
    for (int64_t r = warp_id(); r < runs; r += kThreads / 32) {
      const int64_t end = (r + 1) * s.group < s.k ? (r + 1) * s.group : s.k;
      float most = 0;
      for (int64_t k = r * s.group + lane_id(); k < end; k += 32) {
        const float v = bounded(load(k), s.bound);
        most = larger(v < 0 ? -v : v, most);
      }
      PLUQ_UNROLL
      for (int lanes = 16; lanes > 0; lanes /= 2) most = larger(shfl_xor(most, lanes), most);
      const float scale = most / 448.0F;
      if (lane_id() == 0) out.scales.store(m * runs + r, scale);
      for (int64_t k = r * s.group + lane_id(); k < end; k += 32)
        put(k, fp8_code(bounded(load(k), s.bound), scale));
    }
  } else {
    float scale = s.static_scale;
    if (mode == RoundMode::kFp8Token) {
      float most = 0;
      for (int64_t k = thread; k < s.k; k += kThreads) {
        const float v = bounded(load(k), s.bound);
        most = larger(v < 0 ? -v : v, most);
      }
      scale = block_largest<kThreads>(slots, most) / 448.0F;
    }
    if (thread == 0) out.scales.store(m, scale);
    for (int64_t k = thread; k < s.k; k += kThreads)
      put(k, fp8_code(bounded(load(k), s.bound), scale));
  }
  for (int64_t k = s.k + thread; k < s.pitch; k += kThreads) put(k, 0);
}

// Row m, whose values are load(k), to out. A thread calls load with columns of its own (its index
// and every kThreads-th from there), unless the mode is kFp8Group: then with any. Called by all
// kThreads threads of the block; slots: [kThreads / 32].
template <bool kInt8, int kThreads, class Load>
PLUQ_DEVICE void round_row(const Load& load, int64_t m, const RoundOutput& out,
                           const smem<float>& slots, const RoundShape& s) {
  if constexpr (kInt8) {
    round_row_int8<kThreads>(load, m, out, slots, s);
  } else {
    round_row_fp8<kThreads>(load, m, out, slots, s);
  }
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
