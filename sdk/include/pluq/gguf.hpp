// SPDX-License-Identifier: Apache-2.0
// GGUF's block types, decoded to f32 one row at a time: the only place that knows their bits.
// Header-only C++17, no dependencies. Every product and sum is rounded to f32 on its own, in the
// order of the PyPI package `gguf`, whose results these equal bit for bit (do not compile with
// contraction of a*b+c).
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

inline float half_at(const uint8_t* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  uint32_t bits = static_cast<uint32_t>(h & 0x7fff) << 13;
  float value;
  std::memcpy(&value, &bits, 4);
  value *= 0x1.0p112F;  // normalises subnormals
  std::memcpy(&bits, &value, 4);
  bits |= ((h & 0x7c00) == 0x7c00 ? 0x7f800000U : 0U) | static_cast<uint32_t>(h & 0x8000) << 16;
  std::memcpy(&value, &bits, 4);
  return value;
}

// The eight 6-bit scales and mins of Q4_K and Q5_K. Bytes 0-3: low six bits of scales 0-3; 4-7: of
// mins 0-3; bytes 8-11: low nibbles of scales 4-7 and of mins 4-7; their upper two bits sit on top
// of bytes 0-3 and 4-7.
inline void six_bit_pairs(const uint8_t* s, uint8_t* scales, uint8_t* mins) {
  for (int j = 0; j < 4; ++j) {
    scales[j] = s[j] & 63;
    mins[j] = s[j + 4] & 63;
    scales[j + 4] = static_cast<uint8_t>((s[j + 8] & 15) | (s[j] >> 6) << 4);
    mins[j + 4] = static_cast<uint8_t>(s[j + 8] >> 4 | (s[j + 4] >> 6) << 4);
  }
}

inline void decode_q4_q5(const uint8_t* p, bool five, bool with_min, float* out) {
  const float d = half_at(p);
  const float m = with_min ? half_at(p + 2) : 0;
  p += with_min ? 4 : 2;
  uint32_t high = 0;
  if (five) {
    std::memcpy(&high, p, 4);
    p += 4;
  }
  for (int i = 0; i < 32; ++i) {
    int q = i < 16 ? p[i] & 15 : p[i - 16] >> 4;
    if (five) q |= static_cast<int>(high >> i & 1) << 4;
    if (with_min) {
      const float product = d * static_cast<float>(q);
      out[i] = product + m;
    } else {
      out[i] = d * static_cast<float>(q - (five ? 16 : 8));
    }
  }
}

inline void decode_q2_k(const uint8_t* p, float* out) {
  const uint8_t *scales = p, *codes = p + 16;
  const float d = half_at(p + 80), dmin = half_at(p + 82);
  for (int i = 0; i < 256; ++i) {
    // 128 elements share 32 bytes: each byte holds four codes 32 elements apart.
    const int q = codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    const float scale = d * static_cast<float>(scales[i / 16] & 15);
    const float offset = dmin * static_cast<float>(scales[i / 16] >> 4);
    const float product = scale * static_cast<float>(q);
    out[i] = product - offset;
  }
}

inline void decode_q3_k(const uint8_t* p, float* out) {
  const uint8_t *high = p, *codes = p + 32, *packed = p + 96;
  const float d = half_at(p + 108);
  for (int i = 0; i < 256; ++i) {
    const int low = codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    const int bit = high[i % 32] >> (i / 32) & 1;
    const int s = i / 16;
    // Low nibbles of scales 0-7 and 8-15 are the nibbles of bytes 0-7, upper two bits lie in bytes
    // 8-11.
    const int nibble = s < 8 ? packed[s] & 15 : packed[s - 8] >> 4;
    const int upper = packed[8 + s % 4] >> (s / 4 * 2) & 3;
    const float scale = d * static_cast<float>((nibble | upper << 4) - 32);
    out[i] = scale * static_cast<float>(low - (bit != 0 ? 0 : 4));
  }
}

inline void decode_q4_k(const uint8_t* p, bool five, float* out) {
  const float d = half_at(p), dmin = half_at(p + 2);
  uint8_t scales[8], mins[8];
  six_bit_pairs(p + 4, scales, mins);
  const uint8_t* high = p + 16;
  const uint8_t* codes = five ? p + 48 : p + 16;
  for (int i = 0; i < 256; ++i) {
    // 64 elements share 32 bytes: low nibbles first, then high ones.
    const uint8_t byte = codes[i / 64 * 32 + i % 32];
    int q = i % 64 < 32 ? byte & 15 : byte >> 4;
    if (five) q |= (high[i % 32] >> (i / 32) & 1) << 4;
    const float scale = d * static_cast<float>(scales[i / 32]);
    const float offset = dmin * static_cast<float>(mins[i / 32]);
    const float product = scale * static_cast<float>(q);
    out[i] = product - offset;
  }
}

inline void decode_q6_k(const uint8_t* p, float* out) {
  const uint8_t *low = p, *high = p + 128;
  const auto* scales = reinterpret_cast<const int8_t*>(p + 192);
  const float d = half_at(p + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, l = i % 128;
    const uint8_t byte = low[half * 64 + l % 64];
    const int nibble = l < 64 ? byte & 15 : byte >> 4;
    const int upper = high[half * 32 + l % 32] >> (l / 32 * 2) & 3;
    const float scale = d * static_cast<float>(scales[i / 16]);
    out[i] = scale * static_cast<float>((nibble | upper << 4) - 32);
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
    case kQ4_0:
      return blocks(32, 18, [](const uint8_t* b, float* o) { decode_q4_q5(b, false, false, o); });
    case kQ4_1:
      return blocks(32, 20, [](const uint8_t* b, float* o) { decode_q4_q5(b, false, true, o); });
    case kQ5_0:
      return blocks(32, 22, [](const uint8_t* b, float* o) { decode_q4_q5(b, true, false, o); });
    case kQ5_1:
      return blocks(32, 24, [](const uint8_t* b, float* o) { decode_q4_q5(b, true, true, o); });
    case kQ8_0:
      return blocks(32, 34, [](const uint8_t* b, float* o) {
        const float d = half_at(b);
        for (int i = 0; i < 32; ++i) o[i] = d * static_cast<float>(static_cast<int8_t>(b[2 + i]));
      });
    case kQ2_K:
      return blocks(256, 84, [](const uint8_t* b, float* o) { decode_q2_k(b, o); });
    case kQ3_K:
      return blocks(256, 110, [](const uint8_t* b, float* o) { decode_q3_k(b, o); });
    case kQ4_K:
      return blocks(256, 144, [](const uint8_t* b, float* o) { decode_q4_k(b, false, o); });
    case kQ5_K:
      return blocks(256, 176, [](const uint8_t* b, float* o) { decode_q4_k(b, true, o); });
    case kQ6_K:
      return blocks(256, 210, [](const uint8_t* b, float* o) { decode_q6_k(b, o); });
    default:
      return false;
  }
}

}  // namespace gguf
}  // namespace pluq
