// SPDX-License-Identifier: Apache-2.0
// Exchanges within a warp: shuffles, votes and sums. T has 4 bytes. They order no memory. In
// emulation every lane of the mask must call the same one from the same place.
#pragma once

#include "pluq/cuda/platform.hpp"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

#if PLUQ_CUDA_EMULATE

struct shuffle_operand {
  uint32_t value, source, mask, result;
  const char *file;
  uint32_t line;
};

inline void run_shuffle(pluq_emu_block *, uint32_t, void *const *operands, void *) {
  for (int lane = 0; lane < 32; ++lane) {
    auto *o = static_cast<shuffle_operand *>(operands[lane]);
    if (o == nullptr) continue;
    const auto *from = static_cast<const shuffle_operand *>(operands[o->source & 31]);
    if (from == nullptr) {
      char text[160];
      std::snprintf(text, sizeof text,
                    "shuffle: lane %d reads lane %u, which is not in the mask 0x%08x", lane,
                    o->source & 31, o->mask);
      emulator_fail(text, o->file, o->line);
    }
    o->result = from->value;
  }
}

template <class T>
inline T shuffle(T v, uint32_t source, uint32_t mask, const char *what, const char *file,
                 uint32_t line) {
  static_assert(sizeof(T) == 4, "shuffles move 4 bytes");
  shuffle_operand o{0, source, mask, 0, file, line};
  std::memcpy(&o.value, &v, 4);
  pluq_emu_block *b = block_state();
  b->api->collective(b, what, 32, mask, &o, &run_shuffle, nullptr, file, line);
  std::memcpy(&v, &o.result, 4);
  return v;
}

template <class T>
inline T shfl(T v, int source, uint32_t mask = kFullMask PLUQ_AT) {
  return shuffle(v, static_cast<uint32_t>(source) & 31, mask, "shfl" PLUQ_HERE);
}
template <class T>
inline T shfl_xor(T v, int lanes, uint32_t mask = kFullMask PLUQ_AT) {
  return shuffle(v, static_cast<uint32_t>(lane_id() ^ lanes) & 31, mask, "shfl_xor" PLUQ_HERE);
}
// From lane - n; the first n lanes keep their own.
template <class T>
inline T shfl_up(T v, int n, uint32_t mask = kFullMask PLUQ_AT) {
  const int from = lane_id() - n;
  return shuffle(v, static_cast<uint32_t>(from < 0 ? lane_id() : from), mask, "shfl_up" PLUQ_HERE);
}
// From lane + n; the last n lanes keep their own.
template <class T>
inline T shfl_down(T v, int n, uint32_t mask = kFullMask PLUQ_AT) {
  const int from = lane_id() + n;
  return shuffle(v, static_cast<uint32_t>(from > 31 ? lane_id() : from), mask,
                 "shfl_down" PLUQ_HERE);
}

inline void run_ballot(pluq_emu_block *, uint32_t, void *const *operands, void *) {
  uint32_t votes = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (operands[lane] != nullptr && *static_cast<uint32_t *>(operands[lane]) != 0)
      votes |= 1U << lane;
  for (int lane = 0; lane < 32; ++lane)
    if (operands[lane] != nullptr) *static_cast<uint32_t *>(operands[lane]) = votes;
}
// Bit per lane whose predicate holds.
inline uint32_t ballot_sync(bool predicate, uint32_t mask = kFullMask PLUQ_AT) {
  uint32_t o = predicate ? 1 : 0;
  pluq_emu_block *b = block_state();
  b->api->collective(b, "ballot", 32, mask, &o, &run_ballot, nullptr PLUQ_HERE);
  return o;
}
inline bool any_sync(bool predicate, uint32_t mask = kFullMask PLUQ_AT) {
  return ballot_sync(predicate, mask PLUQ_HERE) != 0;
}
inline bool all_sync(bool predicate, uint32_t mask = kFullMask PLUQ_AT) {
  return ballot_sync(!predicate, mask PLUQ_HERE) == 0;
}

#else

template <class T>
PLUQ_DEVICE T shfl(T v, int source, uint32_t mask = kFullMask) {
  return __shfl_sync(mask, v, source);
}
template <class T>
PLUQ_DEVICE T shfl_xor(T v, int lanes, uint32_t mask = kFullMask) {
  return __shfl_xor_sync(mask, v, lanes);
}
template <class T>
PLUQ_DEVICE T shfl_up(T v, int n, uint32_t mask = kFullMask) {
  return __shfl_up_sync(mask, v, static_cast<unsigned>(n));
}
template <class T>
PLUQ_DEVICE T shfl_down(T v, int n, uint32_t mask = kFullMask) {
  return __shfl_down_sync(mask, v, static_cast<unsigned>(n));
}
PLUQ_DEVICE uint32_t ballot_sync(bool predicate, uint32_t mask = kFullMask) {
  return __ballot_sync(mask, predicate);
}
PLUQ_DEVICE bool any_sync(bool predicate, uint32_t mask = kFullMask) {
  return __any_sync(mask, predicate) != 0;
}
PLUQ_DEVICE bool all_sync(bool predicate, uint32_t mask = kFullMask) {
  return __all_sync(mask, predicate) != 0;
}

#endif

// Sum and maximum over the warp, in every lane; butterfly order (16, 8, 4, 2, 1), so deterministic.
#if PLUQ_CUDA_EMULATE
struct ButterflySum {
  template <class T>
  T operator()(T a, T b) const {
    return a + b;
  }
};
struct ButterflyMax {
  template <class T>
  T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};
// All five exchanges at once: the same results as shuffles give, with a fifth of the switches.
template <class T, class Op>
inline void run_butterfly(pluq_emu_block *, uint32_t, void *const *operands, void *) {
  T v[32], next[32];
  for (int lane = 0; lane < 32; ++lane) v[lane] = *static_cast<T *>(operands[lane]);
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    for (int lane = 0; lane < 32; ++lane) next[lane] = Op()(v[lane], v[lane ^ lanes]);
    std::memcpy(v, next, sizeof v);
  }
  for (int lane = 0; lane < 32; ++lane) *static_cast<T *>(operands[lane]) = v[lane];
}
template <class T>
inline T warp_sum(T v PLUQ_AT) {
  pluq_emu_block *b = block_state();
  b->api->collective(b, "warp_sum", 32, kFullMask, &v, &run_butterfly<T, ButterflySum>,
                     nullptr PLUQ_HERE);
  return v;
}
template <class T>
inline T warp_max(T v PLUQ_AT) {
  pluq_emu_block *b = block_state();
  b->api->collective(b, "warp_max", 32, kFullMask, &v, &run_butterfly<T, ButterflyMax>,
                     nullptr PLUQ_HERE);
  return v;
}
#else
template <class T>
PLUQ_DEVICE T warp_sum(T v) {
  PLUQ_UNROLL
  for (int lanes = 16; lanes > 0; lanes /= 2) v += shfl_xor(v, lanes);
  return v;
}
template <class T>
PLUQ_DEVICE T warp_max(T v) {
  PLUQ_UNROLL
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    const T other = shfl_xor(v, lanes);
    v = v < other ? other : v;
  }
  return v;
}
#endif

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
