// SPDX-License-Identifier: Apache-2.0
#include "pluq/float4.hpp"

#include <gtest/gtest.h>

namespace pluq::float4 {
namespace {

TEST(E2m1, AllCodes) {
  const double magnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  for (unsigned c = 0; c < 16; ++c) {
    const double want = magnitudes[c & 7] * (c & 8 ? -1 : 1);
    EXPECT_EQ(static_cast<double>(from_e2m1(c)), want);
    EXPECT_EQ(doubled(c), static_cast<int>(2 * want));
    EXPECT_EQ(to_e2m1(from_e2m1(c)), c);
  }
}

// Every float between two neighbours goes to the nearer, the middle to the even code; nothing
// leaves the range.
TEST(E2m1, RoundsToNearestEven) {
  for (unsigned c = 0; c < 7; ++c) {
    const float a = from_e2m1(c), b = from_e2m1(c + 1), middle = (a + b) / 2;
    EXPECT_EQ(to_e2m1(middle), (c & 1) != 0 ? c + 1 : c) << c;
    EXPECT_EQ(to_e2m1(std::nextafter(middle, a)), c);
    EXPECT_EQ(to_e2m1(std::nextafter(middle, b)), c + 1);
    EXPECT_EQ(to_e2m1(-std::nextafter(middle, b)), (c + 1) | 8);
  }
  EXPECT_EQ(to_e2m1(1e30F), 7);
  EXPECT_EQ(to_e2m1(-1e30F), 15);
  EXPECT_EQ(to_e2m1(std::nanf("")) & 7, 0);
}

TEST(E8m0, Powers) {
  for (int c = 0; c < 255; ++c)
    EXPECT_EQ(static_cast<double>(from_e8m0(static_cast<uint8_t>(c))), std::pow(2.0, c - 127));
  EXPECT_TRUE(std::isnan(from_e8m0(255)));
}

}  // namespace
}  // namespace pluq::float4
