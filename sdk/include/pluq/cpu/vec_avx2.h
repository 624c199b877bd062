// SPDX-License-Identifier: Apache-2.0
// The AVX2 vocabulary of the integer kernels: 8 lanes of 32 bits. Included by ISA files only.
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace pluq {
namespace cpu {
namespace int_avx2 {
namespace {

using VI = __m256i;
using VF = __m256;
constexpr int kLanes = 8;
constexpr int kTileRows =
    5;  // 5 x 2 accumulators, two weights, an activation, a product: 14 of 16 registers
constexpr bool kHasDot = false;  // no u8 x s8 -> s32 instruction
constexpr const char* kIsaName = "avx2";

inline VI load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline void store(void* p, VI v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
inline VI zero() { return _mm256_setzero_si256(); }
inline VI set1_32(int32_t v) { return _mm256_set1_epi32(v); }
inline VI set1_16(int16_t v) { return _mm256_set1_epi16(v); }
inline VI set1_8(int8_t v) { return _mm256_set1_epi8(v); }
inline VI broadcast(const void* p) {
  int32_t v;
  memcpy(&v, p, 4);
  return _mm256_set1_epi32(v);
}
inline VI bit_and(VI a, VI b) { return _mm256_and_si256(a, b); }
inline VI shift_right16_4(VI a) { return _mm256_srli_epi16(a, 4); }
inline VI shift_right16_8(VI a) { return _mm256_srli_epi16(a, 8); }
inline VI add16(VI a, VI b) { return _mm256_add_epi16(a, b); }
inline VI add32(VI a, VI b) { return _mm256_add_epi32(a, b); }
inline VI sub32(VI a, VI b) { return _mm256_sub_epi32(a, b); }
inline VI mul32(VI a, VI b) { return _mm256_mullo_epi32(a, b); }
inline VI dot_u8s8_16(VI u, VI s) {
  VI r;
  asm("vpmaddubsw %2, %1, %0" : "=x"(r) : "x"(u), "x"(s));
  return r;
}
inline VI dot_16_32(VI a, VI b) {
  VI r;
  asm("vpmaddwd %2, %1, %0" : "=x"(r) : "x"(a), "x"(b));
  return r;
}
// Sums of neighbouring pairs of int16, as int32; the ones are a memory operand because registers
// are short where it is used.
inline VI widen_pairs(VI v) {
  alignas(32) static const int16_t ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
  using Vector = const VI __attribute__((may_alias));
  VI r;
  asm("vpmaddwd %2, %1, %0" : "=x"(r) : "x"(v), "m"(*reinterpret_cast<Vector*>(ones)));
  return r;
}
// Two columns' sums += weights times the 4 bytes at p, as one asm so that product and broadcast
// take two registers and no more: left to themselves both compilers keep several in flight and
// spill accumulators.
inline void mac2_nibbles(VI& acc0, VI& acc1, VI w0, VI w1, const void* p) {
  using Word = const int32_t __attribute__((may_alias, aligned(1)));
  VI a, product;
  asm("vpbroadcastd %6, %0\n\tvpmaddubsw %0, %4, %1\n\tvpaddw %1, %2, %2\n\t"
      "vpmaddubsw %0, %5, %0\n\tvpaddw %0, %3, %3"
      : "=&x"(a), "=&x"(product), "+&x"(acc0), "+&x"(acc1)
      : "x"(w0), "x"(w1), "m"(*static_cast<Word*>(p)));
}
inline void mac2_words(VI& acc0, VI& acc1, VI w0, VI w1, const void* p) {
  using Word = const int32_t __attribute__((may_alias, aligned(1)));
  VI a, product;
  asm("vpbroadcastd %6, %0\n\tvpmaddwd %0, %4, %1\n\tvpaddd %1, %2, %2\n\t"
      "vpmaddwd %0, %5, %0\n\tvpaddd %0, %3, %3"
      : "=&x"(a), "=&x"(product), "+&x"(acc0), "+&x"(acc1)
      : "x"(w0), "x"(w1), "m"(*static_cast<Word*>(p)));
}
// The low byte of each of 8 int32, as 2 dwords.
inline void low_bytes(const int32_t* q, uint32_t* out) {
  const VI pick = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0,
                                   4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  const VI v = _mm256_shuffle_epi8(load(q), pick);
  out[0] = static_cast<uint32_t>(_mm256_extract_epi32(v, 0));
  out[1] = static_cast<uint32_t>(_mm256_extract_epi32(v, 4));
}
// Of each 4 int32: the low halves of 0 and 2, then of 1 and 3.
inline void low_words(const int32_t* q, uint32_t* out) {
  const VI pick = _mm256_setr_epi8(0, 1, 8, 9, 4, 5, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1, 0, 1,
                                   8, 9, 4, 5, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1);
  const VI v = _mm256_shuffle_epi8(load(q), pick);
  const int64_t first = _mm256_extract_epi64(v, 0), second = _mm256_extract_epi64(v, 2);
  memcpy(out, &first, 8);
  memcpy(out + 2, &second, 8);
}
inline VI load_i16(const void* p) {
  return _mm256_cvtepi16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
inline VF load_f32(const void* p) { return _mm256_loadu_ps(static_cast<const float*>(p)); }
inline void store_f32(float* p, VF v) { _mm256_storeu_ps(p, v); }
inline VF load_f16(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
inline VF load_bf16(const void* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))), 16));
}
inline VF set1_f32(float v) { return _mm256_set1_ps(v); }
inline VF to_f32(VI v) { return _mm256_cvtepi32_ps(v); }
inline VI round_i32(VF v) { return _mm256_cvtps_epi32(v); }
inline VF mul(VF a, VF b) { return _mm256_mul_ps(a, b); }
inline VF div(VF a, VF b) { return _mm256_div_ps(a, b); }
inline VF add(VF a, VF b) { return _mm256_add_ps(a, b); }
inline VF min(VF a, VF b) { return _mm256_min_ps(a, b); }
inline VF max(VF a, VF b) { return _mm256_max_ps(a, b); }
inline VF mul_add(VF a, VF b, VF c) { return _mm256_fmadd_ps(a, b, c); }

}  // namespace
}  // namespace int_avx2
}  // namespace cpu
}  // namespace pluq
