// SPDX-License-Identifier: Apache-2.0
// GGUF's block types, decoded to f32 one row at a time: the only place that knows their bits.
// Header-only C++17, no dependencies. Every product and sum is rounded to f32 on its own, in the
// order of the PyPI package `gguf`, whose results these equal bit for bit (do not compile with
// contraction of a*b+c). decode_run takes any source whose p[i] is byte i of a block, so that CUDA
// kernels use the same code.
//
// f16 = half; q = an element's code; nibble j of byte i = bits 4j..4j+3 of it.
//
// clang-format off
//   type   elements  bytes  layout
//   Q4_0        32     18   f16 d | 16 bytes: low nibble of byte i = element i, high = i + 16     d * (q - 8)
//   Q4_1        32     20   f16 d, f16 m | as Q4_0                                                d * q + m
//   Q5_0        32     22   f16 d | u32: bit i = fifth bit of element i | as Q4_0                 d * (q - 16)
//   Q5_1        32     24   f16 d, f16 m | u32 | as Q4_0                                          d * q + m
//   Q8_0        32     34   f16 d | 32 x i8                                                       d * q
//   Q2_K       256     84   16 bytes: scale (low) and min (high nibble) of 16 elements |
//                           64 bytes of 2-bit codes | f16 d, f16 dmin                             d*sc*q - dmin*m
//   Q3_K       256    110   32 bytes: third bits, inverted sense | 64 bytes of 2-bit codes |
//                           12 bytes: 16 scales of 6 bits | f16 d                                 d*(sc-32)*(q - 4)
//   Q4_K       256    144   f16 d, f16 dmin | 12 bytes: 8 scales and 8 mins of 6 bits |
//                           128 bytes of nibbles                                                  d*sc*q - dmin*m
//   Q5_K       256    176   f16 d, f16 dmin | 12 bytes as Q4_K | 32 bytes of fifth bits |
//                           128 bytes of nibbles                                                  d*sc*q - dmin*m
//   Q6_K       256    210   128 bytes of low nibbles | 64 bytes of upper two bits |
//                           16 x i8 scales | f16 d                                                d*sc*(q - 32)
// clang-format on
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define PLUQ_GGUF_INLINE __host__ __device__ __forceinline__
#define PLUQ_GGUF_UNROLL _Pragma("unroll")
#else
#define PLUQ_GGUF_INLINE inline
#define PLUQ_GGUF_UNROLL
#endif

namespace pluq {
namespace gguf {

enum Type : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30
};

// The half in bytes at, at + 1 of p.
template <class Bytes>
PLUQ_GGUF_INLINE float half_at(const Bytes& p, int at = 0) {
  const uint32_t h = static_cast<uint32_t>(p[at]) | static_cast<uint32_t>(p[at + 1]) << 8;
  uint32_t bits = (h & 0x7fff) << 13;
  float value;
  std::memcpy(&value, &bits, 4);
  value *= 0x1.0p112F;  // normalises subnormals
  std::memcpy(&bits, &value, 4);
  bits |= ((h & 0x7c00) == 0x7c00 ? 0x7f800000U : 0U) | (h & 0x8000) << 16;
  std::memcpy(&value, &bits, 4);
  return value;
}

// The eight 6-bit scales and mins of Q4_K and Q5_K. Bytes 0-3: low six bits of scales 0-3; 4-7: of
// mins 0-3; bytes 8-11: low nibbles of scales 4-7 and of mins 4-7; their upper two bits sit on top
// of bytes 0-3 and 4-7. They begin at byte `at` of p.
template <class Bytes>
PLUQ_GGUF_INLINE int six_bit_scale(const Bytes& p, int at, int j) {
  return j < 4 ? p[at + j] & 63 : (p[at + j + 4] & 15) | (p[at + j - 4] >> 6) << 4;
}
template <class Bytes>
PLUQ_GGUF_INLINE int six_bit_min(const Bytes& p, int at, int j) {
  return j < 4 ? p[at + j + 4] & 63 : p[at + j + 4] >> 4 | (p[at + j] >> 6) << 4;
}
inline void six_bit_pairs(const uint8_t* s, uint8_t* scales, uint8_t* mins) {
  for (int j = 0; j < 8; ++j) {
    scales[j] = static_cast<uint8_t>(six_bit_scale(s, 0, j));
    mins[j] = static_cast<uint8_t>(six_bit_min(s, 0, j));
  }
}

// Bytes at .. at + 3 of p, the first in the low bits.
template <class Bytes>
PLUQ_GGUF_INLINE uint32_t word_at(const Bytes& p, int at) {
  return static_cast<uint32_t>(p[at]) | static_cast<uint32_t>(p[at + 1]) << 8 |
         static_cast<uint32_t>(p[at + 2]) << 16 | static_cast<uint32_t>(p[at + 3]) << 24;
}

// A run is 16 elements, run r of a block its elements 16 r .. 16 r + 15. Their codes are gathered
// as bytes of four words, so that one instruction treats four of them.
constexpr int kRunElements = 16;
struct Codes {
  uint32_t words[4];
};
PLUQ_GGUF_INLINE int code_of(const Codes& q, int j) {
  return static_cast<int>(q.words[j / 4] >> (j % 4 * 8) & 255);
}
// `mask` of the 16 bytes from `at` on, moved down by `shift` bits.
template <class Bytes>
PLUQ_GGUF_INLINE Codes bits_of_bytes(const Bytes& p, int at, int shift, uint32_t mask) {
  Codes q{};
  PLUQ_GGUF_UNROLL
  for (int i = 0; i < 4; ++i) q.words[i] = word_at(p, at + 4 * i) >> shift & mask;
  return q;
}
// The upper bits of each code, which lie `shift` above the lower ones.
PLUQ_GGUF_INLINE void add_upper(Codes& q, const Codes& upper, int shift) {
  PLUQ_GGUF_UNROLL
  for (int i = 0; i < 4; ++i) q.words[i] |= upper.words[i] << shift;
}
PLUQ_GGUF_INLINE void scale_codes(const Codes& q, int zero, float scale, float* out) {
  PLUQ_GGUF_UNROLL
  for (int j = 0; j < kRunElements; ++j) out[j] = scale * static_cast<float>(code_of(q, j) - zero);
}
PLUQ_GGUF_INLINE void scale_codes_less(const Codes& q, float scale, float offset, float* out) {
  PLUQ_GGUF_UNROLL
  for (int j = 0; j < kRunElements; ++j) {
    const float product = scale * static_cast<float>(code_of(q, j));
    out[j] = product - offset;
  }
}

// Each writes the 16 elements of one run of the block at p.
template <class Bytes>
PLUQ_GGUF_INLINE void decode_q4_q5(const Bytes& p, bool five, bool with_min, int run, float* out) {
  const float d = half_at(p);
  const int high = with_min ? 4 : 2, low = high + (five ? 4 : 0);
  Codes q = bits_of_bytes(p, low, 4 * run, 0x0f0f0f0fU);
  if (five) {
    const uint32_t fifth = word_at(p, high) >> (16 * run);
    PLUQ_GGUF_UNROLL
    for (int i = 0; i < 4; ++i)  // bits 0-3 of a nibble to bits 4, 12, 20 and 28
      q.words[i] |= (((fifth >> (4 * i)) & 15U) * 0x00204081U & 0x01010101U) << 4;
  }
  if (!with_min) return scale_codes(q, five ? 16 : 8, d, out);
  const float m = half_at(p, 2);
  PLUQ_GGUF_UNROLL
  for (int j = 0; j < kRunElements; ++j) {
    const float product = d * static_cast<float>(code_of(q, j));
    out[j] = product + m;
  }
}

template <class Bytes>
PLUQ_GGUF_INLINE void decode_q8_0(const Bytes& p, int run, float* out) {
  const float d = half_at(p);
  const Codes q = bits_of_bytes(p, 2 + 16 * run, 0, 0xffffffffU);
  PLUQ_GGUF_UNROLL
  for (int j = 0; j < kRunElements; ++j)
    out[j] = d * static_cast<float>(static_cast<int8_t>(code_of(q, j)));
}

// Q2_K and Q3_K: 128 elements share 32 bytes, each of which holds four codes 32 elements apart.
template <class Bytes>
PLUQ_GGUF_INLINE Codes two_bit_codes(const Bytes& p, int at, int run) {
  return bits_of_bytes(p, at + run / 8 * 32 + run % 2 * 16, run % 8 / 2 * 2, 0x03030303U);
}

template <class Bytes>
PLUQ_GGUF_INLINE void decode_q2_k(const Bytes& p, int run, float* out) {
  const int scales = p[run];
  const float scale = half_at(p, 80) * static_cast<float>(scales & 15);
  const float offset = half_at(p, 82) * static_cast<float>(scales >> 4);
  scale_codes_less(two_bit_codes(p, 16, run), scale, offset, out);
}

template <class Bytes>
PLUQ_GGUF_INLINE void decode_q3_k(const Bytes& p, int run, float* out) {
  constexpr int kCodes = 32, kPacked = 96;
  // Low nibbles of scales 0-7 and 8-15 are the nibbles of bytes 0-7, upper two bits lie in bytes
  // 8-11.
  const int nibble = p[kPacked + run % 8] >> (run / 8 * 4) & 15;
  const int upper = p[kPacked + 8 + run % 4] >> (run / 4 * 2) & 3;
  const float scale = half_at(p, 108) * static_cast<float>((nibble | upper << 4) - 32);
  Codes q = two_bit_codes(p, kCodes, run);
  add_upper(q, bits_of_bytes(p, run % 2 * 16, run / 2, 0x01010101U), 2);
  scale_codes(q, 4, scale, out);
}

template <class Bytes>
PLUQ_GGUF_INLINE void decode_q4_k(const Bytes& p, bool five, int run, float* out) {
  const int group = run / 2;  // 32 elements
  const float scale = half_at(p) * static_cast<float>(six_bit_scale(p, 4, group));
  const float offset = half_at(p, 2) * static_cast<float>(six_bit_min(p, 4, group));
  // 64 elements share 32 bytes: low nibbles first, then high ones.
  const int codes = (five ? 48 : 16) + group / 2 * 32 + run % 2 * 16;
  Codes q = bits_of_bytes(p, codes, group % 2 * 4, 0x0f0f0f0fU);
  if (five) add_upper(q, bits_of_bytes(p, 16 + run % 2 * 16, group, 0x01010101U), 4);
  scale_codes_less(q, scale, offset, out);
}

template <class Bytes>
PLUQ_GGUF_INLINE void decode_q6_k(const Bytes& p, int run, float* out) {
  constexpr int kHigh = 128, kScales = 192;
  // 128 elements share 64 bytes of nibbles and 32 of upper bits.
  const int half = run / 8, part = run % 8;
  const float scale = half_at(p, 208) * static_cast<float>(static_cast<int8_t>(p[kScales + run]));
  Codes q = bits_of_bytes(p, half * 64 + part % 4 * 16, part / 4 * 4, 0x0f0f0f0fU);
  const int high = kHigh + half * 32 + part % 2 * 16;
  add_upper(q, bits_of_bytes(p, high, part / 2 * 2, 0x03030303U), 4);
  scale_codes(q, 32, scale, out);
}

// Elements and bytes of a block of a ggml type; 0 when it is none of those drawn above.
struct BlockSize {
  int elements, bytes;
};
PLUQ_GGUF_INLINE BlockSize block_size(uint32_t type) {
  switch (type) {
    case kQ4_0:
      return {32, 18};
    case kQ4_1:
      return {32, 20};
    case kQ5_0:
      return {32, 22};
    case kQ5_1:
      return {32, 24};
    case kQ8_0:
      return {32, 34};
    case kQ2_K:
      return {256, 84};
    case kQ3_K:
      return {256, 110};
    case kQ4_K:
      return {256, 144};
    case kQ5_K:
      return {256, 176};
    case kQ6_K:
      return {256, 210};
    default:
      return {0, 0};
  }
}

// Run `run` of one block, of a type that block_size knows: 16 elements to out.
template <class Bytes>
PLUQ_GGUF_INLINE void decode_run(uint32_t type, const Bytes& p, int run, float* out) {
  switch (type) {
    case kQ4_0:
      return decode_q4_q5(p, false, false, run, out);
    case kQ4_1:
      return decode_q4_q5(p, false, true, run, out);
    case kQ5_0:
      return decode_q4_q5(p, true, false, run, out);
    case kQ5_1:
      return decode_q4_q5(p, true, true, run, out);
    case kQ8_0:
      return decode_q8_0(p, run, out);
    case kQ2_K:
      return decode_q2_k(p, run, out);
    case kQ3_K:
      return decode_q3_k(p, run, out);
    case kQ4_K:
      return decode_q4_k(p, false, run, out);
    case kQ5_K:
      return decode_q4_k(p, true, run, out);
    default:
      return decode_q6_k(p, run, out);
  }
}

// Decodes n elements (whole blocks) of ggml type `type` from src, which may have any alignment.
// False: the type is unknown or n is not a whole number of blocks; out is untouched then.
inline bool dequantize_row(uint32_t type, const void* src, float* out, int64_t n) {
  const auto* p = static_cast<const uint8_t*>(src);
  const auto blocks = [&](int64_t elements, int64_t bytes, auto decode) {
    if (n % elements != 0) return false;
    for (int64_t i = 0; i < n / elements; ++i) decode(p + i * bytes, out + i * elements);
    return true;
  };
  switch (type) {
    case kF32:
      if (n > 0) std::memcpy(out, p, static_cast<size_t>(n) * 4);
      return true;
    case kF16:
      return blocks(1, 2, [](const uint8_t* b, float* o) { *o = half_at(b); });
    case kBF16:
      return blocks(1, 2, [](const uint8_t* b, float* o) {
        uint16_t h;
        std::memcpy(&h, b, 2);
        const uint32_t bits = static_cast<uint32_t>(h) << 16;
        std::memcpy(o, &bits, 4);
      });
    default: {
      const BlockSize size = block_size(type);
      if (size.elements == 0) return false;
      return blocks(size.elements, size.bytes, [&](const uint8_t* b, float* o) {
        for (int run = 0; run < size.elements / kRunElements; ++run)
          decode_run(type, b, run, o + run * kRunElements);
      });
    }
  }
}

}  // namespace gguf
}  // namespace pluq
