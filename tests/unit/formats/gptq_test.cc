// SPDX-License-Identifier: Apache-2.0
// GPTQ's own layouts, packed here as formats.md section 1 describes them. compressed-tensors:
// packed_test.cc.
#include <gtest/gtest.h>

#include <algorithm>

#include "unit/formats/oracle.h"

namespace pluq::test {
namespace {

struct Layer {
  int64_t n = 64, k = 128, g = 32;
  int bits = 4;
  bool sym = true, order = false;
  std::string layout = "gptq";  // gptq (v1), gptq_v2, gptq_p
  bool no_zero_is_0 = true;
};

struct Values {
  std::vector<int> codes, zeros, g_idx;  // [n, k], [G, n], [k]
  std::vector<float> scales;             // [G, n]
  int64_t groups = 0;
};

Values draw(const Layer& l) {
  Random random(static_cast<uint32_t>(l.n * 3 + l.k + l.g + l.bits));
  Values v;
  const int64_t size = l.g < 0 ? l.k : l.g;
  v.groups = (l.k + size - 1) / size;
  v.codes = random.codes(l.n * l.k, 1 << l.bits);
  for (int64_t i = 0; i < v.groups * l.n; ++i) {
    const int low = l.no_zero_is_0 ? 1 : 0;
    v.zeros.push_back(l.sym ? 1 << (l.bits - 1)
                            : low + static_cast<int>(random.below((1 << l.bits) - low)));
  }
  v.scales = random.scales(v.groups * l.n);
  for (int64_t k = 0; k < l.k; ++k) v.g_idx.push_back(static_cast<int>(l.g < 0 ? 0 : k / l.g));
  if (l.order) std::shuffle(v.g_idx.begin(), v.g_idx.end(), std::mt19937(9));
  return v;
}

std::vector<uint32_t> pack(const std::vector<int>& codes, const Layer& l) {
  return l.layout == "gptq_p" ? pack_planar(codes, l.bits) : pack_stream(codes, l.bits);
}

FileTensor qweight(const Layer& l, const Values& v) {
  const int64_t words = (l.k * l.bits + 31) / 32;
  std::vector<uint32_t> out(static_cast<size_t>(words * l.n));
  for (int64_t n = 0; n < l.n; ++n) {
    const std::vector<uint32_t> column =
        pack({v.codes.begin() + n * l.k, v.codes.begin() + (n + 1) * l.k}, l);
    for (int64_t w = 0; w < words; ++w)
      out[static_cast<size_t>(w * l.n + n)] = column[static_cast<size_t>(w)];
  }
  return tensor("qweight", PLUQ_DTYPE_I32, {words, l.n}, out);
}

// Rows of zero points; version 1 as GPTQModel writes it: one less in each field, borrowing within
// the word.
FileTensor qzeros(const Layer& l, const Values& v) {
  std::vector<uint32_t> out;
  for (int64_t g = 0; g < v.groups; ++g) {
    std::vector<int> row(v.zeros.begin() + g * l.n, v.zeros.begin() + (g + 1) * l.n);
    if (l.layout == "gptq" && 32 % l.bits != 0) {
      for (int& z : row) z = (z + (1 << l.bits) - 1) % (1 << l.bits);
    }
    std::vector<uint32_t> words = pack(row, l);
    if (l.layout == "gptq" && 32 % l.bits == 0) {
      const uint32_t ones =
          pack_stream(std::vector<int>(static_cast<size_t>(32 / l.bits), 1), l.bits)[0];
      for (uint32_t& w : words) w -= ones;
    }
    out.insert(out.end(), words.begin(), words.end());
  }
  return tensor("qzeros", PLUQ_DTYPE_I32, {v.groups, (l.n * l.bits + 31) / 32}, out);
}

std::string config(const Layer& l, const std::string& more = "") {
  return R"({"quant_method":"gptq","bits":)" + std::to_string(l.bits) + R"(,"group_size":)" +
         std::to_string(l.g) + R"(,"sym":)" + (l.sym ? "true" : "false") + R"(,"desc_act":)" +
         (l.order ? "true" : "false") + R"(,"checkpoint_format":")" + l.layout + "\"" + more + "}";
}

Case make(const Layer& l) {
  const Values v = draw(l);
  Case c;
  c.format = "gptq";
  c.config = config(l);
  c.ask.n = l.n;
  c.ask.k = l.k;
  for (int64_t n = 0; n < l.n; ++n) {
    for (int64_t k = 0; k < l.k; ++k) {
      const auto at = static_cast<size_t>(v.g_idx[static_cast<size_t>(k)] * l.n + n);
      c.w.push_back(v.scales[at] *
                    static_cast<float>(v.codes[static_cast<size_t>(n * l.k + k)] - v.zeros[at]));
    }
  }
  c.file = {qweight(l, v), qzeros(l, v), reals("scales", PLUQ_DTYPE_F16, {v.groups, l.n}, v.scales),
            tensor("g_idx", PLUQ_DTYPE_I32, {l.k}, v.g_idx)};
  c.scheme = "int" + std::to_string(l.bits) + (l.g < 0 ? " channel" : " g" + std::to_string(l.g)) +
             (l.sym ? " sym" : " asym") + (l.order ? " act-order" : "");
  const int64_t unit = 32 % l.bits == 0 && l.layout != "gptq_p" ? 32 / l.bits : 32;
  const auto fits = [&](int64_t full, int64_t parts) {
    return full % parts == 0 && full / parts % unit == 0;
  };
  c.k_splits.clear();
  c.n_splits.clear();
  for (const int64_t parts : {2, 4}) {
    if (fits(l.k, parts)) c.k_splits.push_back(parts);
    if (fits(l.n, parts)) c.n_splits.push_back(parts);
  }
  return c;
}

// The file's tensor of this name.
FileTensor& named(Case& c, const std::string& name) {
  return *std::find_if(c.file.begin(), c.file.end(),
                       [&](const FileTensor& t) { return t.name == name; });
}
void drop(Case& c, const std::string& name) {
  std::erase_if(c.file, [&](const FileTensor& t) { return t.name == name; });
}

TEST(Gptq, GoldenWords) {
  EXPECT_EQ(pack_stream({0, 1, 2, 3, 4, 5, 6, 7}, 4), std::vector<uint32_t>{0x76543210});
  EXPECT_EQ(pack_stream({0, 1, 2, 3}, 8), std::vector<uint32_t>{0x03020100});
  std::vector<int> codes;
  for (int i = 0; i < 32; ++i) codes.push_back(i % 8);
  EXPECT_EQ(pack_stream(codes, 3), (std::vector<uint32_t>{0x88FAC688, 0xC688FAC6, 0xFAC688FA}));
}

TEST(Gptq, EveryWidthSymmetricAndNot) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const bool sym : {true, false}) {
      for (const char* layout : {"gptq", "gptq_v2"}) {
        SCOPED_TRACE(std::to_string(bits) + (sym ? " sym " : " asym ") + layout);
        check_case(make({64, 128, 32, bits, sym, false, layout}));
      }
    }
  }
}

TEST(Gptq, PlanarWidths) {
  for (const int bits : {2, 3, 5, 6, 7, 8}) {
    SCOPED_TRACE(bits);
    check_case(make({64, 128, 32, bits, bits % 2 == 0, false, "gptq_p"}));
  }
}

TEST(Gptq, ActOrder) {
  check_case(make({64, 128, 32, 4, true, true}));
  check_case(make({64, 128, 32, 3, false, true}));
}

TEST(Gptq, GroupSizes) {
  check_case(make({64, 128, -1, 4, false}));
  check_case(make({64, 256, 128, 4}));  // shards of columns within a group
  check_case(make({64, 96, 16, 8}));
}

// Trap 12: 192 columns in groups of 128.
TEST(Gptq, GroupThatDoesNotDivideK) {
  check_case(make({64, 192, 128, 4, false}));
  check_case(make({64, 160, 48, 4, true}));
}

TEST(Gptq, OddNumbersOfRows) {
  Layer l{48, 96, 32, 4, true};
  l.n = 44;  // qzeros' last word is half used
  check_case(make(l));
  l.sym = false;
  check_case(make(l));
}

// Neither N nor K is a multiple of 32, and the last group is short.
TEST(Gptq, RowsAndColumnsThatEndInsideAWord) {
  for (const int bits : {2, 3, 4, 8}) {
    for (const char* layout : {"gptq", "gptq_v2"}) {
      for (const bool order : {false, true}) {
        SCOPED_TRACE(std::to_string(bits) + " " + layout + (order ? " act-order" : ""));
        check_case(make({37, 104, 32, bits, false, order, layout}));
      }
    }
    check_case(make({19, 136, 128, bits, true, true}));
  }
  for (const int bits : {5, 6, 7}) check_case(make({64, 160, 128, bits, false, true, "gptq_p"}));
}

// Codes, scales, zero points and the order of columns take a kernel each, whatever the layer's
// size.
TEST(Gptq, LoadsOnADeviceInFourLaunches) {
  for (const int64_t n : {64, 1024}) {
    const Case c = make({n, 512, 32, 3, false, true});
    const auto config = FakeFormat::get("gptq").config(c.config);
    LayerAsk ask = c.ask;
    ask.exact = false;
    FakeChoice choice = config->choose(ask, c.file, "sm80");
    ASSERT_EQ(choice.verdict, PLUQ_VERDICT_USE) << choice.reason;
    choice.method->load_on_device(choice.method->cut(c.file), 80);
    EXPECT_EQ(choice.method->kernel(), "cuda_dequantize");
    EXPECT_EQ(choice.method->load_launches(), 4U) << n;
  }
}

// Trap 1.3.1: with sym the words of the zero points are not needed, so a wrong version does no harm
// and is said.
TEST(Gptq, LyingVersionLabel) {
  for (const char* layout : {"gptq", "gptq_v2"}) {
    Case c = make({64, 128, 32, 4, true, false, layout});
    const std::string other = std::string(layout) == "gptq" ? "gptq_v2" : "gptq";
    c.config = config({64, 128, 32, 4, true, false, other});
    take_logs();
    check_case(c);
    const std::vector<std::string> logs = take_logs();
    ASSERT_FALSE(logs.empty());
    EXPECT_NE(logs[0].find(other == "gptq" ? "version 1, the zero points are in version 2"
                                           : "version 2, the zero points are in version 1"),
              std::string::npos)
        << logs[0];
  }
}

TEST(Gptq, ZeroPointsThatAreNotSymmetricAreReported) {
  Case c = make({64, 128, 32, 4, false});
  Case labelled = make({64, 128, 32, 4, true});
  named(labelled, "qzeros") = named(c, "qzeros");
  take_logs();
  check_case(labelled);
  const std::vector<std::string> logs = take_logs();
  ASSERT_FALSE(logs.empty());
  EXPECT_NE(logs[0].find("the config says sym, but"), std::string::npos) << logs[0];
}

// Trap 1.3.2: zero points of 0 in version 1 borrow from their neighbour.
TEST(Gptq, ModularZeroPoints) {
  for (const int bits : {2, 3, 4, 8}) {
    SCOPED_TRACE(bits);
    Layer l{64, 64, 32, bits, false};
    l.no_zero_is_0 = false;
    check_case(make(l));
  }
  // The page's example: true zeros 0 5 8 3 0 15 1 7 are the word 0x60DF273F.
  Layer l{8, 32, 32, 4, false};
  Values v = draw(l);
  v.zeros = {0, 5, 8, 3, 0, 15, 1, 7};
  const FileTensor z = qzeros(l, v);
  uint32_t word;
  std::memcpy(&word, z.bytes.data(), 4);
  EXPECT_EQ(word, 0x60DF273FU);
}

// Trap 6: auto-round leaves g_idx out.
TEST(Gptq, MissingGIdxIsNatural) {
  Case c = make({64, 128, 32, 4, true});
  drop(c, "g_idx");
  check_case(c);
}

TEST(Gptq, MissingGIdxWithActOrderIsAnError) {
  Case c = make({64, 128, 32, 4, true, true});
  drop(c, "g_idx");
  expect_refusal(c, PLUQ_STATUS_INVALID, {"desc_act", "'g_idx' is missing"});
  c = make({64, 128, -1, 4, true, false});
  c.config = config({64, 128, -1, 4, true, true});  // one group has no order
  c.scheme.clear();
  drop(c, "g_idx");
  check_case(c);
}

// static_groups and act_group_aware: the flag says act-order, the tensor does not.
TEST(Gptq, TheTensorDecidesAboutActOrderNotTheFlag) {
  Case c = make({64, 128, 32, 4, true, false});
  c.config = config({64, 128, 32, 4, true, true});
  c.scheme.clear();
  check_case(c);
  c = make({64, 128, 32, 4, true, true});
  c.config = config({64, 128, 32, 4, true, false});
  c.scheme.clear();
  check_case(c);
}

TEST(Gptq, GIdxOfZerosOrderNothing) {
  Case c = make({64, 128, 32, 4, true});
  std::fill(named(c, "g_idx").bytes.begin(), named(c, "g_idx").bytes.end(), uint8_t{0});
  c.k_splits.clear();
  check_case(c);
}

TEST(Gptq, GIdxOutOfRange) {
  Case c = make({64, 128, 32, 4, true, true});
  named(c, "g_idx").bytes[4] = 9;
  expect_refusal(c, PLUQ_STATUS_INVALID, {"g_idx[1] is 9", "0 to 3"});
}

TEST(Gptq, DynamicRules) {
  const std::string rules =
      R"(,"dynamic":{"-:.*\\.0\\..*":{},"+:.*\\.1\\.mlp":{"bits":8,"group_size":64},".*\\.2\\.":{"bits":2,"sym":false},".*":{"group_size":16}})";
  const auto with = [&](const Layer& l, const std::string& name) {
    Case c = make(l);
    c.config = config({64, 128, 32, 4, true}, rules);
    c.ask.name = name;
    return c;
  };
  check_case(with({64, 128, 64, 8, true}, "model.layers.1.mlp.up_proj"));
  check_case(with({64, 128, 32, 2, false},
                  "model.layers.2.mlp.up_proj"));  // what a rule does not say is the base's, not
                                                   // the next rule's
  check_case(with({64, 128, 16, 4, true}, "model.layers.3.mlp.up_proj"));
  // A negative rule for a layer that is quantized all the same: the file is the truth.
  check_case(with({64, 128, 16, 4, true}, "model.layers.0.mlp.up_proj"));
  Case c = with({64, 128, 32, 4, true}, "model.layers.0.mlp.up_proj");
  c.file = {reals("weight", PLUQ_DTYPE_F16, {1, 1}, {1})};
  EXPECT_EQ(choose(c).verdict, PLUQ_VERDICT_NOT_MINE);
}

TEST(Gptq, LmHead) {
  Case c = make({64, 128, 32, 4, true});
  c.config = config({64, 128, 32, 4, true}, R"(,"lm_head":true)");
  c.ask.name = c.ask.kind = "lm_head";
  check_case(c);
}

TEST(Gptq, FusedProjectionsOnDisk) {
  Case c = make({64, 128, 32, 4, false});
  c.ask.name = "model.layers.0.self_attn.qkv_proj";
  c.ask.parts = {32, 16, 16};
  check_case(c);
}

TEST(Gptq, SpellingsOfTheTools) {
  Case c = make({64, 128, 32, 4, false});
  c.scheme.clear();
  for (
      const std::string spelling : {
          R"({"quant_method":"gptq","w_bit":4,"q_group_size":32,"sym":false,"format":"gptq"})",
          R"({"bits":4,"group_size":32,"sym":false,"damp_percent":0.01,"model_name_or_path":null,"model_file_base_name":"gptq_model-4bit-32g"})",
          R"({"method":"gptq","wbits":4,"group_size":32,"sym":false,"meta":{"quantizer":["gptqmodel:5.0"],"static_groups":false},"pack_dtype":"int32"})",
          R"({"quant_method":"auto-round","bits":4,"group_size":32,"sym":false,"autoround_version":"0.5","packing_format":"auto_round:auto_gptq"})",
      }) {
    SCOPED_TRACE(spelling);
    c.config = spelling;
    check_case(c);
  }
  EXPECT_GT(FakeFormat::get("gptq").probe(R"({"method":"gptq","bits":4})"), 0);
  EXPECT_GT(FakeFormat::get("gptq").probe(R"({"quant_method":"auto-round"})"), 0);
}

TEST(Gptq, AutoRoundLayersThatDiffer) {
  Case c = make({64, 128, 64, 8, false});
  c.scheme.clear();
  c.config =
      R"({"quant_method":"auto-round","bits":4,"group_size":32,"sym":true,"packing_format":"auto_round:auto_gptq","extra_config":)"
      R"({"model.layers.0.self_attn.q_proj":{"bits":8,"group_size":64,"sym":false},"lm_head":{"bits":16}}})";
  check_case(c);
}

TEST(Gptq, WordsOfBf16AndF32Scales) {
  for (const uint32_t id : {PLUQ_DTYPE_BF16, PLUQ_DTYPE_F32}) {
    Case c = make({64, 128, 32, 4, true});
    const Values v = draw({64, 128, 32, 4, true});
    named(c, "scales") = reals("scales", id, {v.groups, 64}, v.scales);
    check_case(c);
  }
}

TEST(Gptq, ShardsThatAreNoBoxesNameTheMultiple) {
  Case c = make({64, 128, 32, 3, true});
  c.ask.in_end = 80;
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"columns 0 to 80", "runs of 32"});
  c = make({64, 128, 32, 4, false});
  c.ask.out_end = 36;
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"rows 0 to 36", "runs of 8"});
}

TEST(Gptq, WhatIsNotBuiltIsNamed) {
  Case c = make({64, 128, 32, 4, true});
  for (const std::string name : {"marlin", "bitblas"}) {
    c.config = R"({"quant_method":"gptq","bits":4,"checkpoint_format":")" + name + "\"}";
    expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"'" + name + "'", "gptq, gptq_v2 and gptq_p"});
  }
  c.config = R"({"quant_method":"gptq","bits":4,"is_marlin_format":true})";
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"marlin"});
  c.config = R"({"quant_method":"gptq","bits":4,"pack_dtype":"int64"})";
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"'pack_dtype' is 'int64'", "int32"});
  c.config = R"({"quant_method":"gptq","bits":9})";
  expect_refusal(c, PLUQ_STATUS_INVALID, {"'bits' is 9", "2 to 8"});
  c.config = R"({"quant_method":"gptq"})";
  expect_refusal(c, PLUQ_STATUS_INVALID, {"'bits' is missing"});
  c.config = R"({"quant_method":"gptq","bits":4,"group_size":0})";
  expect_refusal(c, PLUQ_STATUS_INVALID, {"'group_size' is 0"});
  c.config = R"({"quant_method":"gptq","bits":"4"})";
  expect_refusal(c, PLUQ_STATUS_INVALID, {"bits' is a string", "an integer"});
}

TEST(Gptq, TensorsThatAreMissing) {
  Case c = make({64, 128, 32, 4, false});
  drop(c, "qzeros");
  expect_refusal(c, PLUQ_STATUS_INVALID, {"sym is false", "'qzeros' is missing"});
  c = make({64, 128, 32, 4, true});
  drop(c, "qzeros");  // symmetric: not needed
  check_case(c);
  drop(c, "scales");
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"'scales' is missing"});
}

TEST(Gptq, ScalesMustBeFinite) {
  Case c = make({64, 128, 32, 4, true});
  named(c, "scales").bytes[7] = 0x7e;
  expect_refusal(c, PLUQ_STATUS_INVALID, {"scales holds", "at 3", "finite"});
}

TEST(Gptq, NegativeScalesAreSaid) {
  Case c = make({64, 128, 32, 4, true});
  named(c, "scales").bytes[1] ^= 0x80;
  FakeChoice choice = choose(c);
  take_logs();
  choice.method->load(choice.method->cut(c.file));
  const std::vector<std::string> logs = take_logs();
  ASSERT_FALSE(logs.empty());
  EXPECT_NE(logs[0].find("1 of 256 values of scales are negative"), std::string::npos) << logs[0];
}

}  // namespace
}  // namespace pluq::test
