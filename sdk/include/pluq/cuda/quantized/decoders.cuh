// SPDX-License-Identifier: Apache-2.0
// Decoders of weights in blocks: run(n, k, w) writes W[n, k .. k + 15] as floats, k a multiple of
// 16, zeros beyond K. ops.h says where codes and scales lie. A decoder is a kernel argument; its
// arrays carry their sizes.
#pragma once

#include "pluq/cuda/cuda.hpp"
#include "pluq/cuda/quantized/ops.h"
#include "pluq/gguf.hpp"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

constexpr int kRun = 16;  // columns decoded at a time

// e2m1 in bits 0-3 to f32: as f16 bits it is 2^-14 times its value.
PLUQ_DEVICE float e2m1_value(uint32_t code) {
  return f16_to_f32(static_cast<uint16_t>((code & 8U) << 12 | (code & 7U) << 9)) * 0x1p14F;
}
PLUQ_DEVICE float e8m0_value(uint8_t code) {
  return bits_float(code == 0 ? 0x00400000U : static_cast<uint32_t>(code) << 23);
}

// Eight bytes from byte `at` on: one load when they are aligned.
PLUQ_DEVICE u32x2 eight_bytes(gmem<const uint8_t> p, int64_t at, bool aligned) {
  if (aligned) return p.load_as<u32x2>(at);
  u32x2 out{{0, 0}};
  PLUQ_UNROLL
  for (int i = 0; i < 8; ++i) out.v[i / 4] |= static_cast<uint32_t>(p.load(at + i)) << (i % 4 * 8);
  return out;
}

struct IntDecoder {
  gmem<const uint32_t> codes;
  gmem<const float> scales, zeros;  // [groups, N]
  gmem<const int32_t> order;
  int64_t n, k, pitch, group, k_begin;
  int32_t bits, offsets;
  float zero;

  static IntDecoder make(const BlockWeights &w) {
    IntDecoder d;
    d.codes = gmem<const uint32_t>(static_cast<const uint32_t *>(w.codes), w.codes_bytes / 4);
    d.scales = gmem<const float>(w.scales, w.groups * w.n);
    d.zeros = gmem<const float>(w.zeros, w.zeros == nullptr ? 0 : w.groups * w.n);
    d.order = gmem<const int32_t>(w.order, w.order == nullptr ? 0 : w.k);
    d.n = w.n, d.k = w.k, d.pitch = w.code_pitch, d.bits = w.bits, d.zero = w.zero;
    d.group = w.group < 1 ? w.k_begin + w.k : w.group;
    d.k_begin = w.k_begin;
    d.offsets = w.offsets ? 1 : 0;
    return d;
  }
  PLUQ_DEVICE void run(int64_t row, int64_t k0, float *w) const {
    const bool ordered = static_cast<bool>(order);
    int64_t last = -1;
    float s = 0, z = zero;
    uint64_t held = 0;
    int count = 0;
    int64_t word = row * pitch + k0 * bits / 32;
    if (k0 * bits % 32 != 0) {  // odd widths: the run begins in the middle of a word
      held = codes.load(word++) >> 16;
      count = 16;
    }
    PLUQ_UNROLL
    for (int j = 0; j < kRun; ++j) {
      if (count < bits) {
        held |= static_cast<uint64_t>(codes.load(word++)) << count;
        count += 32;
      }
      const float code = static_cast<float>(static_cast<uint32_t>(held) & ((1U << bits) - 1));
      held >>= bits;
      count -= bits;
      w[j] = 0;
      if (k0 + j >= k) continue;
      const int64_t g = ordered ? order.load(k0 + j) : (k_begin + k0 + j) / group;
      if (g != last) {
        s = scales.load(g * n + row);
        if (zeros) z = zeros.load(g * n + row);
        last = g;
      }
      w[j] = offsets != 0 ? s * code + z : s * (code - z);
    }
  }
};

struct ByteDecoder {
  gmem<const uint8_t> codes;
  gmem<const float> scales, zeros;  // [N, groups]
  int64_t k, group, groups, k_begin;
  float zero;

  static ByteDecoder make(const BlockWeights &w) {
    ByteDecoder d;
    d.codes = gmem<const uint8_t>(static_cast<const uint8_t *>(w.codes), w.codes_bytes);
    d.scales = gmem<const float>(w.scales, w.n * w.groups);
    d.zeros = gmem<const float>(w.zeros, w.zeros == nullptr ? 0 : w.n * w.groups);
    d.k = w.k, d.groups = w.groups, d.k_begin = w.k_begin, d.zero = w.zero;
    d.group = w.group < 1 ? w.k_begin + w.k : w.group;
    return d;
  }
  PLUQ_DEVICE void run(int64_t row, int64_t k0, float *w) const {
    int64_t last = -1;
    float s = 0, z = zero;
    PLUQ_UNROLL
    for (int j = 0; j < kRun; ++j) {
      w[j] = 0;
      if (k0 + j >= k) continue;
      const int64_t g = (k_begin + k0 + j) / group;
      if (g != last) {
        s = scales.load(row * groups + g);
        if (zeros) z = zeros.load(row * groups + g);
        last = g;
      }
      w[j] = s * (static_cast<float>(static_cast<int8_t>(codes.load(row * k + k0 + j))) - z);
    }
  }
};

struct Nf4Decoder {
  gmem<const uint8_t> codes;
  gmem<const float> scales;  // per block of the flattened matrix
  int64_t k, group;
  int32_t aligned;
  gmem<const float> table;  // [16]

  static Nf4Decoder make(const BlockWeights &w) {
    Nf4Decoder d;
    d.codes = gmem<const uint8_t>(static_cast<const uint8_t *>(w.codes), w.n * w.k / 2);
    d.scales = gmem<const float>(w.scales, (w.n * w.k + w.group - 1) / w.group);
    d.k = w.k, d.group = w.group;
    d.aligned = reinterpret_cast<uintptr_t>(w.codes) % 8 == 0 && w.k % 16 == 0 ? 1 : 0;
    d.table = gmem<const float>(w.table, 16);
    return d;
  }
  PLUQ_DEVICE void run(int64_t row, int64_t k0, float *w) const {
    const int64_t first = row * k + k0;  // even: K is
    if (k0 + kRun <= k && first % group + kRun <= group) {
      const u32x2 packed = eight_bytes(codes, first / 2, aligned != 0);
      const float s = scales.load(first / group);
      PLUQ_UNROLL
      for (int j = 0; j < kRun; ++j)
        w[j] = table.load(packed.v[j / 8] >> (j % 8 / 2 * 8 + (j % 2 == 0 ? 4 : 0)) & 15U) * s;
      return;
    }
    PLUQ_UNROLL
    for (int j = 0; j < kRun; ++j) {
      w[j] = 0;
      if (k0 + j >= k) continue;
      const uint32_t byte = codes.load((first + j) / 2);
      w[j] = table.load(byte >> (j % 2 == 0 ? 4 : 0) & 15U) * scales.load((first + j) / group);
    }
  }
};

template <bool kMx>
struct Float4Decoder {
  gmem<const uint8_t> codes, scale_bytes;
  int64_t k, groups;
  int32_t aligned;
  float divisor;
  static constexpr int kGroup = kMx ? 32 : 16;

  static Float4Decoder make(const BlockWeights &w) {
    Float4Decoder d;
    d.codes = gmem<const uint8_t>(static_cast<const uint8_t *>(w.codes), w.n * w.k / 2);
    d.scale_bytes = gmem<const uint8_t>(w.scale_bytes, w.n * w.groups);
    d.k = w.k, d.groups = w.groups, d.divisor = w.divisor;
    d.aligned = reinterpret_cast<uintptr_t>(w.codes) % 8 == 0 && w.k % 16 == 0 ? 1 : 0;
    return d;
  }
  PLUQ_DEVICE void run(int64_t row, int64_t k0, float *w) const {
    const uint8_t code = scale_bytes.load(row * groups + k0 / kGroup);
    const float s = kMx ? e8m0_value(code) : e4m3_to_f32(code) / divisor;
    if (k0 + kRun <= k) {
      const u32x2 packed = eight_bytes(codes, (row * k + k0) / 2, aligned != 0);
      PLUQ_UNROLL
      for (int j = 0; j < kRun; ++j) w[j] = e2m1_value(packed.v[j / 8] >> (j % 8 * 4) & 15U) * s;
      return;
    }
    PLUQ_UNROLL
    for (int j = 0; j < kRun; ++j) {
      w[j] = 0;
      if (k0 + j >= k) continue;
      w[j] = e2m1_value(codes.load((row * k + k0 + j) / 2) >> (j % 2 * 4) & 15U) * s;
    }
  }
};

// The bytes of one block, from `at` on, which begins at a multiple of kAlign: word_at and half_at
// below load them as wide as that allows, for pluq/gguf.hpp.
template <int kAlign>
struct BlockBytes {
  gmem<const uint8_t> p;
  int64_t at;
  PLUQ_DEVICE uint8_t operator[](int i) const { return p.load(at + i); }
};
// i is even.
template <int kAlign>
PLUQ_DEVICE float half_at(const BlockBytes<kAlign> &b, int i = 0) {
  return f16_to_f32(b.p.template load_as<uint16_t>(b.at + i));
}
// i is even, and a multiple of 4 when kAlign is.
template <int kAlign>
PLUQ_DEVICE uint32_t word_at(const BlockBytes<kAlign> &b, int i) {
  if constexpr (kAlign >= 4) {
    return b.p.template load_as<uint32_t>(b.at + i);
  } else {
    const uint32_t low = b.p.template load_as<uint16_t>(b.at + i);
    return low | static_cast<uint32_t>(b.p.template load_as<uint16_t>(b.at + i + 2)) << 16;
  }
}

// Blocks have 18 to 210 bytes, all even: they begin at multiples of 2, 4, 8 or 16 bytes, as long as
// the matrix does.
template <int kType>
struct GgufDecoder {
  static constexpr int kElements = kType < gguf::kQ2_K ? 32 : 256;
  static constexpr int kAlign = kType == gguf::kQ4_K || kType == gguf::kQ5_K   ? 16
                                : kType == gguf::kQ5_1                         ? 8
                                : kType == gguf::kQ4_1 || kType == gguf::kQ2_K ? 4
                                                                               : 2;
  gmem<const uint8_t> codes;
  int64_t blocks;  // per row

  static GgufDecoder make(const BlockWeights &w) {
    const gguf::BlockSize size = gguf::block_size(kType);
    GgufDecoder d;
    d.blocks = w.k / size.elements;
    d.codes =
        gmem<const uint8_t>(static_cast<const uint8_t *>(w.codes), w.n * d.blocks * size.bytes);
    return d;
  }
  PLUQ_DEVICE void run(int64_t row, int64_t k0, float *w) const {
    const int64_t block = k0 / kElements;
    if (block >= blocks) {
      PLUQ_UNROLL
      for (int j = 0; j < kRun; ++j) w[j] = 0;
      return;
    }
    const gguf::BlockSize size = gguf::block_size(kType);
    const BlockBytes<kAlign> bytes{codes, (row * blocks + block) * size.bytes};
    gguf::decode_run(kType, bytes, static_cast<int>(k0 % kElements) / kRun, w);
  }
};

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
