// SPDX-License-Identifier: Apache-2.0
// Vocabulary of the float kernels for AVX-512 (F, BW, VL, DQ): 16 lanes. With
// PLUQ_CPU_EMULATE_AVX512 the same names are plain C++, so that the kernels can be tested on any
// machine.
#pragma once

#include <stdint.h>
#include <string.h>
#ifdef PLUQ_CPU_EMULATE_AVX512
#include <math.h>
#else
#if defined(__GNUC__) && !defined(__clang__)
// gcc 12's own intrinsics header trips over these when they are inlined.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
#endif

namespace pluq {
namespace cpu {
#ifdef PLUQ_CPU_EMULATE_AVX512
namespace float_avx512_emulated {
#else
namespace float_avx512 {
#endif
namespace {

constexpr int kLanes = 16, kTileRows = 12, kTileVectors = 2, kStreamVectors = 28;
constexpr float kE4m3Unit = 256.0f;  // load_e4m3 gives code / unit

#ifdef PLUQ_CPU_EMULATE_AVX512

struct F {
  float v[16];
};
template <class Lane>
inline F each(Lane lane) {
  F out;
  for (int i = 0; i < 16; ++i) out.v[i] = lane(i);
  return out;
}
inline float from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
inline uint16_t word(const uint8_t* p) {
  uint16_t value;
  memcpy(&value, p, 2);
  return value;
}
inline float half(uint16_t h) {
  const float magnitude = from_bits(static_cast<uint32_t>(h & 0x7fff) << 13) * 0x1.0p112f;
  uint32_t bits;
  memcpy(&bits, &magnitude, 4);
  if ((h & 0x7c00) == 0x7c00) bits |= 0x7f800000u;
  return from_bits(bits | static_cast<uint32_t>(h & 0x8000) << 16);
}
inline F zero() {
  return each([](int) { return 0.0f; });
}
inline F set1(float v) {
  return each([&](int) { return v; });
}
inline F load(const float* p) {
  return each([&](int i) { return p[i]; });
}
inline void store(float* p, F v) { memcpy(p, v.v, sizeof v.v); }
inline F mul_add(F a, F b, F c) {
  return each([&](int i) { return fmaf(a.v[i], b.v[i], c.v[i]); });
}
inline F mul(F a, F b) {
  return each([&](int i) { return a.v[i] * b.v[i]; });
}
inline F add(F a, F b) {
  return each([&](int i) { return a.v[i] + b.v[i]; });
}
inline F load_bf16(const uint8_t* p) {
  return each([&](int i) { return from_bits(static_cast<uint32_t>(word(p + 2 * i)) << 16); });
}
inline F load_f16(const uint8_t* p) {
  return each([&](int i) { return half(word(p + 2 * i)); });
}
inline F load_e4m3(const uint8_t* p) {
  return each(
      [&](int i) { return half(static_cast<uint16_t>((p[i] & 0x80) << 8 | (p[i] & 0x7f) << 7)); });
}
inline void load_e4m3_pair(const uint8_t* p, F* out) {
  out[0] = load_e4m3(p);
  out[1] = load_e4m3(p + kLanes);
}
inline F load_e5m2(const uint8_t* p) {
  return each([&](int i) { return half(static_cast<uint16_t>(p[i] << 8)); });
}

#else

using F = __m512;

inline F zero() { return _mm512_setzero_ps(); }
inline F set1(float v) { return _mm512_set1_ps(v); }
inline F load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, F v) { _mm512_storeu_ps(p, v); }
inline F mul_add(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F add(F a, F b) { return _mm512_add_ps(a, b); }
inline F load_bf16(const uint8_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
inline F load_f16(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
// The byte's fields, moved one bit down from the top of 16, are an f16 of 2^-8 times the value,
// subnormals included.
inline F load_e4m3(const uint8_t* p) {
  const __m256i high = _mm256_slli_epi16(
      _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 8);
  return _mm512_cvtph_ps(_mm256_and_si256(_mm256_srai_epi16(high, 1),
                                          _mm256_set1_epi16(static_cast<int16_t>(0xbf80))));
}
inline void load_e4m3_pair(const uint8_t* p, F* out) {
  const __m512i high = _mm512_slli_epi16(
      _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 8);
  const __m512i halves =
      _mm512_and_si512(_mm512_srai_epi16(high, 1), _mm512_set1_epi16(static_cast<int16_t>(0xbf80)));
  out[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(halves));
  out[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(halves, 1));
}
inline F load_e5m2(const uint8_t* p) {
  const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_cvtph_ps(_mm256_slli_epi16(wide, 8));
}

#endif

}  // namespace
}  // namespace float_avx512 or float_avx512_emulated
}  // namespace cpu
}  // namespace pluq
