// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "engine/kv_cache.h"
#include "engine/sampler.h"
#include "engine/stop_text.h"
#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;

TEST(Sampler, GreedyTakesTheLowestIdOnATie) {
  Sampler s({});
  EXPECT_EQ(s.sample(std::vector<float>{1, 3, 3, 2}), 1);
  EXPECT_EQ(s.sample(std::vector<float>{NAN, -INFINITY, 2}), 2);
  expect_error(ErrorKind::kFailed, {"no finite logit"}, [&] {
    s.sample(std::vector<float>{NAN, NAN});
  });
}

TEST(Sampler, FollowsTheDistributionAndTheSeed) {
  const std::vector<float> logits{0, std::log(3.0F), -INFINITY};  // 1/4, 3/4, 0
  SamplingOptions o;
  o.temperature = 1;
  o.seed = 5;
  Sampler a(o), b(o);
  std::map<int32_t, int> counts;
  for (int i = 0; i < 20'000; ++i) {
    const int32_t id = a.sample(logits);
    ++counts[id];
    EXPECT_EQ(id, b.sample(logits));
  }
  EXPECT_NEAR(counts[0] / 20'000.0, 0.25, 0.015);
  EXPECT_EQ(counts[2], 0);
}

TEST(Sampler, TopKTopPMinPKeepOnlyTheLikely) {
  const std::vector<float> logits{2, 1, 0, -1};
  const auto only = [&](SamplingOptions o, int32_t most) {
    o.temperature = 1;
    Sampler s(o);
    for (int i = 0; i < 500; ++i) EXPECT_LE(s.sample(logits), most);
  };
  SamplingOptions k, p, m;
  k.top_k = 2;
  p.top_p = 0.5;
  m.min_p = 0.3;
  only(k, 1);
  only(p, 0);
  only(m, 1);
}

TEST(Sampler, RepeatPenaltyPushesRecentTokensDown) {
  SamplingOptions o;
  o.repeat_penalty = 4;
  Sampler s(o);
  EXPECT_EQ(s.sample(std::vector<float>{2, 1}), 0);
  s.accept(0);
  EXPECT_EQ(s.sample(std::vector<float>{2, 1}), 1);
  EXPECT_EQ(s.sample(std::vector<float>{-1, -2}), 1);  // negative logits are multiplied
}

TEST(Sampler, RangesAreChecked) {
  SamplingOptions o;
  o.top_p = 1.5;
  expect_error(ErrorKind::kUsage, {"top-p is 1.5", "from 0 to 1"}, [&] { Sampler{o}; });
  o = {};
  o.temperature = NAN;
  expect_error(ErrorKind::kUsage, {"temperature is nan"}, [&] { Sampler{o}; });
}

TEST(StopText, StopsAcrossPiecesAndHoldsOnlyWhatMayMatch) {
  StopText s({"END", "##"});
  EXPECT_EQ(s.push("abcE"), "abc");
  EXPECT_EQ(s.push("x"), "Ex");
  EXPECT_EQ(s.push("EN"), "");
  EXPECT_EQ(s.push("D more"), "");
  EXPECT_TRUE(s.stopped());
  EXPECT_EQ(s.push("later"), "");
  StopText t({"END"});
  EXPECT_EQ(t.push("aE"), "a");
  EXPECT_EQ(t.finish(), "E");
  EXPECT_FALSE(t.stopped());
  expect_error(ErrorKind::kUsage, {"empty"}, [] { StopText({""}); });
}

TEST(StopText, EverySplitGivesTheSameText) {
  const std::string text = "aababc stop here";
  for (size_t i = 0; i <= text.size(); ++i) {
    for (size_t j = i; j <= text.size(); ++j) {
      StopText s({"abc", "zz"});
      std::string out = s.push(text.substr(0, i));
      out += s.push(text.substr(i, j - i));
      out += s.push(text.substr(j));
      if (!s.stopped()) out += s.finish();
      EXPECT_EQ(out, "aab");
    }
  }
}

TEST(KvCache, BlocksComeFromTheTableAndGoBack) {
  KvCache cache({2, 1, 4, PLUQ_DTYPE_F32, 40});
  EXPECT_EQ(cache.shape().token_bytes(), 2 * 2 * 4 * 4);
  cache.grow(17);
  const KvView v = cache.view();
  EXPECT_NE(v.block(0, 0, 0), v.block(0, 16, 0));
  EXPECT_EQ(v.block(0, 1, 0), v.block(0, 0, 0));
  EXPECT_EQ(v.block(1, 0, 0) - v.block(0, 0, 0), 3 * 16 * 4);
  cache.grow(40);
  expect_error(ErrorKind::kFailed, {"holds 40 tokens, 49 are needed"}, [&] { cache.grow(49); });
  cache.clear();
  cache.grow(48);
}

}  // namespace
}  // namespace pluq
