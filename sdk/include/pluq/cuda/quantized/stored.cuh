// SPDX-License-Identifier: Apache-2.0
// Integers of every checkpoint layout (pluq/stored.hpp), one by one, as the kernels read them that
// repack a layer while it is loaded. Slow per integer, and run once.
#pragma once

#include <string>

#include "pluq/cuda/operands.hpp"
#include "pluq/cuda/quantized/ops.h"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

constexpr int kLoadThreads = 256;

// The shape of `threads` threads in all.
inline LaunchShape load_shape(int64_t threads, const char *name) {
  LaunchShape shape;
  shape.grid = {static_cast<uint32_t>((threads + kLoadThreads - 1) / kLoadThreads), 1, 1};
  shape.threads = kLoadThreads;
  shape.name = name;
  return shape;
}

// StoredInts as a kernel argument.
struct IntSource {
  gmem<const uint8_t> bytes;
  int64_t row_stride, word_stride, first;
  int32_t order, across, bits;
  uint32_t word_add, add;

  static IntSource make(const StoredInts &from, const void *source, int64_t source_bytes) {
    IntSource s;
    s.bytes = gmem<const uint8_t>(static_cast<const uint8_t *>(source), source_bytes);
    s.row_stride = from.row_stride, s.word_stride = from.word_stride, s.first = from.first;
    s.order = static_cast<int32_t>(from.order), s.across = from.across ? 1 : 0, s.bits = from.bits;
    s.word_add = from.word_add, s.add = from.add;
    return s;
  }
  PLUQ_DEVICE uint32_t word(int64_t i) const { return bytes.load_as<uint32_t>(4 * i) + word_add; }
  // Integer i of `width` bits of the stream whose first word is `begin`.
  PLUQ_DEVICE uint32_t stream(int64_t begin, int width, uint32_t i) const {
    const uint64_t bit = static_cast<uint64_t>(i) * static_cast<uint32_t>(width);
    const int64_t at = begin + static_cast<int64_t>(bit / 32) * word_stride;
    const int shift = static_cast<int>(bit % 32);
    uint32_t value = word(at) >> shift;
    if (shift + width > 32) value |= word(at + word_stride) << (32 - shift);
    return value & ((1U << width) - 1);
  }
  // Integer i of packed row `row`, before `add`; bits above it may be set.
  PLUQ_DEVICE uint32_t packed(int64_t row, uint32_t i) const {
    const int64_t begin = row * row_stride;
    switch (static_cast<IntOrder>(order)) {
      case IntOrder::kStream:
        return stream(begin, bits, i);
      case IntOrder::kSparse: {
        const uint32_t per_word = 32U / static_cast<uint32_t>(bits);
        return word(begin + i / per_word * word_stride) >> (i % per_word * bits);
      }
      case IntOrder::kPlanar: {
        uint32_t value = 0;
        int64_t plane = begin + i / 32 * bits * word_stride;
        int placed = 0;
        for (int width = 8; width > 0; width /= 2) {
          if (bits - placed < width) continue;
          value |= stream(plane, width, i % 32) << placed;
          placed += width;
          plane += width * word_stride;
        }
        return value;
      }
      case IntOrder::kAwq: {  // number j of eight is in nibble 4 (j % 2) + j / 2
        const uint32_t j = i % 8;
        return word(begin + i / 8 * word_stride) >> (4 * (4 * (j % 2) + j / 2));
      }
      case IntOrder::kAwqTiles: {  // within 32 columns, 8 a + 2 c + l lies at 8 c + 4 l + a
        const uint32_t m = i % 32, slot = m % 8 / 2 * 8 + m % 2 * 4 + m / 8;
        const uint32_t at = static_cast<uint32_t>(row % 4) * 64 + i % 64 / 32 * 32 + slot;
        const int64_t half = row / 4 * row_stride + i / 64 * 64 + at / 4;
        return static_cast<uint32_t>(bytes.load_as<uint16_t>(2 * half)) >> (at % 4 * 4);
      }
      case IntOrder::kBytes:
        break;
    }
    return bytes.load(begin + static_cast<int64_t>(i) * word_stride);
  }
  // The integer of row n and column k of the matrix; a packed row has fewer than 2^32.
  PLUQ_DEVICE uint32_t at(int64_t n, int64_t k) const {
    const int64_t row = across != 0 ? k : n, i = first + (across != 0 ? n : k);
    return (packed(row, static_cast<uint32_t>(i)) + add) & ((1U << bits) - 1);
  }
};

inline OpError check_stored(const StoredInts &stored, const char *what) {
  const bool four =
      (stored.order != IntOrder::kAwq && stored.order != IntOrder::kAwqTiles) || stored.bits == 4;
  const bool eight = stored.order != IntOrder::kBytes || stored.bits == 8;
  if (stored.bits >= 2 && stored.bits <= 8 && four && eight) return {};
  return {PLUQ_STATUS_INVALID, std::string(what) + ": integers of " + std::to_string(stored.bits) +
                                   " bits in order " +
                                   std::to_string(static_cast<int>(stored.order))};
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
