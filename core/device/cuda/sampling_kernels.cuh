// SPDX-License-Identifier: Apache-2.0
// What the choice of the next token needs of [rows, vocab] logits, one block per row: the largest,
// or the k largest with the weight of all others. What is copied to the host is k long, not vocab.
#pragma once

#include <cmath>

#include "pluq/cuda/cuda.hpp"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {
namespace engine {

constexpr int kSampleThreads = 1024;
constexpr int kSampleWarps = kSampleThreads / 32;
constexpr int kDigits = 256;
constexpr uint32_t kLowestFinite = 0x00800000U, kInfinity = 0xff800000U;  // of rank_key

// Ordered as the numbers are, both zeros alike; NaN is 0, below everything.
PLUQ_DEVICE uint32_t rank_key(float v) {
  if (v != v) return 0;
  const uint32_t u = float_bits(v == 0 ? 0.0F : v);
  return (u & 0x80000000U) != 0 ? ~u : u | 0x80000000U;
}
PLUQ_DEVICE bool is_finite_key(uint32_t key) { return key >= kLowestFinite && key < kInfinity; }
// Larger values first, and the lower id of equal ones.
PLUQ_DEVICE uint64_t rank_of(uint32_t key, int64_t id) {
  return static_cast<uint64_t>(key) << 32 | static_cast<uint32_t>(~static_cast<uint32_t>(id));
}

PLUQ_DEVICE uint64_t shfl_xor64(uint64_t v, int lanes) {
  const auto high = shfl_xor(static_cast<uint32_t>(v >> 32), lanes),
             low = shfl_xor(static_cast<uint32_t>(v), lanes);
  return static_cast<uint64_t>(high) << 32 | low;
}

// The largest rank of the block, in every thread; `shared` has kSampleWarps elements.
PLUQ_DEVICE uint64_t block_largest(uint64_t rank, const smem<uint64_t>& shared) {
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const uint64_t other = shfl_xor64(rank, lanes);
    if (other > rank) rank = other;
  }
  if (lane_id() == 0) shared.store(warp_id(), rank);
  sync_threads();
  for (int i = 0; i < kSampleWarps; ++i) {
    const uint64_t other = shared.load(i);
    if (other > rank) rank = other;
  }
  sync_threads();
  return rank;
}

// The largest rank of a row of logits.
PLUQ_DEVICE uint64_t row_largest(const gmem<const float>& logits, int64_t first, int64_t vocab,
                                 const smem<uint64_t>& shared) {
  uint64_t rank = 0;
  PLUQ_UNROLL_N(4)
  for (int64_t i = thread_idx().x; i < vocab; i += kSampleThreads) {
    const uint64_t own = rank_of(rank_key(logits.load(first + i)), i);
    if (own > rank) rank = own;
  }
  return block_largest(rank, shared);
}

// ids [rows]: the lowest id among the largest logits, -1 when the largest is not finite.
PLUQ_KERNEL(kSampleThreads, 1)
void kernel_argmax(gmem<const float> logits, int64_t vocab, gmem<int32_t> ids) {
  PLUQ_STATIC_SMEM(uint64_t, shared, kSampleWarps);
  const int64_t row = block_idx().x;
  const uint64_t rank = row_largest(logits, row * vocab, vocab, shared);
  if (thread_idx().x != 0) return;
  ids.store(row, is_finite_key(static_cast<uint32_t>(rank >> 32))
                     ? static_cast<int32_t>(~static_cast<uint32_t>(rank))
                     : -1);
}

// Where the need-th largest digit lies: chosen [0] = its bin, [1] = how many of that bin are
// needed, [2] = 1 when those are all of it. Run by the first warp.
PLUQ_DEVICE void choose_digit(const smem<int32_t>& bins, int32_t need,
                              const smem<int32_t>& chosen) {
  constexpr int kPerLane = kDigits / 32;
  const int first = kDigits - 1 - lane_id() * kPerLane;
  int32_t own = 0;
  for (int i = 0; i < kPerLane; ++i) own += bins.load(first - i);
  int32_t up_to = own;
  for (int n = 1; n < 32; n *= 2) {
    const int32_t before = shfl_up(up_to, n);
    if (lane_id() >= n) up_to += before;
  }
  int32_t above = up_to - own;
  if (above >= need || up_to < need) return;
  for (int i = 0; i < kPerLane; ++i) {
    const int32_t here = bins.load(first - i);
    if (above + here >= need) {
      chosen.store(0, first - i);
      chosen.store(1, need - above);
      chosen.store(2, above + here == need ? 1 : 0);
      return;
    }
    above += here;
  }
}

// The k largest finite logits of each row, in no order: ids and values [rows, k], counts [rows, 2]
// (how many were written; how many are finite, -1 when the largest is infinite) and rest [rows],
// the sum of exp((logit - largest) / temperature) over the finite ones that were not written (0
// without `scale`, which is 1 / temperature). Radix selection, 8 bits of (value, ~id) at a time.
PLUQ_KERNEL(kSampleThreads, 1)
void kernel_top_logits(gmem<const float> logits, int64_t vocab, int32_t k, float scale,
                       gmem<int32_t> ids, gmem<float> values, gmem<int32_t> counts,
                       gmem<double> rest) {
  PLUQ_STATIC_SMEM(uint64_t, largest, kSampleWarps);
  PLUQ_STATIC_SMEM(int32_t, bins, kDigits);
  PLUQ_STATIC_SMEM(int32_t, chosen, 3);
  PLUQ_STATIC_SMEM(int32_t, total, 2);  // finite logits; written ones
  PLUQ_STATIC_SMEM(double, sums, kSampleThreads);
  const int64_t row = block_idx().x, at = row * vocab;
  const int thread = static_cast<int>(thread_idx().x);
  const uint64_t best = row_largest(logits, at, vocab, largest);
  const auto best_key = static_cast<uint32_t>(best >> 32);
  if (thread < 2) total.store(thread, 0);
  // Taken are those whose rank, shifted, is at least `prefix`.
  uint64_t prefix = 0;
  int shift = 63;
  int32_t need = k, finite = 0;
  for (int digit = 0; digit < 8; ++digit) {
    if (thread < kDigits) bins.store(thread, 0);
    sync_threads();
    for (int64_t i = thread; i < vocab; i += kSampleThreads) {
      const uint32_t key = rank_key(logits.load(at + i));
      const uint64_t rank = rank_of(key, i);
      if (!is_finite_key(key) || (digit > 0 && rank >> shift != prefix)) continue;
      atomic_add(bins, static_cast<int64_t>(rank >> (56 - 8 * digit) & 255), 1);
    }
    sync_threads();
    if (digit == 0) {
      if (thread < kDigits && bins.load(thread) != 0) atomic_add(total, 0, bins.load(thread));
      sync_threads();
      finite = total.load(0);
      if (finite <= k) break;
    }
    if (warp_id() == 0) choose_digit(bins, need, chosen);
    sync_threads();
    prefix = prefix << 8 | static_cast<uint32_t>(chosen.load(0));
    need = chosen.load(1);
    shift = 56 - 8 * digit;
    const bool whole = chosen.load(2) != 0;
    sync_threads();
    if (whole) break;
  }
  double sum = 0;
  const float top = logits.load(at + static_cast<int64_t>(~static_cast<uint32_t>(best)));
  for (int64_t i = thread; i < vocab; i += kSampleThreads) {
    const float v = logits.load(at + i);
    const uint32_t key = rank_key(v);
    if (!is_finite_key(key)) continue;
    if (rank_of(key, i) >> shift >= prefix) {
      const int64_t slot = row * k + atomic_add(total, 1, 1);
      ids.store(slot, static_cast<int32_t>(i));
      values.store(slot, v);
    } else if (scale > 0) {
      sum += static_cast<double>(expf((v - top) * scale));
    }
  }
  sums.store(thread, sum);
  for (int n = kSampleThreads / 2; n > 0; n /= 2) {
    sync_threads();
    if (thread < n) sums.store(thread, sums.load(thread) + sums.load(thread + n));
  }
  if (thread != 0) return;
  counts.store(2 * row, total.load(1));
  counts.store(2 * row + 1, best_key >= kInfinity ? -1 : finite);
  rest.store(row, sums.load(0));
}

}  // namespace engine
}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
