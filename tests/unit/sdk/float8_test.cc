// SPDX-License-Identifier: Apache-2.0
#include "pluq/float8.hpp"

#include <gtest/gtest.h>

#include <cstring>

namespace pluq::float8 {
namespace {

TEST(E4m3, AllCodes) {
  for (int c = 0; c < 256; ++c) {
    const auto code = static_cast<uint8_t>(c);
    const int e = c >> 3 & 15, m = c & 7;
    const double want = (e == 0 ? m / 8.0 * std::pow(2, -6) : (1 + m / 8.0) * std::pow(2, e - 7)) *
                        (c & 0x80 ? -1 : 1);
    if ((c & 0x7f) == 0x7f) {
      EXPECT_TRUE(std::isnan(from_e4m3(code)));
      continue;
    }
    EXPECT_EQ(static_cast<double>(from_e4m3(code)), want);
    EXPECT_EQ(to_e4m3(from_e4m3(code)), code);
  }
  EXPECT_EQ(from_e4m3(0x7e), 448);
  EXPECT_EQ(to_e4m3(1e30F), 0x7e);
  EXPECT_EQ(to_e4m3(-1e30F), 0xfe);
  EXPECT_EQ(to_e4m3(std::nanf("")), 0x7f);
}

// Every float between two neighbours goes to the nearer, the middle to the even one.
TEST(E4m3, RoundsToNearestEven) {
  for (int c = 0; c < 0x7e; ++c) {
    const float a = from_e4m3(static_cast<uint8_t>(c)), b = from_e4m3(static_cast<uint8_t>(c + 1)),
                middle = (a + b) / 2;
    EXPECT_EQ(to_e4m3(middle), (c & 1) != 0 ? c + 1 : c) << c;
    EXPECT_EQ(to_e4m3(std::nextafter(middle, a)), c);
    EXPECT_EQ(to_e4m3(std::nextafter(middle, b)), c + 1);
  }
}

TEST(E5m2, AllCodes) {
  for (int c = 0; c < 256; ++c) {
    const int e = c >> 2 & 31, m = c & 3;
    const float got = from_e5m2(static_cast<uint8_t>(c));
    if (e == 31) {
      EXPECT_TRUE(m == 0 ? std::isinf(got) : std::isnan(got));
      continue;
    }
    const double want =
        (e == 0 ? m / 4.0 * std::pow(2, -14) : (1 + m / 4.0) * std::pow(2, e - 15)) *
        (c & 0x80 ? -1 : 1);
    EXPECT_EQ(static_cast<double>(got), want);
  }
}

}  // namespace
}  // namespace pluq::float8
