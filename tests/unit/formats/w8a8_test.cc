// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "unit/formats/oracle.h"

namespace pluq::test {
namespace {

const std::string kToken =
    R"({"num_bits":8,"type":"int","strategy":"token","dynamic":true,"symmetric":true})";
const std::string kTokenAsym =
    R"({"num_bits":8,"type":"int","strategy":"token","dynamic":true,"symmetric":false})";
const std::string kStatic =
    R"({"num_bits":8,"type":"int","strategy":"tensor","dynamic":false,"symmetric":true})";
const std::string kStaticAsym =
    R"({"num_bits":8,"type":"int","strategy":"tensor","dynamic":false,"symmetric":false})";

std::string config(const std::string& weights, const std::string& inputs,
                   const std::string& format = "int-quantized") {
  return R"({"quant_method":"compressed-tensors","format":")" + format +
         R"(","config_groups":{"group_0":{"targets":["Linear"],"weights":)"
         R"({"num_bits":8,"type":"int",)" +
         weights + R"(},"input_activations":)" + inputs + "}}}";
}

struct Layer {
  int64_t n = 48, k = 128, g = 0;     // g > 0: columns that share a scale
  std::vector<int64_t> shape{48, 1};  // of the scales, without groups
  bool zeros = false;
  std::vector<int64_t> parts;
};

Case make(const Layer& l, const std::string& text) {
  Random random(static_cast<uint32_t>(l.n + l.k + l.g));
  Case c;
  c.format = "w8a8";
  c.config = text;
  c.ask.n = l.n;
  c.ask.k = l.k;
  c.ask.parts = l.parts;
  const std::vector<int64_t> shape =
      l.g > 0 ? std::vector<int64_t>{l.n, (l.k + l.g - 1) / l.g} : l.shape;
  int64_t count = 1;
  for (const int64_t d : shape) count *= d;
  std::vector<int8_t> codes, zeros;
  for (const int code : random.codes(l.n * l.k, 256))
    codes.push_back(static_cast<int8_t>(code - 128));
  for (const int code : random.codes(count, 60)) zeros.push_back(static_cast<int8_t>(code - 30));
  const std::vector<float> scales = random.scales(count);
  for (int64_t n = 0; n < l.n; ++n) {
    for (int64_t k = 0; k < l.k; ++k) {
      size_t at = 0;
      if (l.g > 0) {
        at = static_cast<size_t>(n * shape[1] + k / l.g);
      } else if (count == l.n) {
        at = static_cast<size_t>(n);
      } else if (count > 1) {
        for (int64_t end = l.parts[0]; n >= end; end += l.parts[at]) ++at;
      }
      const int code = codes[static_cast<size_t>(n * l.k + k)];
      c.w.push_back(scales[at] * static_cast<float>(code - (l.zeros ? zeros[at] : 0)));
    }
  }
  c.file = {tensor("weight", PLUQ_DTYPE_I8, {l.n, l.k}, codes),
            reals("weight_scale", PLUQ_DTYPE_BF16, shape, scales)};
  if (l.zeros) c.file.push_back(tensor("weight_zero_point", PLUQ_DTYPE_I8, shape, zeros));
  return c;
}

TEST(W8a8, TokenSymmetric) {
  Case c = make({}, config(R"("strategy":"channel")", kToken));
  c.scheme = "int8 channel a8 token";
  check_case(c);
}

TEST(W8a8, TokenAsymmetric) {
  Case c = make({}, config(R"("strategy":"channel")", kTokenAsym));
  c.scheme = "int8 channel a8 token asym";
  check_case(c);
}

TEST(W8a8, Static) {
  Case c = make({}, config(R"("strategy":"channel")", kStatic));
  expect_refusal(c, PLUQ_STATUS_INVALID, {"activations are static", "'input_scale' is missing"});
  c.input_scale = 0.03125F;
  c.file.push_back(reals("input_scale", PLUQ_DTYPE_BF16, {1}, {c.input_scale}));
  c.scheme = "int8 channel a8 static";
  check_case(c);
  c.file.back() = reals("input_scale", PLUQ_DTYPE_F32, {1}, {-1.0F});
  expect_refusal(c, PLUQ_STATUS_INVALID, {"input_scale is -1", "above 0"});
}

// y = s_a s_b (x_q W^T - z_a colsum): the zero point's correction, also where K is split.
TEST(W8a8, StaticAsymmetric) {
  Case c = make({}, config(R"("strategy":"channel")", kStaticAsym));
  c.input_scale = 0.03125F;
  c.input_zero = -37;
  c.file.push_back(reals("input_scale", PLUQ_DTYPE_F32, {1}, {c.input_scale}));
  c.file.push_back(tensor("input_zero_point", PLUQ_DTYPE_I8, {1}, std::vector<int8_t>{-37}));
  check_case(c);
}

TEST(W8a8, PerTensorWeights) {
  check_case(make({48, 128, 0, {1}}, config(R"("strategy":"tensor")", kToken)));
  check_case(make({48, 128, 0, {48}}, config(R"("strategy":"channel")", kToken)));
}

TEST(W8a8, FusedPerTensorScales) {
  Case c = make({48, 128, 0, {3}, false, {24, 12, 12}}, config(R"("strategy":"tensor")", kToken));
  c.scheme = "int8 tensor per part a8 token";
  check_case(c);
}

TEST(W8a8, WeightOnly) {
  Case c = make({}, config(R"("strategy":"channel")", "null", "naive-quantized"));
  c.scheme = "int8 channel";
  check_case(c);
  check_case(make({48, 128, 32}, config(R"("strategy":"group","group_size":32)", "null")));
  check_case(make({48, 160, 64}, config(R"("strategy":"group","group_size":64)", "null")));
}

TEST(W8a8, AsymmetricWeights) {
  Case c = make({48, 128, 0, {48, 1}, true},
                config(R"("strategy":"channel","symmetric":false)", kToken));
  c.scheme = "int8 channel asym a8 token";
  check_case(c);
  check_case(make({48, 128, 32, {}, true},
                  config(R"("strategy":"group","group_size":32,"symmetric":false)", "null")));
  c = make({48, 128, 0, {48, 1}, true},
           config(R"("strategy":"channel","symmetric":false)", kTokenAsym));
  check_case(c);
  c.file.pop_back();
  expect_refusal(c, PLUQ_STATUS_INVALID, {"symmetric is false", "'weight_zero_point' is missing"});
}

TEST(W8a8, OddShapes) {
  check_case(make({37, 45, 0, {37, 1}}, config(R"("strategy":"channel")", kTokenAsym)));
}

TEST(W8a8, ColumnsOfTokensCannotBeSplit) {
  Case c = make({}, config(R"("strategy":"channel")", kToken));
  c.ask.in_end = 64;
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"per token over all of K"});
}

TEST(W8a8, WhatIsNotBuiltIsNamed) {
  Case c = make({}, config(R"("strategy":"channel")",
                           R"({"num_bits":8,"type":"int","strategy":"tensor","dynamic":true})"));
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED,
                 {"dynamic activations of strategy 'tensor'", "token is"});
  c.config = config(R"("strategy":"channel")",
                    R"({"num_bits":8,"type":"float","strategy":"token","dynamic":true})");
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"8-bit floats", "8-bit integers"});
  c.config = config(R"("strategy":"block","block_structure":[16,16])", kToken);
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"strategy 'block'", "tensor, channel and group"});
  c.config =
      R"({"quant_method":"compressed-tensors","config_groups":{"a":{"targets":["Conv2d"],"weights":{}}}})";
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"no group of config_groups targets"});
}

TEST(W8a8, ShapesAndValuesThatAreWrong) {
  Case c = make({}, config(R"("strategy":"channel")", kToken));
  c.file[1] = reals("weight_scale", PLUQ_DTYPE_F32, {7}, std::vector<float>(7, 1));
  expect_refusal(c, PLUQ_STATUS_INVALID, {"weight_scale is F32 [7]", "N = 48"});
  c = make({}, config(R"("strategy":"channel")", kToken));
  c.file[1].bytes[3] = 0x7f;
  c.file[1].bytes[2] = 0x80;
  expect_refusal(c, PLUQ_STATUS_INVALID, {"weight_scale holds inf at 1"});
  c = make({}, config(R"("strategy":"channel")", kStaticAsym));
  c.file.push_back(reals("input_scale", PLUQ_DTYPE_F32, {1}, {1}));
  c.file.push_back(tensor("input_zero_point", PLUQ_DTYPE_I32, {1}, std::vector<int32_t>{300}));
  expect_refusal(c, PLUQ_STATUS_INVALID, {"input_zero_point is 300", "-128 to 127"});
}

TEST(W8a8, QuantizesForEachRoundingOfActivations) {
  Random random(2);
  const int64_t n = 32, k = 96;
  const std::vector<float> w = random.reals(n * k, -0.1F, 0.1F);
  for (const std::string inputs : {"token", "token_asym", "float"}) {
    Case c;
    c.format = "w8a8";
    c.ask.n = n;
    c.ask.k = k;
    c.file = FakeFormat::get("w8a8").quantize(w, n, k, R"({"activations":")" + inputs + "\"}",
                                              &c.config);
    FakeChoice choice = choose(c);
    ASSERT_EQ(choice.verdict, PLUQ_VERDICT_USE) << choice.reason;
    EXPECT_EQ(choice.method->scheme(), inputs == "token"        ? "int8 channel a8 token"
                                       : inputs == "token_asym" ? "int8 channel a8 token asym"
                                                                : "int8 channel");
    choice.method->load(choice.method->cut(c.file));
    const std::vector<float> back = choice.method->dequantize();
    for (size_t i = 0; i < w.size(); ++i) ASSERT_NEAR(back[i], w[i], 0.1F / 127.5F);
  }
}

}  // namespace
}  // namespace pluq::test
