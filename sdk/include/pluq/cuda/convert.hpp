// SPDX-License-Identifier: Apache-2.0
// Conversions between f32 and f16, bf16, e4m3, and arithmetic on pairs of 16-bit floats held in a
// uint32_t (the lower index in the low half). Every operation rounds once, to nearest even; NaN
// becomes the canonical one (0x7fff, 0x7f).
#pragma once

#include "pluq/cuda/platform.hpp"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

PLUQ_DEVICE uint32_t float_bits(float v) {
#if PLUQ_CUDA_EMULATE
  uint32_t u;
  std::memcpy(&u, &v, 4);
  return u;
#else
  return __float_as_uint(v);
#endif
}
PLUQ_DEVICE float bits_float(uint32_t u) {
#if PLUQ_CUDA_EMULATE
  float v;
  std::memcpy(&v, &u, 4);
  return v;
#else
  return __uint_as_float(u);
#endif
}

PLUQ_DEVICE float bf16_to_f32(uint16_t h) { return bits_float(static_cast<uint32_t>(h) << 16); }

#if PLUQ_CUDA_EMULATE

inline float f16_to_f32(uint16_t h) {
  const uint32_t sign = (h & 0x8000U) << 16, magnitude = h & 0x7fffU;
  if (magnitude >= 0x7c00U) return bits_float(sign | 0x7f800000U | (magnitude & 0x3ffU) << 13);
  if (magnitude >= 0x400U) return bits_float(sign | ((magnitude << 13) + 0x38000000U));
  return bits_float(sign | float_bits(static_cast<float>(magnitude) * 0x1p-24F));
}
inline uint16_t f32_to_f16(float v) {
  const uint32_t u = float_bits(v), sign = u >> 16 & 0x8000U, a = u & 0x7fffffffU;
  if (a > 0x7f800000U) return check_finished(u), 0x7fff;
  if (a >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00U);  // 65520 and more
  if (a < 0x38800000U)  // subnormal: 0.5 has an ulp of 2^-24, so the sum rounds to f16's step
    return static_cast<uint16_t>(sign | (float_bits(bits_float(a) + 0.5F) - 0x3f000000U));
  return static_cast<uint16_t>(sign | (a + 0xfffU + (a >> 13 & 1U) - 0x38000000U) >> 13);
}
inline uint16_t f32_to_bf16(float v) {
  const uint32_t u = float_bits(v);
  if ((u & 0x7fffffffU) > 0x7f800000U) return check_finished(u), 0x7fff;
  return static_cast<uint16_t>((u + 0x7fffU + (u >> 16 & 1U)) >> 16);
}
inline uint32_t pack_f16x2(float lo, float hi) {
  return f32_to_f16(lo) | static_cast<uint32_t>(f32_to_f16(hi)) << 16;
}
inline uint32_t pack_bf16x2(float lo, float hi) {
  return f32_to_bf16(lo) | static_cast<uint32_t>(f32_to_bf16(hi)) << 16;
}

#else

PLUQ_DEVICE float f16_to_f32(uint16_t h) {
  float v;
  asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"(h));
  return v;
}
PLUQ_DEVICE uint16_t f32_to_f16(float v) {
  uint16_t h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(v));
  return h;
}
PLUQ_DEVICE uint16_t f32_to_bf16(float v) {
  uint16_t h;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(v));
  return h;
}
PLUQ_DEVICE uint32_t pack_f16x2(float lo, float hi) {
  uint32_t d;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
  return d;
}
PLUQ_DEVICE uint32_t pack_bf16x2(float lo, float hi) {
  uint32_t d;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(hi), "f"(lo));
  return d;
}

#endif

PLUQ_DEVICE f32x2 unpack_f16x2(uint32_t p) {
  return {{f16_to_f32(static_cast<uint16_t>(p)), f16_to_f32(static_cast<uint16_t>(p >> 16))}};
}
PLUQ_DEVICE f32x2 unpack_bf16x2(uint32_t p) {
  return {{bits_float(p << 16), bits_float(p & 0xffff0000U)}};
}

// ---- e4m3 (no infinity; saturates at +-448)

// In integer arithmetic, for hardware without the instruction.
PLUQ_DEVICE uint8_t f32_to_e4m3_bits(float v) {
  const uint32_t u = float_bits(v), sign = u >> 24 & 0x80U, a = u & 0x7fffffffU;
  if (a > 0x7f800000U) return 0x7f;
  if (a >= 0x43e00000U) return static_cast<uint8_t>(sign | 0x7eU);  // 448 and more
  if (a < 0x3c800000U)  // below 2^-6: steps of 2^-9; 2^14 has an ulp of 2^-9
    return static_cast<uint8_t>(sign | (float_bits(bits_float(a) + 0x1p14F) - 0x46800000U));
  return static_cast<uint8_t>(sign | (a + 0x7ffffU + (a >> 20 & 1U) - 0x3c000000U) >> 20);
}
PLUQ_DEVICE uint16_t e4m3_to_f16_bits(uint8_t code) {
  const uint32_t sign = (code & 0x80U) << 8, m = code & 0x7fU;
  if (m == 0x7fU) return 0x7fff;
  if (m >= 8) return static_cast<uint16_t>(sign | ((m << 7) + 0x2000U));
  if (m == 0) return static_cast<uint16_t>(sign);
  const uint32_t top = m >= 4 ? 2 : m >= 2 ? 1 : 0;  // m * 2^-9 = 2^(top - 9) * (1 + rest)
  return static_cast<uint16_t>(sign | ((top + 6) << 10) | ((m << (10 - top)) & 0x3ffU));
}

// Two floats to two codes, lo in the low byte.
PLUQ_DEVICE uint16_t f32_to_e4m3x2(float lo, float hi) {
#if !PLUQ_CUDA_EMULATE && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  uint16_t d;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(d) : "f"(hi), "f"(lo));
  return d;
#else
  return static_cast<uint16_t>(f32_to_e4m3_bits(lo) | static_cast<uint32_t>(f32_to_e4m3_bits(hi))
                                                          << 8);
#endif
}
PLUQ_DEVICE uint8_t f32_to_e4m3(float v) { return static_cast<uint8_t>(f32_to_e4m3x2(v, 0.0F)); }
// Two codes to two f16, exact.
PLUQ_DEVICE uint32_t e4m3x2_to_f16x2(uint16_t codes) {
#if !PLUQ_CUDA_EMULATE && defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  uint32_t d;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(d) : "h"(codes));
  return d;
#else
  return e4m3_to_f16_bits(static_cast<uint8_t>(codes)) |
         static_cast<uint32_t>(e4m3_to_f16_bits(static_cast<uint8_t>(codes >> 8))) << 16;
#endif
}
PLUQ_DEVICE float e4m3_to_f32(uint8_t code) {
  return f16_to_f32(static_cast<uint16_t>(e4m3x2_to_f16x2(code)));
}

// ---- bits

// Any boolean function of three words: `table` is its truth table, f(0xf0, 0xcc, 0xaa).
template <int table>
PLUQ_DEVICE uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
#if PLUQ_CUDA_EMULATE
  uint32_t r = 0;
  for (int i = 0; i < 8; ++i) {
    if ((table >> i & 1) == 0) continue;
    r |= ((i & 4) != 0 ? a : ~a) & ((i & 2) != 0 ? b : ~b) & ((i & 1) != 0 ? c : ~c);
  }
  return r;
#else
  uint32_t r;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(r) : "r"(a), "r"(b), "r"(c), "n"(table));
  return r;
#endif
}
// Four bytes picked from a (0..3) and b (4..7), a nibble of `selector` each; nibble bit 3
// replicates the sign.
PLUQ_DEVICE uint32_t prmt(uint32_t a, uint32_t b, uint32_t selector) {
#if PLUQ_CUDA_EMULATE
  const uint64_t both = a | static_cast<uint64_t>(b) << 32;
  uint32_t r = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t s = selector >> 4 * i & 15;
    uint32_t byte = static_cast<uint32_t>(both >> 8 * (s & 7)) & 0xffU;
    if ((s & 8) != 0) byte = (byte & 0x80U) != 0 ? 0xffU : 0;
    r |= byte << 8 * i;
  }
  return r;
#else
  uint32_t r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(selector));
  return r;
#endif
}

// ---- pairs of 16-bit floats

#if PLUQ_CUDA_EMULATE

// a * b + c with one rounding to a format of fewer than 24 bits: the sum in f64 is rounded to odd,
// after which rounding again is right. a and b have at most 11 bits, so their product is exact.
inline double fma_to_odd(double a, double b, double c) {
  const double p = a * b, s = p + c;
  if (!(std::fabs(s) < std::numeric_limits<double>::infinity())) return s;
  const double t = s - p, lost = (p - (s - t)) + (c - t);
  if (lost == 0) return s;
  uint64_t u;
  std::memcpy(&u, &s, 8);
  if ((u & 1) != 0) return s;  // odd already: the nearest of the two neighbours, and odd
  const bool away = (lost > 0) == (s > 0);
  u = away ? u + 1 : u - 1;
  double odd;
  std::memcpy(&odd, &u, 8);
  return odd;
}
// f64 to f32 by rounding to odd: keeps what a second rounding to 11 or 8 bits needs.
inline float to_odd_f32(double v) {
  const float f = static_cast<float>(v);
  if (static_cast<double>(f) == v || v != v || std::fabs(f) > 3e38F) return f;
  uint32_t u = float_bits(f);
  if ((u & 1U) != 0) return f;
  const bool away = std::fabs(v) > std::fabs(static_cast<double>(f));
  return bits_float(away ? u + 1 : u - 1);
}
inline uint16_t fma_f16(uint16_t a, uint16_t b, uint16_t c) {
  return f32_to_f16(to_odd_f32(fma_to_odd(f16_to_f32(a), f16_to_f32(b), f16_to_f32(c))));
}
inline uint16_t fma_bf16(uint16_t a, uint16_t b, uint16_t c) {
  return f32_to_bf16(to_odd_f32(fma_to_odd(bf16_to_f32(a), bf16_to_f32(b), bf16_to_f32(c))));
}

template <class F>
inline uint32_t each_half(uint32_t a, uint32_t b, F f) {
  const uint32_t lo = f(static_cast<uint16_t>(a), static_cast<uint16_t>(b));
  return lo |
         static_cast<uint32_t>(f(static_cast<uint16_t>(a >> 16), static_cast<uint16_t>(b >> 16)))
             << 16;
}
// Sums and products of two f16 or bf16 are rounded once when formed in f32 (24 >= 2 * 11 + 2 bits).
inline uint32_t add_f16x2(uint32_t a, uint32_t b) {
  return each_half(
      a, b, [](uint16_t x, uint16_t y) { return f32_to_f16(f16_to_f32(x) + f16_to_f32(y)); });
}
inline uint32_t sub_f16x2(uint32_t a, uint32_t b) {
  return each_half(
      a, b, [](uint16_t x, uint16_t y) { return f32_to_f16(f16_to_f32(x) - f16_to_f32(y)); });
}
inline uint32_t mul_f16x2(uint32_t a, uint32_t b) {
  return each_half(
      a, b, [](uint16_t x, uint16_t y) { return f32_to_f16(f16_to_f32(x) * f16_to_f32(y)); });
}
inline uint32_t fma_f16x2(uint32_t a, uint32_t b, uint32_t c) {
  return fma_f16(static_cast<uint16_t>(a), static_cast<uint16_t>(b), static_cast<uint16_t>(c)) |
         static_cast<uint32_t>(fma_f16(static_cast<uint16_t>(a >> 16),
                                       static_cast<uint16_t>(b >> 16),
                                       static_cast<uint16_t>(c >> 16)))
             << 16;
}
inline uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  return fma_bf16(static_cast<uint16_t>(a), static_cast<uint16_t>(b), static_cast<uint16_t>(c)) |
         static_cast<uint32_t>(fma_bf16(static_cast<uint16_t>(a >> 16),
                                        static_cast<uint16_t>(b >> 16),
                                        static_cast<uint16_t>(c >> 16)))
             << 16;
}

#else

PLUQ_DEVICE uint32_t add_f16x2(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
PLUQ_DEVICE uint32_t sub_f16x2(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("sub.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
PLUQ_DEVICE uint32_t mul_f16x2(uint32_t a, uint32_t b) {
  uint32_t d;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
  return d;
}
PLUQ_DEVICE uint32_t fma_f16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
PLUQ_DEVICE uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t d;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

#endif

// sm_80 has only the fma of bf16 pairs: x * 1 + y, y * -1 + x, x * y + (-0).
PLUQ_DEVICE uint32_t add_bf16x2(uint32_t a, uint32_t b) { return fma_bf16x2(a, 0x3f803f80U, b); }
PLUQ_DEVICE uint32_t sub_bf16x2(uint32_t a, uint32_t b) { return fma_bf16x2(b, 0xbf80bf80U, a); }
PLUQ_DEVICE uint32_t mul_bf16x2(uint32_t a, uint32_t b) { return fma_bf16x2(a, b, 0x80008000U); }
// The same 16 bits in both halves.
PLUQ_DEVICE uint32_t splat16(uint16_t h) { return h | static_cast<uint32_t>(h) << 16; }

// ---- f32 functions of the special function unit; about 2 ulp on a GPU, the C library's in
// emulation

#if PLUQ_CUDA_EMULATE
inline float exp2_approx(float v) { return std::exp2(v); }
inline float rsqrt_approx(float v) { return 1.0F / std::sqrt(v); }
inline float rcp_approx(float v) { return 1.0F / v; }
// a * b + c, rounded once.
inline float fma_f32(float a, float b, float c) { return std::fma(a, b, c); }
// To the nearest integer, ties to even; saturates.
inline int32_t round_to_int(float v) {
  if (v != v) return check_finished(float_bits(v)), 0;
  if (v >= 2147483648.0F) return std::numeric_limits<int32_t>::max();
  if (v <= -2147483648.0F) return std::numeric_limits<int32_t>::min();
  return static_cast<int32_t>(std::nearbyint(v));
}
#else
PLUQ_DEVICE float exp2_approx(float v) {
  float d;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(v));
  return d;
}
PLUQ_DEVICE float rsqrt_approx(float v) { return rsqrtf(v); }
PLUQ_DEVICE float rcp_approx(float v) {
  float d;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(v));
  return d;
}
PLUQ_DEVICE float fma_f32(float a, float b, float c) { return __fmaf_rn(a, b, c); }
PLUQ_DEVICE int32_t round_to_int(float v) { return __float2int_rn(v); }
#endif

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
