// SPDX-License-Identifier: Apache-2.0
// Conversions and 16-bit arithmetic of the host twins: every code, every midpoint between two codes
// and its neighbours against the formats' definitions, fma against exact sums.
#define PLUQ_CUDA_EMULATE 1
#include "pluq/cuda/convert.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "pluq/float8.hpp"

namespace pluq {
namespace {

using namespace cuda;

// Value of a finite code of a float with these many exponent and mantissa bits.
double value(uint32_t code, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const auto exponent = static_cast<int>(code >> mantissa_bits & ((1U << exponent_bits) - 1));
  const auto mantissa = static_cast<double>(code & ((1U << mantissa_bits) - 1));
  const double scaled = std::ldexp(mantissa, -mantissa_bits);
  const double v =
      exponent == 0 ? std::ldexp(scaled, 1 - bias) : std::ldexp(1 + scaled, exponent - bias);
  return (code >> (exponent_bits + mantissa_bits) & 1) != 0 ? -v : v;
}

struct Format {
  int exponent_bits, mantissa_bits;
  uint32_t largest;  // finite code
};
constexpr Format kF16{5, 10, 0x7bff}, kBf16{8, 7, 0x7f7f}, kE4m3{4, 3, 0x7e};

// Feeds `convert` every finite code's value, the midpoints, and the floats beside the midpoints.
template <class Convert>
void check_rounding(const Format& f, Convert convert) {
  const uint32_t sign = 1U << (f.exponent_bits + f.mantissa_bits);
  for (uint32_t code = 0; code < f.largest; ++code) {
    const double low = value(code, f.exponent_bits, f.mantissa_bits);
    const double high = value(code + 1, f.exponent_bits, f.mantissa_bits);
    const auto middle = static_cast<float>((low + high) / 2);
    const float below = std::nextafter(middle, 0.0F), above = std::nextafter(middle, INFINITY);
    const uint32_t even = (code & 1) == 0 ? code : code + 1;
    for (const uint32_t s : {0U, sign}) {
      const float minus = s != 0 ? -1.0F : 1.0F;
      ASSERT_EQ(convert(minus * static_cast<float>(low)), code | s);
      ASSERT_EQ(convert(minus * middle), even | s) << code;
      ASSERT_EQ(convert(minus * below), code | s) << code;
      ASSERT_EQ(convert(minus * above), (code + 1) | s) << code;
    }
  }
}

TEST(CudaConvert, F16RoundsToNearestEven) {
  check_rounding(kF16, [](float v) { return uint32_t{f32_to_f16(v)}; });
  EXPECT_EQ(f32_to_f16(65504.0F), 0x7bff);
  EXPECT_EQ(f32_to_f16(65519.99F), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(f32_to_f16(-INFINITY), 0xfc00);
  EXPECT_EQ(f32_to_f16(NAN), 0x7fff);
  EXPECT_EQ(f32_to_f16(1e-30F), 0);
}

TEST(CudaConvert, Bf16RoundsToNearestEven) {
  check_rounding(kBf16, [](float v) { return uint32_t{f32_to_bf16(v)}; });
  EXPECT_EQ(f32_to_bf16(3.4e38F), 0x7f80);
  EXPECT_EQ(f32_to_bf16(INFINITY), 0x7f80);
  EXPECT_EQ(f32_to_bf16(-NAN), 0x7fff);
}

TEST(CudaConvert, E4m3RoundsAndSaturates) {
  check_rounding(kE4m3, [](float v) { return uint32_t{f32_to_e4m3(v)}; });
  for (const float v : {448.0F, 449.0F, 464.0F, 465.0F, 1e30F, INFINITY}) {
    EXPECT_EQ(f32_to_e4m3(v), 0x7e);
    EXPECT_EQ(f32_to_e4m3(-v), 0xfe);
  }
  EXPECT_EQ(f32_to_e4m3(NAN), 0x7f);
  EXPECT_EQ(f32_to_e4m3x2(1.0F, -2.0F), 0xc038);
}

TEST(CudaConvert, E4m3AgreesWithTheSdkOnAllFloatsOfAStep) {
  for (uint64_t u = 0; u < (uint64_t{1} << 32); u += 4093) {
    const float v = bits_float(static_cast<uint32_t>(u));
    ASSERT_EQ(f32_to_e4m3(v), float8::to_e4m3(v)) << v;
  }
}

TEST(CudaConvert, EveryCodeToFloat) {
  for (uint32_t c = 0; c < 0x10000; ++c) {
    const auto h = static_cast<uint16_t>(c);
    const float f = f16_to_f32(h), b = bf16_to_f32(h);
    if ((c & 0x7fff) < 0x7c00) {
      ASSERT_EQ(f, value(c, 5, 10));
      ASSERT_EQ(std::signbit(f), (c & 0x8000) != 0);
    } else {
      ASSERT_EQ((c & 0x3ff) == 0, std::isinf(f));
      ASSERT_EQ((c & 0x3ff) != 0, std::isnan(f));
    }
    if ((c & 0x7fff) < 0x7f80) {
      ASSERT_EQ(b, value(c, 8, 7));
    }
  }
  for (uint32_t c = 0; c < 256; ++c) {
    const float want = float8::from_e4m3(static_cast<uint8_t>(c));
    const float got = e4m3_to_f32(static_cast<uint8_t>(c));
    ASSERT_TRUE(std::isnan(want) ? std::isnan(got) : got == want) << c;
    ASSERT_EQ(e4m3x2_to_f16x2(static_cast<uint16_t>(c | 0x3800)) >> 16, 0x3c00U);
  }
}

// The nearest code to an exact sum, ties to even, by looking at both neighbours.
uint16_t nearest(long double exact, const Format& f, uint16_t guess) {
  uint16_t best = guess;
  for (int step = -1; step <= 1; ++step) {
    const int magnitude = (guess & 0x7fff) + step;
    if (magnitude < 0 || magnitude > static_cast<int>(f.largest)) continue;
    const auto candidate = static_cast<uint16_t>((guess & 0x8000) | magnitude);
    const auto error = [&](uint16_t c) {
      return std::fabs(static_cast<long double>(value(c, f.exponent_bits, f.mantissa_bits)) -
                       exact);
    };
    const long double e = error(candidate), now = error(best);
    if (e < now || (e == now && (candidate & 1) == 0)) best = candidate;
  }
  return best;
}

// Products of 22 bits and sums of at most 64 are exact in long double.
TEST(CudaConvert, FmaF16RoundsOnce) {
  std::mt19937 random(3);
  int double_rounding = 0;
  for (int i = 0; i < 400000; ++i) {
    const auto a = static_cast<uint16_t>(random()), b = static_cast<uint16_t>(random());
    auto c = static_cast<uint16_t>(random());
    if ((a & 0x7c00) == 0x7c00 || (b & 0x7c00) == 0x7c00 || (c & 0x7c00) == 0x7c00) continue;
    const long double product =
        static_cast<long double>(f16_to_f32(a)) * static_cast<long double>(f16_to_f32(b));
    if (i % 2 == 0) {  // near a tie: half a step of a product's size
      const auto near = static_cast<float>(product) * 0x1p-11F;
      c = f32_to_f16(near);
      if ((c & 0x7c00) == 0x7c00) continue;
    }
    const long double exact = product + static_cast<long double>(f16_to_f32(c));
    if (std::fabs(exact) > 65000.0L || exact == 0) continue;
    const uint32_t got = fma_f16x2(a | 0x3c000000U, b | 0x40000000U, c | 0x3c000000U);
    ASSERT_EQ(got >> 16, 0x4200U);
    const auto low = static_cast<uint16_t>(got);
    ASSERT_EQ(low & 0x7fff, nearest(exact, kF16, low) & 0x7fff) << a << ' ' << b << ' ' << c;
    if (f32_to_f16(f16_to_f32(a) * f16_to_f32(b) + f16_to_f32(c)) != low) ++double_rounding;
  }
  EXPECT_GT(double_rounding, 0) << "the cases do not tell one rounding from two";
}

TEST(CudaConvert, Bf16Arithmetic) {
  std::mt19937 random(5);
  for (int i = 0; i < 200000; ++i) {
    const auto draw = [&] {  // exponents within 2^-12 .. 2^12, so that exact sums fit
      return static_cast<uint16_t>((random() & 0x807f) | (115 + random() % 24) << 7);
    };
    const uint16_t a = draw(), b = draw(), c = draw();
    const long double x = bf16_to_f32(a), y = bf16_to_f32(b), z = bf16_to_f32(c);
    const auto check = [&](uint32_t got, long double exact) {
      const auto low = static_cast<uint16_t>(got);
      if (exact == 0) return (low & 0x7fff) == 0;
      return (low & 0x7fff) == (nearest(exact, kBf16, low) & 0x7fff);
    };
    ASSERT_TRUE(check(fma_bf16x2(a, b, c), x * y + z));
    ASSERT_TRUE(check(add_bf16x2(a, b), x + y));
    ASSERT_TRUE(check(sub_bf16x2(a, b), x - y));
    ASSERT_TRUE(check(mul_bf16x2(a, b), x * y));
  }
}

TEST(CudaConvert, F16Arithmetic) {
  std::mt19937 random(9);
  for (int i = 0; i < 200000; ++i) {
    const auto a = static_cast<uint16_t>(random()), b = static_cast<uint16_t>(random());
    if ((a & 0x7c00) == 0x7c00 || (b & 0x7c00) == 0x7c00) continue;
    const long double x = f16_to_f32(a), y = f16_to_f32(b);
    const auto check = [&](uint32_t got, long double exact) {
      const auto low = static_cast<uint16_t>(got);
      if (std::fabs(exact) > 65000.0L) return true;
      return (low & 0x7fff) == (nearest(exact, kF16, low) & 0x7fff);
    };
    ASSERT_TRUE(check(add_f16x2(a, b), x + y));
    ASSERT_TRUE(check(sub_f16x2(a, b), x - y));
    ASSERT_TRUE(check(mul_f16x2(a, b), x * y));
  }
}

TEST(CudaConvert, Bits) {
  EXPECT_EQ((lop3<0xea>(0xf0f0f0f0U, 0xccccccccU, 0xaaaaaaaaU)),
            (0xf0f0f0f0U & 0xccccccccU) | 0xaaaaaaaaU);
  EXPECT_EQ((lop3<0x96>(0x12345678U, 0x9abcdef0U, 0x0f1e2d3cU)),
            0x12345678U ^ 0x9abcdef0U ^ 0x0f1e2d3cU);
  EXPECT_EQ(prmt(0x33221100U, 0x77665544U, 0x5410U), 0x55441100U);
  EXPECT_EQ(prmt(0x33221180U, 0x77665544U, 0x7768U), 0x777766ffU);
  EXPECT_EQ(round_to_int(2.5F), 2);
  EXPECT_EQ(round_to_int(-3.5F), -4);
  EXPECT_EQ(round_to_int(1e20F), 2147483647);
  EXPECT_EQ(round_to_int(NAN), 0);
}

TEST(CudaConvert, Pairs) {
  EXPECT_EQ(pack_f16x2(1.0F, -2.0F), 0xc0003c00U);
  EXPECT_EQ(pack_bf16x2(1.0F, -2.0F), 0xc0003f80U);
  EXPECT_EQ(unpack_f16x2(0xc0003c00U).v[0], 1.0F);
  EXPECT_EQ(unpack_f16x2(0xc0003c00U).v[1], -2.0F);
  EXPECT_EQ(unpack_bf16x2(0xc0003f80U).v[0], 1.0F);
  EXPECT_EQ(unpack_bf16x2(0xc0003f80U).v[1], -2.0F);
  EXPECT_EQ(splat16(0x3c01), 0x3c013c01U);
  for (uint32_t c = 0; c < 256; ++c) {
    const auto code = static_cast<uint8_t>(c);
    const float v = float8::from_e4m3(code);
    if (std::isnan(v)) continue;
    EXPECT_EQ(f16_to_f32(e4m3_to_f16_bits(code)), v);
    EXPECT_EQ(f32_to_e4m3_bits(v), code);
  }
}

TEST(CudaConvert, SpecialFunctions) {
  EXPECT_EQ(fma_f32(0x1.000002p0F, 0x1.000002p0F, -0x1.000004p0F), 0x1p-46F);  // one rounding
  for (const float v : {0.25F, 1.0F, 3.5F, 100.0F}) {
    const auto exact = static_cast<double>(v);
    EXPECT_NEAR(static_cast<double>(exp2_approx(v / 8)), std::exp2(exact / 8),
                std::exp2(exact / 8) * 3e-7);
    EXPECT_NEAR(static_cast<double>(rsqrt_approx(v)), 1 / std::sqrt(exact),
                3e-7 / std::sqrt(exact));
    EXPECT_NEAR(static_cast<double>(rcp_approx(v)), 1 / exact, 3e-7 / exact);
  }
}

}  // namespace
}  // namespace pluq
