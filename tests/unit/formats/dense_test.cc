// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "unit/formats/oracle.h"

namespace pluq::test {
namespace {

Case plain(uint32_t dtype_id, int64_t n, int64_t k) {
  Random random(1);
  Case c;
  c.format = "dense";
  c.ask.n = n;
  c.ask.k = k;
  c.w = random.scales(n * k);
  for (float& v : c.w) v *= static_cast<float>(random.below(3) - 1);
  c.file.push_back(reals("weight", dtype_id, {n, k}, c.w));
  return c;
}

TEST(Dense, EveryTypeAndOddShapes) {
  for (const uint32_t id : {PLUQ_DTYPE_F32, PLUQ_DTYPE_F16, PLUQ_DTYPE_BF16}) {
    SCOPED_TRACE(id);
    check_case(plain(id, 37, 45));
    check_case(plain(id, 64, 96));
  }
}

TEST(Dense, TensorsBesideTheWeightMeanAnotherFormat) {
  Case c = plain(PLUQ_DTYPE_BF16, 8, 8);
  c.file.push_back(reals("weight_scale", PLUQ_DTYPE_F32, {1}, {1}));
  const FakeChoice choice = choose(c);
  EXPECT_EQ(choice.verdict, PLUQ_VERDICT_NOT_MINE);
  EXPECT_NE(choice.reason.find("weight_scale"), std::string::npos) << choice.reason;
}

TEST(Dense, NoSixteenBitTensorIsReadAsAnotherType) {
  Case c = plain(PLUQ_DTYPE_BF16, 8, 8);
  c.file[0].dtype_id = PLUQ_DTYPE_I16;
  const FakeChoice choice = choose(c);
  EXPECT_EQ(choice.verdict, PLUQ_VERDICT_NOT_MINE);
  EXPECT_NE(choice.reason.find("I16"), std::string::npos) << choice.reason;
}

}  // namespace
}  // namespace pluq::test
