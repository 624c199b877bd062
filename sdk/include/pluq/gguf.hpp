// SPDX-License-Identifier: Apache-2.0
// GGUF's block types, decoded to f32 one row at a time: the only place that knows their bits.
// Header-only C++17, no dependencies. Every product and sum is rounded to f32 on its own, in the
// order of the PyPI package `gguf`, whose results these equal bit for bit (do not compile with
// contraction of a*b+c). The decoders of one block take any source whose p[i] is byte i and a range
// of its elements, so that CUDA kernels use the same code.
//
//   type   elements  bytes  layout (f16 = half, nibble j of byte i = bits 4j..4j+3 of it)
//   Q4_0        32     18   f16 d | 16 bytes: low nibble of byte i = element i, high = i + 16    d
//   * (q - 8) Q4_1        32     20   f16 d, f16 m | as Q4_0 d * q + m Q5_0        32     22   f16
//   d | u32: bit i = fifth bit of element i | as Q4_0                d * (q - 16) Q5_1        32 24
//   f16 d, f16 m | u32 | as Q4_0                                         d * q + m Q8_0        32
//   34   f16 d | 32 x i8                                                      d * q Q2_K       256
//   84   16 bytes: scale (low) and min (high nibble) of 16 elements | 64 bytes of 2-bit codes |
//                           f16 d, f16 dmin d*sc*q - dmin*m
//   Q3_K       256    110   32 bytes: third bits, inverted sense | 64 bytes of 2-bit codes | 12
//   bytes: 16 scales of
//                           6 bits | f16 d d*(sc-32)*(q - 4)
//   Q4_K       256    144   f16 d, f16 dmin | 12 bytes: 8 scales and 8 mins of 6 bits | 128 bytes
//   of nibbles Q5_K       256    176   f16 d, f16 dmin | 12 bytes as Q4_K | 32 bytes of fifth bits
//   | 128 bytes of nibbles Q6_K       256    210   128 bytes of low nibbles | 64 bytes of upper two
//   bits | 16 x i8 scales | f16 d
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define PLUQ_GGUF_INLINE __host__ __device__ __forceinline__
#else
#define PLUQ_GGUF_INLINE inline
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

// Each writes elements begin .. begin + count - 1 of the block at p; a range lies in one run of 16
// elements when it has at most 16 and begins at a multiple of its length.
template <class Bytes>
PLUQ_GGUF_INLINE void decode_q4_q5(const Bytes& p, bool five, bool with_min, float* out, int begin,
                                   int count) {
  const float d = half_at(p);
  const float m = with_min ? half_at(p, 2) : 0;
  const int high = with_min ? 4 : 2, low = high + (five ? 4 : 0);
  for (int j = 0; j < count; ++j) {
    const int i = begin + j;
    int q = i < 16 ? p[low + i] & 15 : p[low + i - 16] >> 4;
    if (five) q |= (p[high + i / 8] >> (i % 8) & 1) << 4;
    if (with_min) {
      const float product = d * static_cast<float>(q);
      out[j] = product + m;
    } else {
      out[j] = d * static_cast<float>(q - (five ? 16 : 8));
    }
  }
}

template <class Bytes>
PLUQ_GGUF_INLINE void decode_q8_0(const Bytes& p, float* out, int begin, int count) {
  const float d = half_at(p);
  for (int j = 0; j < count; ++j)
    out[j] = d * static_cast<float>(static_cast<int8_t>(p[2 + begin + j]));
}

template <class Bytes>
PLUQ_GGUF_INLINE void decode_q2_k(const Bytes& p, float* out, int begin, int count) {
  const float d = half_at(p, 80), dmin = half_at(p, 82);
  for (int j = 0; j < count; ++j) {
    const int i = begin + j;
    // 128 elements share 32 bytes: each byte holds four codes 32 elements apart.
    const int q = p[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    const float scale = d * static_cast<float>(p[i / 16] & 15);
    const float offset = dmin * static_cast<float>(p[i / 16] >> 4);
    const float product = scale * static_cast<float>(q);
    out[j] = product - offset;
  }
}

template <class Bytes>
PLUQ_GGUF_INLINE void decode_q3_k(const Bytes& p, float* out, int begin, int count) {
  constexpr int kCodes = 32, kPacked = 96;
  const float d = half_at(p, 108);
  for (int j = 0; j < count; ++j) {
    const int i = begin + j;
    const int low = p[kCodes + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    const int bit = p[i % 32] >> (i / 32) & 1;
    const int s = i / 16;
    // Low nibbles of scales 0-7 and 8-15 are the nibbles of bytes 0-7, upper two bits lie in bytes
    // 8-11.
    const int nibble = s < 8 ? p[kPacked + s] & 15 : p[kPacked + s - 8] >> 4;
    const int upper = p[kPacked + 8 + s % 4] >> (s / 4 * 2) & 3;
    const float scale = d * static_cast<float>((nibble | upper << 4) - 32);
    out[j] = scale * static_cast<float>(low - (bit != 0 ? 0 : 4));
  }
}

template <class Bytes>
PLUQ_GGUF_INLINE void decode_q4_k(const Bytes& p, bool five, float* out, int begin, int count) {
  const float d = half_at(p), dmin = half_at(p, 2);
  const int codes = five ? 48 : 16;
  float scale = 0, offset = 0;
  for (int j = 0; j < count; ++j) {
    const int i = begin + j;
    if (j == 0 || i % 32 == 0) {
      scale = d * static_cast<float>(six_bit_scale(p, 4, i / 32));
      offset = dmin * static_cast<float>(six_bit_min(p, 4, i / 32));
    }
    // 64 elements share 32 bytes: low nibbles first, then high ones.
    const uint8_t byte = p[codes + i / 64 * 32 + i % 32];
    int q = i % 64 < 32 ? byte & 15 : byte >> 4;
    if (five) q |= (p[16 + i % 32] >> (i / 32) & 1) << 4;
    const float product = scale * static_cast<float>(q);
    out[j] = product - offset;
  }
}

template <class Bytes>
PLUQ_GGUF_INLINE void decode_q6_k(const Bytes& p, float* out, int begin, int count) {
  constexpr int kHigh = 128, kScales = 192;
  const float d = half_at(p, 208);
  for (int j = 0; j < count; ++j) {
    const int i = begin + j, half = i / 128, l = i % 128;
    const uint8_t byte = p[half * 64 + l % 64];
    const int nibble = l < 64 ? byte & 15 : byte >> 4;
    const int upper = p[kHigh + half * 32 + l % 32] >> (l / 32 * 2) & 3;
    const float scale = d * static_cast<float>(static_cast<int8_t>(p[kScales + i / 16]));
    out[j] = scale * static_cast<float>((nibble | upper << 4) - 32);
  }
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

// Part of one block, of a type that block_size knows.
template <class Bytes>
PLUQ_GGUF_INLINE void decode_part(uint32_t type, const Bytes& p, float* out, int begin, int count) {
  switch (type) {
    case kQ4_0:
      return decode_q4_q5(p, false, false, out, begin, count);
    case kQ4_1:
      return decode_q4_q5(p, false, true, out, begin, count);
    case kQ5_0:
      return decode_q4_q5(p, true, false, out, begin, count);
    case kQ5_1:
      return decode_q4_q5(p, true, true, out, begin, count);
    case kQ8_0:
      return decode_q8_0(p, out, begin, count);
    case kQ2_K:
      return decode_q2_k(p, out, begin, count);
    case kQ3_K:
      return decode_q3_k(p, out, begin, count);
    case kQ4_K:
      return decode_q4_k(p, false, out, begin, count);
    case kQ5_K:
      return decode_q4_k(p, true, out, begin, count);
    default:
      return decode_q6_k(p, out, begin, count);
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
      return blocks(size.elements, size.bytes,
                    [&](const uint8_t* b, float* o) { decode_part(type, b, o, 0, size.elements); });
    }
  }
}

}  // namespace gguf
}  // namespace pluq
