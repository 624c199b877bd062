// SPDX-License-Identifier: Apache-2.0
// The portable vocabulary of the integer kernels: x86-64-v2 (SSE4.2), 4 lanes of 32 bits. ISA files
// only.
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace pluq {
namespace cpu {
namespace int_portable {
namespace {

using VI = __m128i;
using VF = __m128;
constexpr int kLanes = 4;
constexpr int kTileRows = 5;
constexpr bool kHasDot = false;
constexpr const char* kIsaName = "portable";

inline VI load(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline void store(void* p, VI v) { _mm_storeu_si128(static_cast<__m128i*>(p), v); }
inline VI zero() { return _mm_setzero_si128(); }
inline VI set1_32(int32_t v) { return _mm_set1_epi32(v); }
inline VI set1_16(int16_t v) { return _mm_set1_epi16(v); }
inline VI set1_8(int8_t v) { return _mm_set1_epi8(v); }
inline VI broadcast(const void* p) {
  int32_t v;
  memcpy(&v, p, 4);
  return _mm_set1_epi32(v);
}
inline VI bit_and(VI a, VI b) { return _mm_and_si128(a, b); }
inline VI shift_right16_4(VI a) { return _mm_srli_epi16(a, 4); }
inline VI shift_right16_8(VI a) { return _mm_srli_epi16(a, 8); }
inline VI add16(VI a, VI b) { return _mm_add_epi16(a, b); }
inline VI add32(VI a, VI b) { return _mm_add_epi32(a, b); }
inline VI sub32(VI a, VI b) { return _mm_sub_epi32(a, b); }
inline VI mul32(VI a, VI b) { return _mm_mullo_epi32(a, b); }
inline VI dot_u8s8_16(VI u, VI s) { return _mm_maddubs_epi16(u, s); }
inline VI dot_16_32(VI a, VI b) { return _mm_madd_epi16(a, b); }
// Sums of neighbouring pairs of int16, as int32; the ones are a memory operand because registers
// are short where it is used.
inline VI widen_pairs(VI v) {
  alignas(16) static const int16_t ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
  using Vector = const VI __attribute__((may_alias));
  asm("pmaddwd %1, %0" : "+x"(v) : "m"(*reinterpret_cast<Vector*>(ones)));
  return v;
}
// Two columns' sums += weights times the 4 bytes at p, as one asm so that nothing spills (see
// vec_avx2.h).
inline void mac2_nibbles(VI& acc0, VI& acc1, VI w0, VI w1, const void* p) {
  using Word = const int32_t __attribute__((may_alias, aligned(1)));
  VI a, product;
  asm("movd %6, %0\n\tpshufd $0, %0, %0\n\tmovdqa %4, %1\n\tpmaddubsw %0, %1\n\tpaddw %1, %2\n\t"
      "movdqa %5, %1\n\tpmaddubsw %0, %1\n\tpaddw %1, %3"
      : "=&x"(a), "=&x"(product), "+&x"(acc0), "+&x"(acc1)
      : "x"(w0), "x"(w1), "m"(*static_cast<Word*>(p)));
}
inline void mac2_words(VI& acc0, VI& acc1, VI w0, VI w1, const void* p) {
  using Word = const int32_t __attribute__((may_alias, aligned(1)));
  VI a, product;
  asm("movd %6, %0\n\tpshufd $0, %0, %0\n\tmovdqa %4, %1\n\tpmaddwd %0, %1\n\tpaddd %1, %2\n\t"
      "pmaddwd %5, %0\n\tpaddd %0, %3"
      : "=&x"(a), "=&x"(product), "+&x"(acc0), "+&x"(acc1)
      : "x"(w0), "x"(w1), "m"(*static_cast<Word*>(p)));
}
// The low byte of each of 4 int32, as a dword.
inline void low_bytes(const int32_t* q, uint32_t* out) {
  const VI pick = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  out[0] = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_shuffle_epi8(load(q), pick)));
}
// Of 4 int32: the low halves of 0 and 2, then of 1 and 3.
inline void low_words(const int32_t* q, uint32_t* out) {
  const VI pick = _mm_setr_epi8(0, 1, 8, 9, 4, 5, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1);
  const int64_t both = _mm_cvtsi128_si64(_mm_shuffle_epi8(load(q), pick));
  memcpy(out, &both, 8);
}
inline VI load_i16(const void* p) {
  return _mm_cvtepi16_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
}
inline VF load_f32(const void* p) { return _mm_loadu_ps(static_cast<const float*>(p)); }
inline void store_f32(float* p, VF v) { _mm_storeu_ps(p, v); }
// f16 -> f32 without F16C: the magnitude's bits, moved to f32's place, are the value times 2^-112,
// subnormals included; multiplying by 2^112 is exact. Inf and NaN get the top exponent put back.
inline VF load_f16(const void* p) {
  const VI half = _mm_cvtepu16_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p)));
  const VI magnitude = _mm_slli_epi32(_mm_and_si128(half, _mm_set1_epi32(0x7fff)), 13);
  const VI sign = _mm_slli_epi32(_mm_and_si128(half, _mm_set1_epi32(0x8000)), 16);
  const VF scaled = _mm_mul_ps(_mm_castsi128_ps(magnitude), _mm_set1_ps(0x1p112f));
  const VI special = _mm_and_si128(_mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x0f7fffff)),
                                   _mm_set1_epi32(0x7f800000));
  return _mm_castsi128_ps(_mm_or_si128(_mm_or_si128(_mm_castps_si128(scaled), special), sign));
}
inline VF load_bf16(const void* p) {
  return _mm_castsi128_ps(
      _mm_slli_epi32(_mm_cvtepu16_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))), 16));
}
inline VF set1_f32(float v) { return _mm_set1_ps(v); }
inline VF to_f32(VI v) { return _mm_cvtepi32_ps(v); }
inline VI round_i32(VF v) { return _mm_cvtps_epi32(v); }
inline VF mul(VF a, VF b) { return _mm_mul_ps(a, b); }
inline VF div(VF a, VF b) { return _mm_div_ps(a, b); }
inline VF add(VF a, VF b) { return _mm_add_ps(a, b); }
inline VF min(VF a, VF b) { return _mm_min_ps(a, b); }
inline VF max(VF a, VF b) { return _mm_max_ps(a, b); }
inline VF mul_add(VF a, VF b, VF c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }

}  // namespace
}  // namespace int_portable
}  // namespace cpu
}  // namespace pluq
