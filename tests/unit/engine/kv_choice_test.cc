// SPDX-License-Identifier: Apache-2.0
// Which KV cache is chosen for every wish and every kind of checkpoint, and what is said of it.
#include "engine/kv_choice.h"

#include <gtest/gtest.h>

#include "engine/kv_cache.h"
#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;

KvScheme scheme(bool in_force, std::vector<float> k = {1, 1, 3, 3},
                std::vector<float> v = {2, 2, 4, 4}) {
  KvScheme s;
  s.format = "gptq";
  s.dtype = PLUQ_DTYPE_F8_E4M3;
  s.in_force = in_force;
  s.k_scale = std::move(k);
  s.v_scale = std::move(v);
  s.per_head = s.k_scale.size() == 4 && s.k_scale[0] != s.k_scale[1];
  return s;
}

KvChoice choose(const std::string& wish, const KvScheme& s, RunConfig config = {},
                const std::vector<LayerReport>& layers = {}) {
  if (!wish.empty()) parse_kv_cache(wish, "--kv-cache", &config);
  return choose_kv(config, layers, s, 2);
}

TEST(KvChoice, DefaultsFollowTheArithmetic) {
  RunConfig exact;
  exact.compute = "exact";
  EXPECT_EQ(choose("", {}).text, "f16");
  EXPECT_EQ(choose("", {}, exact).text, "f32");
  std::vector<LayerReport> rounds(1);
  rounds[0].rounds_activations = true;
  EXPECT_EQ(choose("", {}, {}, rounds).text, "f32");
  EXPECT_EQ(choose("bf16", scheme(true), exact).dtype, uint32_t{PLUQ_DTYPE_BF16});
}

TEST(KvChoice, TheCheckpointsSchemeIsInForceUnlessActivationsAreFloat) {
  const KvChoice c = choose("", scheme(true));
  EXPECT_EQ(c.text, "fp8_e4m3:tensor");
  EXPECT_EQ(c.k_scale, (std::vector<float>{1, 1, 3, 3}));
  EXPECT_EQ(c.v_scale, (std::vector<float>{2, 2, 4, 4}));
  EXPECT_NE(c.reason.find("format 'gptq'"), std::string::npos);
  EXPECT_TRUE(c.warnings.empty());
  EXPECT_EQ(choose("", scheme(false)).text, "f16");  // an offer only
  RunConfig plain;
  plain.activations = "float";
  const KvChoice f = choose("", scheme(true), plain);
  EXPECT_EQ(f.text, "f16");
  EXPECT_TRUE(f.k_scale.empty());
}

TEST(KvChoice, WishesTakeTheScalesThatAreThere) {
  EXPECT_EQ(choose("fp8_e4m3", scheme(false)).text, "fp8_e4m3:tensor");
  EXPECT_EQ(choose("fp8_e5m2", scheme(true)).text, "fp8_e5m2:tensor");
  EXPECT_EQ(choose("fp8_e4m3:head", scheme(true)).text, "fp8_e4m3:head");
  const KvChoice token = choose("fp8_e4m3:token", scheme(true));
  EXPECT_EQ(token.text, "fp8_e4m3:token");
  EXPECT_TRUE(token.k_scale.empty() && token.warnings.empty());
  // Scales of heads: one for all is the largest, so that nothing is clamped.
  const KvScheme heads = scheme(true, {1, 5, 3, 2}, {2, 1, 7, 8});
  EXPECT_EQ(choose("", heads).text, "fp8_e4m3:head");
  const KvChoice tensor = choose("fp8_e4m3:tensor", heads);
  EXPECT_EQ(tensor.k_scale, (std::vector<float>{5, 5, 3, 3}));
  EXPECT_EQ(tensor.v_scale, (std::vector<float>{2, 2, 8, 8}));
}

// Never a silent 1.0: what is missing is computed and said.
TEST(KvChoice, MissingScalesAreComputedWithAWarningThatNamesTheLayers) {
  KvScheme part = scheme(true, {}, {});
  part.missing = {"l.0.a", "l.1.a", "l.2.a", "l.3.a", "l.4.a", "l.5.a"};
  const KvChoice c = choose("", part);
  EXPECT_EQ(c.text, "fp8_e4m3:token");
  ASSERT_EQ(c.warnings.size(), 1U);
  EXPECT_NE(c.warnings[0].find("missing for l.0.a, l.1.a, l.2.a, l.3.a and 2 more"),
            std::string::npos);
  for (const char* wish : {"int8:tensor", "fp8_e4m3:head"}) {
    const KvChoice none = choose(wish, {});
    EXPECT_EQ(none.scale, KvScale::kToken) << wish;
    ASSERT_EQ(none.warnings.size(), 1U) << wish;
    EXPECT_NE(none.warnings[0].find("the checkpoint has no KV scales"), std::string::npos);
  }
  EXPECT_TRUE(choose("int8", {}).warnings.empty());  // nobody said that scales would be there
  const KvChoice other = choose("int8", scheme(true));
  EXPECT_EQ(other.text, "int8:token");
  EXPECT_NE(other.reason.find("scales are for fp8_e4m3"), std::string::npos);
}

TEST(KvChoice, OnePartnerAloneIsSaid) {
  KvScheme s = scheme(true);
  s.single = {"l.0.a.k_scale"};
  ASSERT_EQ(choose("", s).warnings.size(), 1U);
  EXPECT_NE(choose("", s).warnings[0].find("no partner of 'l.0.a.k_scale'"), std::string::npos);
}

TEST(KvChoice, ComputedAndUnsupportedSchemes) {
  KvScheme dynamic = scheme(true, {}, {});
  dynamic.dynamic = true;
  const KvChoice c = choose("", dynamic);
  EXPECT_EQ(c.text, "fp8_e4m3:token");
  EXPECT_TRUE(c.warnings.empty());
  KvScheme odd;
  odd.format = "gptq";
  odd.unsupported = "an asymmetric KV cache";
  expect_error(ErrorKind::kInput, {"an asymmetric KV cache", "--kv-cache DTYPE"},
               [&] { choose("", odd); });
  RunConfig plain;
  plain.activations = "float";
  EXPECT_EQ(choose("", odd, plain).text, "f16");
  EXPECT_EQ(choose("f32", odd).text, "f32");
}

TEST(KvCache, BytesOfATokenWithAndWithoutScales) {
  KvShape shape{3, 2, 64, PLUQ_DTYPE_F8_E4M3, 40, {}, {}};
  EXPECT_EQ(shape.token_bytes(), 2 * 3 * 2 * (64 + 4));
  shape.k_scale = shape.v_scale = std::vector<float>(6, 1.0F);
  EXPECT_EQ(shape.token_bytes(), 2 * 3 * 2 * 64);
  const KvCache cache(shape);
  EXPECT_EQ(cache.view().k_scale[cache.view().scale(1, 0, 1)], 1.0F);
}

}  // namespace
}  // namespace pluq
