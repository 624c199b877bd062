// SPDX-License-Identifier: Apache-2.0
// Which published schemes the engine's kernels round by, and when layers share one.
#include "model/rounding.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <tuple>
#include <vector>

namespace pluq {
namespace {

using cuda::RoundMode;

MethodDescription method(uint32_t strategy, uint32_t dtype, double divisor) {
  MethodDescription m;
  m.takes_quantized = true;
  m.activations.strategy = strategy;
  m.activations.dtype = dtype;
  m.activations.divisor = divisor;
  m.activations.dynamic = m.activations.symmetric = true;
  return m;
}

std::optional<RoundScheme> by(const MethodDescription& m, const std::vector<float>& scales = {}) {
  pluq_tensor t{};
  t.struct_size = sizeof t;
  t.name = {"input_scale", 11};
  t.dtype = {PLUQ_DTYPE_F32, 1, 4};
  t.rank = 1;
  t.shape[0] = static_cast<int64_t>(scales.size());
  t.data = scales.data();
  t.data_bytes = scales.size() * sizeof(float);
  return engine_rounding(m, std::span(&t, 1));
}

TEST(EngineRounding, DynamicSchemes) {
  MethodDescription m = method(PLUQ_STRATEGY_TOKEN, PLUQ_DTYPE_I8, 127);
  EXPECT_EQ(by(m), (RoundScheme{RoundMode::kInt8Token, 0, 1}));
  m.activations.symmetric = false;
  EXPECT_FALSE(by(m)) << "127 steps are not the asymmetric formula";
  m.activations.divisor = 255;
  EXPECT_EQ(by(m), (RoundScheme{RoundMode::kInt8TokenAsym, 0, 1}));
  m = method(PLUQ_STRATEGY_TOKEN, PLUQ_DTYPE_F8_E4M3, 448);
  EXPECT_EQ(by(m), (RoundScheme{RoundMode::kFp8Token, 0, 1}));
  m.activations.strategy = PLUQ_STRATEGY_GROUP;
  EXPECT_FALSE(by(m)) << "groups of 0 columns";
  m.activations.group_size = 128;
  EXPECT_EQ(by(m), (RoundScheme{RoundMode::kFp8Group, 128, 1}));
  EXPECT_EQ(by(m)->groups(129), 2);
}

TEST(EngineRounding, StaticScalesAreReadFromTheLayer) {
  for (const uint32_t dtype : {PLUQ_DTYPE_I8, PLUQ_DTYPE_F8_E4M3}) {
    MethodDescription m = method(PLUQ_STRATEGY_TENSOR, dtype, 448);
    m.activations.dynamic = false;
    m.activations.static_scale = "input_scale";
    const RoundMode mode = dtype == PLUQ_DTYPE_I8 ? RoundMode::kInt8Static : RoundMode::kFp8Static;
    EXPECT_EQ(by(m, {0.25F}), (RoundScheme{mode, 0, 0.25F}));
    EXPECT_FALSE(by(m, {0.25F, 0.5F})) << "which of them only the format knows";
    EXPECT_FALSE(by(m, {std::numeric_limits<float>::infinity()}));
    EXPECT_FALSE(by(m, {-1.0F}));
    m.activations.symmetric = false;
    EXPECT_FALSE(by(m, {0.25F})) << "the scheme names no tensor of the zero point";
    m.activations.symmetric = true;
    m.activations.static_scale = "scale";
    EXPECT_FALSE(by(m, {0.25F})) << "the layer has no such tensor";
  }
}

TEST(EngineRounding, UnknownSchemesStayWithTheMethod) {
  for (const auto& [strategy, dtype, divisor] :
       {std::tuple{PLUQ_STRATEGY_TOKEN, PLUQ_DTYPE_I8, 127.5},
        {PLUQ_STRATEGY_TOKEN, PLUQ_DTYPE_F8_E4M3, 240.0},
        {PLUQ_STRATEGY_TOKEN, PLUQ_DTYPE_F8_E5M2, 57344.0},
        {PLUQ_STRATEGY_GROUP, PLUQ_DTYPE_I8, 127.0},
        {PLUQ_STRATEGY_TENSOR, PLUQ_DTYPE_F8_E4M3, 448.0},
        {PLUQ_STRATEGY_NONE, PLUQ_DTYPE_F8_E4M3, 448.0},
        {99U, PLUQ_DTYPE_F8_E4M3, 448.0}}) {
    MethodDescription m = method(strategy, dtype, divisor);
    m.activations.group_size = 128;
    EXPECT_FALSE(by(m)) << strategy << " " << dtype << " " << divisor;
  }
  MethodDescription m = method(PLUQ_STRATEGY_TOKEN, PLUQ_DTYPE_I8, 127);
  m.activations.permuted = true;
  EXPECT_FALSE(by(m));
  m.activations.permuted = false;
  m.takes_quantized = false;
  EXPECT_FALSE(by(m));
}

TEST(EngineRounding, LayersShareOneSchemeOrNone) {
  const std::optional<RoundScheme> a = RoundScheme{RoundMode::kFp8Static, 0, 0.25F},
                                   b = RoundScheme{RoundMode::kFp8Static, 0, 0.5F}, none;
  using Schemes = std::vector<std::optional<RoundScheme>>;
  EXPECT_EQ(common_rounding(Schemes{a, a, a}), a);
  EXPECT_EQ(common_rounding(Schemes{b}), b);
  EXPECT_FALSE(common_rounding(Schemes{a, a, b}));
  EXPECT_FALSE(common_rounding(Schemes{a, none}));
  EXPECT_FALSE(common_rounding(Schemes{none, none}));
  EXPECT_FALSE(common_rounding(Schemes{}));
}

}  // namespace
}  // namespace pluq
