// SPDX-License-Identifier: Apache-2.0
// Vocabulary of the float kernels for x86-64-v2: 4 lanes, separate multiply and add.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

namespace pluq {
namespace cpu {
namespace float_portable {
namespace {

constexpr int kLanes = 4, kTileRows = 4, kTileVectors = 2, kStreamVectors = 6;
constexpr float kE4m3Unit = 1.0f;  // load_e4m3 gives code / unit
using F = __m128;

inline F zero() { return _mm_setzero_ps(); }
inline F set1(float v) { return _mm_set1_ps(v); }
inline F load(const float* p) { return _mm_loadu_ps(p); }
inline void store(float* p, F v) { _mm_storeu_ps(p, v); }
inline F mul_add(F a, F b, F c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
inline F mul(F a, F b) { return _mm_mul_ps(a, b); }
inline F add(F a, F b) { return _mm_add_ps(a, b); }

inline __m128i bytes(const uint8_t* p) {
  int32_t four;
  memcpy(&four, p, 4);
  return _mm_cvtepu8_epi32(_mm_cvtsi32_si128(four));
}
inline F halves(__m128i h) {  // f16 in the low 16 bits of each lane
  const __m128i magnitude = _mm_slli_epi32(_mm_and_si128(h, _mm_set1_epi32(0x7fff)), 13);
  const __m128i scaled =
      _mm_castps_si128(_mm_mul_ps(_mm_castsi128_ps(magnitude), _mm_set1_ps(0x1.0p112f)));
  const __m128i special =
      _mm_cmpgt_epi32(_mm_and_si128(h, _mm_set1_epi32(0x7fff)), _mm_set1_epi32(0x7bff));
  const __m128i sign = _mm_slli_epi32(_mm_and_si128(h, _mm_set1_epi32(0x8000)), 16);
  return _mm_castsi128_ps(
      _mm_or_si128(_mm_or_si128(scaled, sign), _mm_and_si128(special, _mm_set1_epi32(0x7f800000))));
}
inline F load_bf16(const uint8_t* p) {
  return _mm_castsi128_ps(
      _mm_slli_epi32(_mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))), 16));
}
inline F load_f16(const uint8_t* p) {
  return halves(_mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline F load_e4m3(const uint8_t* p) {
  const __m128i x = bytes(p), low = _mm_and_si128(x, _mm_set1_epi32(0x7f));
  const __m128i scaled = _mm_castps_si128(
      _mm_mul_ps(_mm_castsi128_ps(_mm_slli_epi32(low, 20)), _mm_set1_ps(0x1.0p120f)));
  const __m128i sign = _mm_slli_epi32(_mm_and_si128(x, _mm_set1_epi32(0x80)), 24);
  return _mm_castsi128_ps(_mm_or_si128(scaled, sign));
}
inline void load_e4m3_pair(const uint8_t* p, F* out) {
  out[0] = load_e4m3(p);
  out[1] = load_e4m3(p + kLanes);
}
inline F load_e5m2(const uint8_t* p) { return halves(_mm_slli_epi32(bytes(p), 8)); }

}  // namespace
}  // namespace float_portable
}  // namespace cpu
}  // namespace pluq
