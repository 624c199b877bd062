// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>

#include "unit/formats/oracle.h"

namespace pluq::test {
namespace {

struct Layer {
  int64_t n = 48, k = 128;
  int64_t bn = 0, bk = 0;         // blocks; 0: by `shape`
  std::vector<int64_t> shape{1};  // of the scales, without blocks
  std::string scale = "weight_scale";
  bool inverse = false;
  uint32_t weight = PLUQ_DTYPE_F8_E4M3, scale_type = PLUQ_DTYPE_F32;
  std::vector<int64_t> parts;
};

Case make(const Layer& l, const std::string& config) {
  Random random(static_cast<uint32_t>(l.n + l.k + l.bn));
  Case c;
  c.format = "fp8";
  c.config = config;
  c.ask.n = l.n;
  c.ask.k = l.k;
  c.ask.parts = l.parts;
  std::vector<uint8_t> codes;
  for (int64_t i = 0; i < l.n * l.k; ++i) {
    const auto code = static_cast<uint8_t>(random.below(256));
    const bool number =
        l.weight == PLUQ_DTYPE_F8_E4M3 ? (code & 0x7f) != 0x7f : (code & 0x7f) < 0x7c;
    codes.push_back(number ? code : uint8_t{1});  // the smallest subnormal
  }
  const std::vector<int64_t> shape =
      l.bn > 0 ? std::vector<int64_t>{(l.n + l.bn - 1) / l.bn, (l.k + l.bk - 1) / l.bk} : l.shape;
  int64_t count = 1;
  for (const int64_t d : shape) count *= d;
  const std::vector<float> scales = random.scales(count);
  const auto scale_of = [&](int64_t n, int64_t k) {
    if (l.bn > 0) return scales[static_cast<size_t>(n / l.bn * shape[1] + k / l.bk)];
    if (count == 1) return scales[0];
    if (count == l.n) return scales[static_cast<size_t>(n)];
    size_t part = 0;
    for (int64_t end = l.parts[0]; n >= end; end += l.parts[part]) ++part;
    return scales[part];
  };
  for (int64_t n = 0; n < l.n; ++n) {
    for (int64_t k = 0; k < l.k; ++k) {
      const uint8_t code = codes[static_cast<size_t>(n * l.k + k)];
      const double value = l.weight == PLUQ_DTYPE_F8_E4M3 ? e4m3(code) : e5m2(code);
      const double scale = static_cast<double>(scale_of(n, k));
      c.w.push_back(static_cast<float>(l.inverse ? value / scale : value * scale));
    }
  }
  c.file = {tensor("weight", l.weight, {l.n, l.k}, codes),
            reals(l.scale, l.scale_type, shape, scales)};
  return c;
}

const std::string kDynamic = R"({"quant_method":"fp8","activation_scheme":"dynamic"})";

std::string blocks(int64_t bn, int64_t bk, const std::string& more = "") {
  return R"({"quant_method":"fp8","activation_scheme":"dynamic","weight_block_size":[)" +
         std::to_string(bn) + "," + std::to_string(bk) + "]" + more + "}";
}

std::string groups(const std::string& weights, const std::string& inputs) {
  return R"({"quant_method":"compressed-tensors","format":"float-quantized","config_groups":{"group_0":{"targets":["Linear"],"weights":)"
         R"({"num_bits":8,"type":"float",)" +
         weights + R"(},"input_activations":)" + inputs + "}}}";
}

TEST(Fp8, PerTensorDynamic) {
  Case c = make({}, kDynamic);
  c.scheme = "e4m3 tensor a8 token";
  check_case(c);
  check_case(make({48, 128, 0, 0, {}}, kDynamic));  // AutoFP8's scalar
}

TEST(Fp8, StaticActivations) {
  const std::string config = R"({"quant_method":"fp8","activation_scheme":"static"})";
  Case c = make({}, config);
  expect_refusal(c, PLUQ_STATUS_INVALID, {"static", "'input_scale' is missing"});
  c.input_scale = 0.0078125F;
  c.file.push_back(reals("input_scale", PLUQ_DTYPE_F32, {}, {c.input_scale}));
  c.scheme = "e4m3 tensor a8 static";
  check_case(c);
  c.file.back() = reals("input_scale", PLUQ_DTYPE_F32, {1}, {0.0F});
  expect_refusal(c, PLUQ_STATUS_INVALID, {"input_scale is 0", "above 0"});
}

TEST(Fp8, BlocksOfAnySize) {
  for (const auto& [bn, bk] :
       {std::pair<int64_t, int64_t>{128, 128}, {16, 32}, {64, 128}, {1, 64}}) {
    SCOPED_TRACE(bn);
    Case c = make({48, 128, bn, bk, {}, "weight_scale_inv"}, blocks(bn, bk));
    c.scheme = bn == 1
                   ? "e4m3 g64 a8 group"
                   : "e4m3 block " + std::to_string(bn) + "x" + std::to_string(bk) + " a8 group";
    check_case(c);
  }
}

// Problem 2 of section 10: shards may begin inside a block, and edge blocks are partial.
TEST(Fp8, ShardsWithinBlocks) {
  Case c = make({80, 200, 128, 128, {}, "weight_scale_inv"}, blocks(128, 128));
  c.k_splits = {2, 8};  // 25 columns each
  c.n_splits = {2, 5};
  check_case(c);
}

TEST(Fp8, PerRow) {
  check_case(make({48, 128, 0, 0, {48, 1}}, kDynamic));
  check_case(make({48, 128, 0, 0, {48}}, kDynamic));
}

// Several per-tensor scales of a weight that was fused on disk: expanded to rows, nothing is
// quantized again.
TEST(Fp8, FusedPerTensorScales) {
  Layer l;
  l.shape = {3};
  l.parts = {24, 12, 12};
  Case c = make(l, kDynamic);
  c.scheme = "e4m3 tensor per part a8 token";
  check_case(c);
  c = make(
      {48, 128, 0, 0, {1}, "weight_scale", false, PLUQ_DTYPE_F8_E4M3, PLUQ_DTYPE_F32, {24, 24}},
      R"({"quant_method":"fp8","activation_scheme":"static"})");
  c.file.push_back(reals("input_scale", PLUQ_DTYPE_F32, {2}, {0.0078125F, 0.015625F}));
  c.input_scale = 0.015625F;  // the parts read one input: the larger holds for both
  check_case(c);
  l.parts.clear();
  l.shape = {1};
  c = make(l, kDynamic);
  c.file[1] = reals("weight_scale", PLUQ_DTYPE_F32, {3}, {1, 1, 1});
  expect_refusal(c, PLUQ_STATUS_INVALID, {"weight_scale is F32 [3]", "[N, 1] with N = 48"});
}

// The name says inverse, the meaning is multiplier, unless the config says otherwise.
TEST(Fp8, WeightScaleInvMultipliesUnlessTheConfigSaysInverse) {
  check_case(make({48, 128, 0, 0, {1}, "weight_scale_inv"}, kDynamic));
  Layer l{48, 128, 32, 32, {}, "weight_scale_inv", true};
  Case c = make(l, blocks(32, 32, R"(,"weight_scale_semantics":"inverse")"));
  for (size_t i = 0; i < c.w.size(); ++i) c.w[i] /= 65536;  // reciprocals of small scales
  std::vector<float> scales(c.file[1].bytes.size() / 4);
  std::memcpy(scales.data(), c.file[1].bytes.data(), c.file[1].bytes.size());
  for (float& s : scales) s *= 65536;
  c.file[1] = reals("weight_scale_inv", PLUQ_DTYPE_F32, c.file[1].shape, scales);
  take_logs();
  check_case(c);
  EXPECT_TRUE(take_logs().empty());
  // Read as multipliers they are implausible, and that is said.
  c.config = blocks(32, 32);
  FakeChoice choice = choose(c);
  choice.method->load(choice.method->cut(c.file));
  const std::vector<std::string> logs = take_logs();
  ASSERT_FALSE(logs.empty());
  EXPECT_NE(logs[0].find("which no real model has"), std::string::npos) << logs[0];
}

TEST(Fp8, FbgemmClampsTheScaleOfATokenAtItsBound) {
  Case c = make(
      {48, 128, 0, 0, {48, 1}},
      R"({"quant_method":"fbgemm_fp8","activation_scale_ub":3.5,"modules_to_not_convert":["lm_head"]})");
  c.bound = 3.5F;  // the inputs' outliers are far above
  check_case(c);
  c.config = R"({"quant_method":"fbgemm_fp8"})";
  c.bound = 0;
  check_case(c);
  c.config = R"({"quant_method":"fbgemm_fp8","activation_scale_ub":0})";
  expect_refusal(c, PLUQ_STATUS_INVALID, {"'activation_scale_ub' is 0", "above 0"});
}

TEST(Fp8, E5m2Weights) {
  Case c = make({48, 128, 0, 0, {48, 1}, "weight_scale", false, PLUQ_DTYPE_F8_E5M2}, kDynamic);
  c.scheme = "e5m2 channel a8 token";
  check_case(c);
}

TEST(Fp8, ScalesOf16BitsAndOtherNames) {
  check_case(
      make({48, 128, 32, 32, {}, "weight_scale_inv", false, PLUQ_DTYPE_F8_E4M3, PLUQ_DTYPE_BF16},
           blocks(32, 32)));
  check_case(
      make({48, 128, 0, 0, {48, 1}, "weight_scale", false, PLUQ_DTYPE_F8_E4M3, PLUQ_DTYPE_F16},
           kDynamic));
  check_case(make({48, 128, 32, 32, {}, "scale"}, blocks(32, 32)));
}

TEST(Fp8, PowerOfTwoScales) {
  Case c = make({48, 128, 32, 32, {}, "weight_scale_inv"}, blocks(32, 32));
  std::vector<float> old(c.file[1].bytes.size() / 4);
  std::memcpy(old.data(), c.file[1].bytes.data(), c.file[1].bytes.size());
  std::vector<uint8_t> codes;
  for (size_t i = 0; i < old.size(); ++i) codes.push_back(static_cast<uint8_t>(115 + i % 6));
  for (int64_t n = 0; n < 48; ++n) {
    for (int64_t k = 0; k < 128; ++k) {
      const auto b = static_cast<size_t>(n / 32 * 4 + k / 32);
      c.w[static_cast<size_t>(n * 128 + k)] *= std::ldexp(1.0F, codes[b] - 127) / old[b];
    }
  }
  c.file[1] = tensor("weight_scale_inv", PLUQ_DTYPE_F8_E8M0, c.file[1].shape, codes);
  check_case(c);
}

TEST(Fp8, CompressedTensors) {
  const std::string token = R"({"num_bits":8,"type":"float","strategy":"token","dynamic":true})";
  const std::string group =
      R"({"num_bits":8,"type":"float","strategy":"group","group_size":32,"dynamic":true})";
  const std::string fixed = R"({"num_bits":8,"type":"float","strategy":"tensor","dynamic":false})";
  check_case(make({48, 128, 0, 0, {1}, "weight_scale", false, PLUQ_DTYPE_F8_E4M3, PLUQ_DTYPE_BF16},
                  groups(R"("strategy":"tensor")", token)));
  check_case(make({48, 128, 0, 0, {48, 1}}, groups(R"("strategy":"channel")", token)));
  check_case(make({48, 128, 32, 64, {}},
                  groups(R"("strategy":"block","block_structure":[32,64])", group)));
  check_case(make({48, 128, 32, 64, {}},
                  groups(R"("strategy":"block","block_structure":"32x64")", group)));
  check_case(make({48, 128, 1, 32, {}}, groups(R"("strategy":"group","group_size":32)", token)));
  check_case(
      make({48, 128, 0, 0, {48, 1}}, groups(R"("strategy":"channel")", "null")));  // weight-only
  Case c = make({48, 128, 0, 0, {48, 1}}, groups(R"("strategy":"channel")", fixed));
  c.input_scale = 0.015625F;
  c.file.push_back(reals("input_scale", PLUQ_DTYPE_BF16, {1}, {c.input_scale}));
  check_case(c);
}

TEST(Fp8, CodesThatAreNoNumbers) {
  Case c = make({}, kDynamic);
  c.file[0].bytes[130] = 0xff;
  expect_refusal(c, PLUQ_STATUS_INVALID, {"weight[1, 2] is the code 0xff"});
  c = make({48, 128, 0, 0, {1}, "weight_scale", false, PLUQ_DTYPE_F8_E5M2}, kDynamic);
  c.file[0].bytes[5] = 0x7c;  // infinity
  expect_refusal(c, PLUQ_STATUS_INVALID, {"weight[0, 5] is the code 0x7c"});
}

TEST(Fp8, WhatIsWrongIsNamed) {
  Case c = make({}, kDynamic);
  c.file.pop_back();
  expect_refusal(c, PLUQ_STATUS_INVALID, {"without 'weight_scale'", "F8_E4M3 [48, 128]"});
  c = make({48, 128, 32, 32, {}, "weight_scale_inv"}, blocks(64, 64));
  expect_refusal(c, PLUQ_STATUS_INVALID, {"F32 [2, 4]", "[1, 2] for blocks of 64x64"});
  c = make({}, R"({"quant_method":"fp8","activation_scheme":"magic"})");
  expect_refusal(c, PLUQ_STATUS_INVALID, {"'magic'", "dynamic or static"});
  c = make({}, R"({"quant_method":"fp8","weight_block_size":[0,128]})");
  expect_refusal(c, PLUQ_STATUS_INVALID, {"weight_block_size"});
  c = make({}, R"({"quant_method":"fp8","weight_scale_semantics":"cube"})");
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"'cube'", "inverse and multiplier"});
  c = make({}, kDynamic);
  c.file[1] = reals("weight_scale", PLUQ_DTYPE_F32, {1}, {INFINITY});
  expect_refusal(c, PLUQ_STATUS_INVALID, {"weight_scale holds inf at 0", "finite"});
}

// A shard of columns whose inputs are rounded over all of them is no shard.
TEST(Fp8, ColumnsOfTokensCannotBeSplit) {
  Case c = make({}, kDynamic);
  c.ask.in_end = 64;
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"per token over all of K"});
  c = make({48, 128, 32, 32, {}, "weight_scale_inv"}, blocks(32, 32));
  c.ask.in_end = 48;
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"columns", "0 to 48", "runs of 32"});
}

// Section 10, problem 7: a 16-bit weight is never taken for fp8.
TEST(Fp8, SixteenBitWeightsAreNotMine) {
  Case c = make({}, kDynamic);
  c.file = {reals("weight", PLUQ_DTYPE_BF16, {1, 1}, {1})};
  EXPECT_EQ(choose(c).verdict, PLUQ_VERDICT_NOT_MINE);
}

}  // namespace
}  // namespace pluq::test
