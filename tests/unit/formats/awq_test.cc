// SPDX-License-Identifier: Apache-2.0
// AWQ's layouts, packed here as formats.md (2.2 to 2.4) describes them.
#include <gtest/gtest.h>

#include "unit/formats/oracle.h"

namespace pluq::test {
namespace {

std::string config(const std::string& version, int64_t group, const std::string& more = "") {
  return R"({"quant_method":"awq","bits":4,"group_size":)" + std::to_string(group) +
         R"(,"zero_point":true,"version":")" + version + "\"" + more + "}";
}

struct Logical {
  int64_t n, k, g, groups;
  std::vector<int> codes, zeros;  // [n, k], [n, groups]
  std::vector<float> scales;      // [n, groups]
};

Logical random_layer(int64_t n, int64_t k, int64_t g) {
  Random random(static_cast<uint32_t>(n + k + g));
  Logical l{n, k, g, (k + g - 1) / g, {}, {}, {}};
  l.codes = random.codes(n * k, 16);
  l.zeros = random.codes(n * l.groups, 16);
  l.scales = random.scales(n * l.groups);
  return l;
}

Case make(const Logical& l, const std::string& version) {
  Case c;
  c.format = "awq";
  c.config = config(version, l.g);
  c.ask.n = l.n;
  c.ask.k = l.k;
  for (int64_t n = 0; n < l.n; ++n) {
    for (int64_t k = 0; k < l.k; ++k) {
      const auto at = static_cast<size_t>(n * l.groups + k / l.g);
      c.w.push_back(l.scales[at] *
                    static_cast<float>(l.codes[static_cast<size_t>(n * l.k + k)] - l.zeros[at]));
    }
  }
  return c;
}

// Nibble i of a word holds column order[i] of its eight.
std::vector<uint32_t> interleaved(const std::vector<int>& rows, int64_t count, int64_t n) {
  const int order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
  std::vector<uint32_t> words(static_cast<size_t>(count * n / 8));
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t c = 0; c < n / 8; ++c) {
      for (int i = 0; i < 8; ++i) {
        words[static_cast<size_t>(r * n / 8 + c)] |=
            static_cast<uint32_t>(rows[static_cast<size_t>(r * n + 8 * c + order[i])]) << (4 * i);
      }
    }
  }
  return words;
}

template <class T>
std::vector<T> transposed(const std::vector<T>& a, int64_t rows, int64_t columns) {
  std::vector<T> out(a.size());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c)
      out[static_cast<size_t>(c * rows + r)] = a[static_cast<size_t>(r * columns + c)];
  }
  return out;
}

Case gemm(const Logical& l, const std::string& version = "gemm") {
  Case c = make(l, version);
  c.scheme = "int4 g" + std::to_string(l.g) + " asym";
  c.file = {tensor("qweight", PLUQ_DTYPE_I32, {l.k, l.n / 8},
                   interleaved(transposed(l.codes, l.n, l.k), l.k, l.n)),
            tensor("qzeros", PLUQ_DTYPE_I32, {l.groups, l.n / 8},
                   interleaved(transposed(l.zeros, l.n, l.groups), l.groups, l.n)),
            reals("scales", PLUQ_DTYPE_F16, {l.groups, l.n}, transposed(l.scales, l.n, l.groups))};
  return c;
}

int64_t padded_groups(const Logical& l) {
  const int64_t unit = l.g >= 128 ? 1 : l.g == 64 ? 2 : 4, words = (l.groups + 7) / 8;
  return (words + unit - 1) / unit * unit * 8;
}

Case gemv(const Logical& l) {
  Case c = make(l, "gemv");
  const int64_t padded = padded_groups(l);
  std::vector<int> zeros;
  std::vector<float> scales;
  for (int64_t n = 0; n < l.n; ++n) {
    for (int64_t g = 0; g < padded; ++g) {
      zeros.push_back(g < l.groups ? l.zeros[static_cast<size_t>(n * l.groups + g)] : 0);
      scales.push_back(g < l.groups ? l.scales[static_cast<size_t>(n * l.groups + g)] : 0);
    }
  }
  c.scheme = "int4 g" + std::to_string(l.g) + " asym gemv";
  c.file = {tensor("qweight", PLUQ_DTYPE_I32, {l.n, l.k / 8}, pack_stream(l.codes, 4)),
            tensor("qzeros", PLUQ_DTYPE_I32, {l.n, padded / 8}, pack_stream(zeros, 4)),
            reals("scales", PLUQ_DTYPE_F16, {l.n, padded}, scales)};
  return c;
}

// The closed form of formats.md 2.4: where word c, nibble q of a tile of 4 rows by 64 columns comes
// from.
Case gemv_fast(const Logical& l, const std::string& zeros_name = "qzeros",
               const std::string& version = "gemv_fast") {
  Case c = make(l, version);
  std::vector<uint16_t> words(static_cast<size_t>(l.n / 4 * l.k));
  for (int64_t r = 0; r < l.n / 4; ++r) {
    for (int64_t t = 0; t < l.k / 64; ++t) {
      for (int64_t w = 0; w < 64; ++w) {
        for (int64_t q = 0; q < 4; ++q) {
          const int64_t f = 4 * w + q, row = f / 64, j = f % 64, u = j / 32, s = j % 32,
                        big = s / 8, e = s % 8, half = e / 4, i = e % 4;
          const int64_t n = 4 * r + row, k = 64 * t + 32 * u + 8 * i + 2 * big + half;
          words[static_cast<size_t>(r * l.k + 64 * t + w)] |=
              static_cast<uint16_t>(l.codes[static_cast<size_t>(n * l.k + k)] << (4 * q));
        }
      }
    }
  }
  const int64_t padded = padded_groups(l);
  std::vector<float> scales(static_cast<size_t>(padded * l.n)), offsets(scales.size());
  for (int64_t g = 0; g < l.groups; ++g) {
    for (int64_t n = 0; n < l.n; ++n) {
      const auto from = static_cast<size_t>(n * l.groups + g),
                 to = static_cast<size_t>(g * l.n + n);
      scales[to] = l.scales[from];
      offsets[to] = -l.scales[from] * static_cast<float>(l.zeros[from]);
    }
  }
  c.scheme = "int4 g" + std::to_string(l.g) + " asym gemv_fast";
  c.file = {tensor("qweight", PLUQ_DTYPE_I16, {l.n / 4, l.k}, words),
            reals(zeros_name, PLUQ_DTYPE_F16, {padded, l.n}, offsets),
            reals("scales", PLUQ_DTYPE_F16, {padded, l.n}, scales)};
  return c;
}

TEST(Awq, InterleaveGoldenWord) {
  EXPECT_EQ(interleaved({0, 1, 2, 3, 4, 5, 6, 7}, 1, 8)[0], 0x75316420U);
}

TEST(Awq, Gemm) {
  check_case(gemm(random_layer(64, 256, 64)));
  check_case(gemm(random_layer(32, 256, 128), "GEMM"));
  check_case(gemm(random_layer(32, 128, 32), "exllama"));
}

TEST(Awq, GroupAcrossAShardOfColumns) {
  Case c = gemm(random_layer(32, 256, 128));
  c.k_splits = {8};  // shards of 32 columns within groups of 128
  check_case(c);
}

TEST(Awq, GroupSizeMinusOneIsOneGroup) {
  Case c = gemm(random_layer(32, 128, 128));
  c.config = config("gemm", -1);
  check_case(c);
}

TEST(Awq, Gemv) {
  check_case(gemv(random_layer(64, 256, 64)));
  check_case(gemv(random_layer(40, 256, 128)));
  check_case(
      gemv(random_layer(40, 384, 32)));  // twelve groups: a shard's zero points begin inside a word
}

TEST(Awq, GemvFastAndLlmAwq) {
  check_case(gemv_fast(random_layer(64, 256, 128)));
  check_case(gemv_fast(random_layer(32, 256, 64)));
  Case c = gemv_fast(random_layer(32, 256, 128), "scaled_zeros", "gemm");
  c.config =
      R"({"quant_method":"awq","w_bit":4,"q_group_size":128,"zero_point":true,"version":"gemm","backend":"llm-awq"})";
  check_case(c);
}

TEST(Awq, SquareLayersAreToldApartByTheLabelAndTheScales) {
  check_case(gemm(random_layer(128, 128, 32)));
  check_case(gemv(random_layer(128, 128, 32)));
}

TEST(Awq, LayoutOfTheTensorsBeatsALyingVersion) {
  Case c = gemv(random_layer(40, 256, 128));
  c.config = config("gemm", 128);
  take_logs();
  check_case(c);
  const std::vector<std::string> logs = take_logs();
  ASSERT_FALSE(logs.empty());
  EXPECT_NE(logs[0].find("the tensors are in layout gemv"), std::string::npos) << logs[0];
}

TEST(Awq, ShardsThatAreNoBoxesNameTheMultiple) {
  Case c = gemm(random_layer(64, 256, 64));
  c.ask.out_begin = 4;
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"q_proj", "rows 4 to 64", "runs of 8"});
  c = gemv(random_layer(64, 256, 64));
  c.ask.in_end = 100;
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"columns 0 to 100", "runs of 8"});
  c = gemv_fast(random_layer(64, 256, 128));
  c.ask.in_end = 96;
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"columns 0 to 96", "runs of 64"});
  c.ask.in_end = -1;
  c.ask.out_end = 6;
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"rows 0 to 6", "runs of 4"});
}

TEST(Awq, SymmetricWithoutZeroPointsIsRefused) {
  for (Case c : {gemm(random_layer(32, 128, 32)), gemv(random_layer(32, 128, 32)),
                 gemv_fast(random_layer(32, 128, 128))}) {
    c.file.erase(c.file.begin() + 1);
    expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"qzeros", "missing"});
    c.config = c.config.substr(0, c.config.find("true")) + "false" +
               c.config.substr(c.config.find("true") + 4);
    expect_refusal(c, PLUQ_STATUS_UNSUPPORTED,
                   {"zero_point is false", "does not say where zero lies"});
  }
}

TEST(Awq, LayoutsThatAreNotBuiltAreNamed) {
  Case c = gemm(random_layer(32, 128, 32), "marlin");
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"'marlin'", "gemm, gemv, gemv_fast and llm-awq"});
  c = gemm(random_layer(32, 128, 32));
  c.config = R"({"quant_method":"awq","bits":3})";
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"'bits' is 3", "4"});
  c.config = R"({"quant_method":"awq","bits":4,"group_size":0})";
  expect_refusal(c, PLUQ_STATUS_INVALID, {"'group_size' is 0", "-1"});
}

TEST(Awq, ShapesOfNoLayout) {
  Case c = gemm(random_layer(32, 128, 32));
  c.file[0].shape = {64, 8};
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"none of AWQ's layouts", "I32 [64, 8]"});
  c = gemm(random_layer(32, 128, 32));
  c.file.pop_back();
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"'scales' is missing"});
}

TEST(Awq, ScalesMustBeFinite) {
  Case c = gemm(random_layer(32, 128, 32));
  c.file[2].bytes[5] = 0x7c;
  c.file[2].bytes[4] = 0;
  expect_refusal(c, PLUQ_STATUS_INVALID, {"scales holds inf at 2", "finite"});
  c = gemv_fast(random_layer(32, 128, 128));
  c.file[1].bytes[1] = 0x7e;
  expect_refusal(c, PLUQ_STATUS_INVALID, {"qzeros holds", "at 0"});
}

// "gate" is a substring of gate_proj too: the tensors decide.
TEST(Awq, ModulesToNotConvertMatchesSubstringsButTensorsWin) {
  Case c = gemm(random_layer(32, 128, 32));
  c.config = config("gemm", 32, R"(,"modules_to_not_convert":["gate"])");
  c.ask.name = "model.layers.0.mlp.gate_proj";
  EXPECT_EQ(choose(c).verdict, PLUQ_VERDICT_USE);
  c.ask.name = "model.layers.0.mlp.gate";
  c.file = {reals("weight", PLUQ_DTYPE_F16, {1, 1}, {1})};
  FakeChoice choice = choose(c);
  EXPECT_EQ(choice.verdict, PLUQ_VERDICT_LEAVE_UNQUANTIZED);
  EXPECT_NE(choice.reason.find("'gate'"), std::string::npos);
  c.ask.name = "model.layers.0.mlp.up_proj";
  EXPECT_EQ(choose(c).verdict, PLUQ_VERDICT_NOT_MINE);
}

TEST(Awq, AutoRoundInAwqPacking) {
  Case c = gemm(random_layer(32, 128, 32));
  c.config =
      R"({"quant_method":"auto-round","packing_format":"auto_round:auto_awq","bits":4,"group_size":32,"sym":false})";
  EXPECT_GT(FakeFormat::get("awq").probe(c.config), 0);
  EXPECT_EQ(FakeFormat::get("gptq").probe(c.config), 0);
  check_case(c);
  EXPECT_EQ(FakeFormat::get("awq").probe(
                R"({"quant_method":"auto-round","packing_format":"auto_round:auto_gptq"})"),
            0);
}

TEST(Awq, QuantizesIntoEveryLayoutAlike) {
  Random random(5);
  const int64_t n = 32, k = 256;
  const std::vector<float> w = random.reals(n * k, -0.1F, 0.12F);
  std::vector<float> first;
  for (const std::string layout : {"gemm", "gemv", "gemv_fast"}) {
    Case c;
    c.format = "awq";
    c.ask.n = n;
    c.ask.k = k;
    c.file = FakeFormat::get("awq").quantize(
        w, n, k, R"({"group_size":64,"layout":")" + layout + "\"}", &c.config);
    EXPECT_NE(c.config.find("\"" + layout + "\""), std::string::npos);
    FakeChoice choice = choose(c);
    ASSERT_EQ(choice.verdict, PLUQ_VERDICT_USE) << choice.reason;
    choice.method->load(choice.method->cut(c.file));
    const std::vector<float> back = choice.method->dequantize();
    for (size_t i = 0; i < w.size(); ++i) ASSERT_NEAR(back[i], w[i], 0.51 * 0.22 / 15 + 1e-4);
    if (first.empty()) first = back;
    for (size_t i = 0; i < w.size(); ++i)
      ASSERT_NEAR(back[i], first[i], 2e-4);  // -scale * zero is rounded to f16 there
  }
  std::string text;
  try {
    FakeFormat::get("awq").quantize(w, n, k, R"({"group_size":16,"layout":"gemv"})", &text);
    ADD_FAILURE() << "accepted groups of 16";
  } catch (const Refusal& r) {
    EXPECT_NE(r.text.find("group_size is 16"), std::string::npos) << r.text;
  }
}

}  // namespace
}  // namespace pluq::test
