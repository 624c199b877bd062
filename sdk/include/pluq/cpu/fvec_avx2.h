// SPDX-License-Identifier: Apache-2.0
// Vocabulary of the float kernels for AVX2 with FMA and F16C: 8 lanes.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace pluq {
namespace cpu {
namespace float_avx2 {
namespace {

constexpr int kLanes = 8, kTileRows = 6, kTileVectors = 2, kStreamVectors = 14;
constexpr float kE4m3Unit = 256.0f;  // load_e4m3 gives code / unit
using F = __m256;

inline F zero() { return _mm256_setzero_ps(); }
inline F set1(float v) { return _mm256_set1_ps(v); }
inline F load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, F v) { _mm256_storeu_ps(p, v); }
inline F mul_add(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
inline F mul(F a, F b) { return _mm256_mul_ps(a, b); }
inline F add(F a, F b) { return _mm256_add_ps(a, b); }

inline F load_bf16(const uint8_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
}
inline F load_f16(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
// The byte's fields, moved one bit down from the top of 16, are an f16 of 2^-8 times the value,
// subnormals included.
inline F load_e4m3(const uint8_t* p) {
  const __m128i high =
      _mm_slli_epi16(_mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))), 8);
  return _mm256_cvtph_ps(
      _mm_and_si128(_mm_srai_epi16(high, 1), _mm_set1_epi16(static_cast<int16_t>(0xbf80))));
}
inline void load_e4m3_pair(const uint8_t* p, F* out) {
  const __m256i high = _mm256_slli_epi16(
      _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 8);
  const __m256i halves =
      _mm256_and_si256(_mm256_srai_epi16(high, 1), _mm256_set1_epi16(static_cast<int16_t>(0xbf80)));
  out[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
  out[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1));
}
inline F load_e5m2(const uint8_t* p) {
  return _mm256_cvtph_ps(
      _mm_slli_epi16(_mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))), 8));
}

}  // namespace
}  // namespace float_avx2
}  // namespace cpu
}  // namespace pluq
