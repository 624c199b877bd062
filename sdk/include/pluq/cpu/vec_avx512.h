// SPDX-License-Identifier: Apache-2.0
// The AVX-512 (F, BW, VL, DQ, VNNI) vocabulary of the integer kernels: 16 lanes of 32 bits.
// Included by ISA files only. With PLUQ_CPU_EMULATE_AVX512 the same functions are plain C++, so
// that the same kernels run (slowly) on any machine.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifndef PLUQ_CPU_EMULATE_AVX512
#if defined(__GNUC__) && !defined(__clang__)
// gcc 12 warns about its own "undefined" operands inside these intrinsics.
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
namespace int_avx512_emulated {
#else
namespace int_avx512 {
#endif
namespace {

constexpr int kLanes = 16;
constexpr int kTileRows =
    12;  // 12 x 2 accumulators of 32 registers; the activation is a memory operand
constexpr bool kHasDot = true;  // vpdpbusd

#ifndef PLUQ_CPU_EMULATE_AVX512

using VI = __m512i;
using VF = __m512;
constexpr const char* kIsaName = "avx512";

inline VI load(const void* p) { return _mm512_loadu_si512(p); }
inline void store(void* p, VI v) { _mm512_storeu_si512(p, v); }
inline VI zero() { return _mm512_setzero_si512(); }
inline VI set1_32(int32_t v) { return _mm512_set1_epi32(v); }
inline VI set1_8(int8_t v) { return _mm512_set1_epi8(v); }
inline VI bit_and(VI a, VI b) { return _mm512_and_si512(a, b); }
inline VI shift_right16_4(VI a) { return _mm512_srli_epi16(a, 4); }
inline VI add32(VI a, VI b) { return _mm512_add_epi32(a, b); }
inline VI sub32(VI a, VI b) { return _mm512_sub_epi32(a, b); }
inline VI mul32(VI a, VI b) { return _mm512_mullo_epi32(a, b); }
// acc[i] += sum of u[i][j] * s[j], j < 4; s = the 4 signed bytes at p, broadcast by the instruction
// itself. As asm: with intrinsics gcc 12 keeps accumulators on the stack.
inline VI dot_broadcast(VI acc, VI u, const void* p) {
  using Bytes = const int32_t __attribute__((may_alias, aligned(1)));
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc) : "v"(u), "m"(*static_cast<Bytes*>(p)));
  return acc;
}
// The low byte of each of 16 int32, as 4 dwords.
inline void low_bytes(const int32_t* q, uint32_t* out) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(load(q)));
}
inline VI load_i16(const void* p) {
  return _mm512_cvtepi16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
inline VF load_f32(const void* p) { return _mm512_loadu_ps(p); }
inline void store_f32(float* p, VF v) { _mm512_storeu_ps(p, v); }
inline VF load_f16(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
inline VF load_bf16(const void* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p))), 16));
}
inline VF set1_f32(float v) { return _mm512_set1_ps(v); }
inline VF to_f32(VI v) { return _mm512_cvtepi32_ps(v); }
inline VI round_i32(VF v) { return _mm512_cvtps_epi32(v); }
inline VF mul(VF a, VF b) { return _mm512_mul_ps(a, b); }
inline VF div(VF a, VF b) { return _mm512_div_ps(a, b); }
inline VF add(VF a, VF b) { return _mm512_add_ps(a, b); }
inline VF min(VF a, VF b) { return _mm512_min_ps(a, b); }
inline VF max(VF a, VF b) { return _mm512_max_ps(a, b); }
inline VF mul_add(VF a, VF b, VF c) { return _mm512_fmadd_ps(a, b, c); }

#else  // emulated

struct VI {
  uint32_t v[16];
};
struct VF {
  float v[16];
};
constexpr const char* kIsaName = "avx512-emulated";

template <class F>
inline VI each_i(F f) {
  VI r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}
template <class F>
inline VF each_f(F f) {
  VF r;
  for (int i = 0; i < 16; ++i) r.v[i] = f(i);
  return r;
}
inline VI load(const void* p) {
  VI r;
  memcpy(r.v, p, 64);
  return r;
}
inline void store(void* p, VI a) { memcpy(p, a.v, 64); }
inline VI zero() { return VI{}; }
inline VI set1_32(int32_t x) {
  return each_i([&](int) { return static_cast<uint32_t>(x); });
}
inline VI set1_8(int8_t x) {
  return each_i([&](int) { return static_cast<uint8_t>(x) * 0x01010101u; });
}
inline VI bit_and(const VI& a, const VI& b) {
  return each_i([&](int i) { return a.v[i] & b.v[i]; });
}
inline VI shift_right16_4(const VI& a) {
  return each_i([&](int i) { return (a.v[i] >> 4) & 0x0fff0fffu; });
}
inline VI add32(const VI& a, const VI& b) {
  return each_i([&](int i) { return a.v[i] + b.v[i]; });
}
inline VI sub32(const VI& a, const VI& b) {
  return each_i([&](int i) { return a.v[i] - b.v[i]; });
}
inline VI mul32(const VI& a, const VI& b) {
  return each_i([&](int i) { return a.v[i] * b.v[i]; });
}
inline VI dot_broadcast(const VI& acc, const VI& u, const void* p) {
  int8_t s[4];
  memcpy(s, p, 4);
  return each_i([&](int i) {
    uint32_t sum = acc.v[i];
    for (int j = 0; j < 4; ++j) {
      sum += static_cast<uint32_t>(static_cast<int32_t>((u.v[i] >> (8 * j)) & 255u) * s[j]);
    }
    return sum;
  });
}
inline void low_bytes(const int32_t* q, uint32_t* out) {
  for (int i = 0; i < 4; ++i) {
    out[i] = 0;
    for (int j = 0; j < 4; ++j) out[i] |= (static_cast<uint32_t>(q[4 * i + j]) & 255u) << (8 * j);
  }
}
inline VI load_i16(const void* p) {
  int16_t s[16];
  memcpy(s, p, 32);
  return each_i([&](int i) { return static_cast<uint32_t>(static_cast<int32_t>(s[i])); });
}
inline VF load_f32(const void* p) {
  VF r;
  memcpy(r.v, p, 64);
  return r;
}
inline void store_f32(float* p, VF a) { memcpy(p, a.v, 64); }
inline float bits_f32(uint32_t bits) {
  float r;
  memcpy(&r, &bits, 4);
  return r;
}
inline VF load_f16(const void* p) {
  uint16_t s[16];
  memcpy(s, p, 32);
  return each_f([&](int i) {
    const uint32_t magnitude = (s[i] & 0x7fffu) << 13, sign = (s[i] & 0x8000u) << 16;
    if (magnitude >= 0x0f800000u) return bits_f32(magnitude | 0x7f800000u | sign);
    const float value = bits_f32(magnitude) * 0x1p112f;
    return sign ? -value : value;
  });
}
inline VF load_bf16(const void* p) {
  uint16_t s[16];
  memcpy(s, p, 32);
  return each_f([&](int i) { return bits_f32(static_cast<uint32_t>(s[i]) << 16); });
}
inline VF set1_f32(float x) {
  return each_f([&](int) { return x; });
}
inline VF to_f32(const VI& a) {
  return each_f([&](int i) { return static_cast<float>(static_cast<int32_t>(a.v[i])); });
}
inline VI round_i32(const VF& a) {
  return each_i([&](int i) {
    if (!(a.v[i] > -2147483648.0f && a.v[i] < 2147483648.0f)) return 0x80000000u;
    return static_cast<uint32_t>(static_cast<int32_t>(__builtin_rintf(a.v[i])));
  });
}
inline VF mul(const VF& a, const VF& b) {
  return each_f([&](int i) { return a.v[i] * b.v[i]; });
}
inline VF div(const VF& a, const VF& b) {
  return each_f([&](int i) { return a.v[i] / b.v[i]; });
}
inline VF add(const VF& a, const VF& b) {
  return each_f([&](int i) { return a.v[i] + b.v[i]; });
}
inline VF min(const VF& a, const VF& b) {
  return each_f([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline VF max(const VF& a, const VF& b) {
  return each_f([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline VF mul_add(const VF& a, const VF& b, const VF& c) {
  return each_f([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}

#endif

}  // namespace
}  // namespace int_avx512 or int_avx512_emulated
}  // namespace cpu
}  // namespace pluq
