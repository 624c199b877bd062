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

constexpr int kLanes = 8, kTileRows = 6, kTileVectors = 2;
using F = __m256;

inline F zero() { return _mm256_setzero_ps(); }
inline F set1(float v) { return _mm256_set1_ps(v); }
inline F load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, F v) { _mm256_storeu_ps(p, v); }
inline F mul_add(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
inline F mul(F a, F b) { return _mm256_mul_ps(a, b); }
inline F add(F a, F b) { return _mm256_add_ps(a, b); }

inline F load_bf16(const uint8_t* p) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
}
inline F load_f16(const uint8_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline F load_e4m3(const uint8_t* p) {
  const __m256i x = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m256i low = _mm256_and_si256(x, _mm256_set1_epi32(0x7f));
  const F scaled = _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(low, 20)), _mm256_set1_ps(0x1.0p120f));
  const __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi32(low, _mm256_set1_epi32(0x7f)), _mm256_set1_epi32(0x7fc00000));
  const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(x, _mm256_set1_epi32(0x80)), 24);
  return _mm256_or_ps(scaled, _mm256_castsi256_ps(_mm256_or_si256(sign, nan)));
}
inline F load_e5m2(const uint8_t* p) {
  return _mm256_cvtph_ps(_mm_slli_epi16(_mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))), 8));
}

}  // namespace
}  // namespace float_avx2
}  // namespace cpu
}  // namespace pluq
