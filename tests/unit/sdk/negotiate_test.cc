// SPDX-License-Identifier: Apache-2.0
// The version range code, with synthetic majors: from 1.0 on the sides meet at the lower maximum.
#include <gtest/gtest.h>

#include "pluq/plugin.hpp"

namespace pluq::detail {
namespace {

TEST(Negotiate, MajorZeroNeedsTheSameMinor) {
  EXPECT_EQ(negotiate(0, 9, 9, 0, 9, 9), 9);
  EXPECT_EQ(negotiate(0, 9, 9, 0, 10, 10), -1);
  EXPECT_EQ(negotiate(0, 8, 9, 0, 9, 10), -1);
}

TEST(Negotiate, RangesMeetAtTheLowerMaximum) {
  EXPECT_EQ(negotiate(1, 0, 5, 1, 2, 9), 5);
  EXPECT_EQ(negotiate(1, 2, 9, 1, 0, 5), 5);
  EXPECT_EQ(negotiate(1, 6, 9, 1, 0, 5),
            -1);  // the older side cannot reach the newer one's minimum
  EXPECT_EQ(negotiate(1, 0, 5, 1, 7, 9), -1);
  EXPECT_EQ(negotiate(1, 0, 5, 2, 0, 5), -1);
  EXPECT_EQ(negotiate(1, 5, 4, 1, 0, 9), -1);
}

TEST(StructSize, ShorterAndLongerStructsAreReadAndWrittenWithinTheirSize) {
  struct Long {
    pluq_device device;
    unsigned char tail[8];
  } from{};
  std::memset(&from, 0xa5, sizeof from);
  from.device.struct_size =
      offsetof(pluq_device, cpu_features);  // an older host: nothing from cpu_features on
  from.device.kind = 1;
  const pluq_device d = read(&from.device);
  EXPECT_EQ(d.kind, 1u);
  EXPECT_EQ(d.cpu_features, 0u);
  from.device.struct_size = sizeof from;  // a newer host: the tail is ignored
  EXPECT_EQ(read(&from.device).cpu_features, 0xa5a5a5a5a5a5a5a5u);

  struct {
    pluq_probe_result result;
    unsigned char guard[16];
  } to{};
  std::memset(&to, 0x5a, sizeof to);
  to.result.struct_size = 8;  // an older caller knows the score only
  pluq_probe_result full{};
  full.score = 7;
  write(full, &to.result);
  EXPECT_EQ(to.result.score, 7);
  EXPECT_EQ(to.result.struct_size, 8u);
  EXPECT_EQ(reinterpret_cast<unsigned char*>(&to.result)[8], 0x5a);
}

}  // namespace
}  // namespace pluq::detail
