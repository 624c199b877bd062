// SPDX-License-Identifier: Apache-2.0
// compressed-tensors pack-quantized (formats.md section 4), which format gptq serves.
#include <gtest/gtest.h>

#include <algorithm>

#include "unit/formats/oracle.h"

namespace pluq::test {
namespace {

struct Layer {
  int64_t n = 64, k = 128, g = 32;
  int bits = 4;
  bool sym = true, sparse = false, order = false;
  std::string inputs = "null";
};

std::string config(const Layer& l, const std::string& targets = R"(["Linear"])",
                   const std::string& more = "") {
  const std::string strategy =
      l.g < 0 ? R"("channel")" : R"("group","group_size":)" + std::to_string(l.g);
  return R"({"quant_method":"compressed-tensors","format":"pack-quantized","ignore":["lm_head"],"config_groups":{"group_0":{"targets":)" +
         targets + R"(,"weights":{"num_bits":)" + std::to_string(l.bits) +
         R"(,"type":"int","symmetric":)" + (l.sym ? "true" : "false") + R"(,"strategy":)" +
         strategy + R"(,"actorder":)" + (l.order ? R"("group")" : "null") +
         R"(},"input_activations":)" + l.inputs + "}}" + more + "}";
}

std::vector<uint32_t> pack(const std::vector<int>& codes, const Layer& l) {
  return l.sparse ? pack_sparse(codes, l.bits) : pack_stream(codes, l.bits);
}

Case make(const Layer& l) {
  Random random(static_cast<uint32_t>(l.n + l.k + l.g + l.bits));
  const int64_t size = l.g < 0 ? l.k : l.g, groups = (l.k + size - 1) / size;
  const std::vector<int> codes = random.codes(l.n * l.k, 1 << l.bits);
  std::vector<int> zeros = random.codes(l.n * groups, 1 << l.bits), g_idx;
  if (l.sym) std::fill(zeros.begin(), zeros.end(), 1 << (l.bits - 1));
  const std::vector<float> scales = random.scales(l.n * groups);
  for (int64_t k = 0; k < l.k; ++k) g_idx.push_back(static_cast<int>(k / size));
  if (l.order) std::shuffle(g_idx.begin(), g_idx.end(), std::mt19937(4));

  Case c;
  c.format = "gptq";
  c.config = config(l);
  c.ask.n = l.n;
  c.ask.k = l.k;
  std::vector<uint32_t> words;
  for (int64_t n = 0; n < l.n; ++n) {
    const std::vector<uint32_t> row =
        pack({codes.begin() + n * l.k, codes.begin() + (n + 1) * l.k}, l);
    words.insert(words.end(), row.begin(), row.end());
    for (int64_t k = 0; k < l.k; ++k) {
      const auto at = static_cast<size_t>(n * groups + g_idx[static_cast<size_t>(k)]);
      c.w.push_back(scales[at] *
                    static_cast<float>(codes[static_cast<size_t>(n * l.k + k)] - zeros[at]));
    }
  }
  c.file = {tensor("weight_packed", PLUQ_DTYPE_I32, {l.n, static_cast<int64_t>(words.size()) / l.n},
                   words),
            reals("weight_scale", PLUQ_DTYPE_BF16, {l.n, groups}, scales),
            tensor("weight_shape", PLUQ_DTYPE_I64, {2}, std::vector<int64_t>{l.n, l.k})};
  if (!l.sym) {  // a stream down each group's column
    const auto rows =
        static_cast<int64_t>(pack(std::vector<int>(static_cast<size_t>(l.n)), l).size());
    std::vector<uint32_t> out(static_cast<size_t>(rows * groups));
    for (int64_t g = 0; g < groups; ++g) {
      std::vector<int> column;
      for (int64_t n = 0; n < l.n; ++n)
        column.push_back(zeros[static_cast<size_t>(n * groups + g)]);
      const std::vector<uint32_t> stream = pack(column, l);
      for (int64_t r = 0; r < rows; ++r)
        out[static_cast<size_t>(r * groups + g)] = stream[static_cast<size_t>(r)];
    }
    c.file.push_back(tensor("weight_zero_point", PLUQ_DTYPE_I32, {rows, groups}, out));
  }
  if (l.order) c.file.push_back(tensor("weight_g_idx", PLUQ_DTYPE_I32, {l.k}, g_idx));
  const int64_t unit = l.sparse ? 32 / l.bits : 32 % l.bits == 0 ? 32 / l.bits : 32;
  const auto fits = [&](int64_t full, int64_t parts) {
    return full % parts == 0 && full / parts % unit == 0;
  };
  c.k_splits.clear();
  c.n_splits.clear();
  for (const int64_t parts : {2, 4}) {
    if (fits(l.k, parts)) c.k_splits.push_back(parts);
    if (fits(l.n, parts) || l.sym) c.n_splits.push_back(parts);
  }
  return c;
}

TEST(Packed, EveryWidth) {
  for (const int bits : {2, 3, 4, 5, 6, 7, 8}) {
    for (const bool sym : {true, false}) {
      SCOPED_TRACE(std::to_string(bits) + (sym ? " sym" : " asym"));
      check_case(make({64, 128, 32, bits, sym}));
    }
  }
}

// The version trap of 4.2: before 2026-05-29 odd widths were packed floor(32 / b) to a word.
TEST(Packed, OddWidthsInTheOlderPacking) {
  for (const int bits : {3, 5, 6, 7}) {
    for (const bool sym : {true, false}) {
      SCOPED_TRACE(std::to_string(bits) + (sym ? " sym" : " asym"));
      check_case(make({60, 240, 40, bits, sym, true}));
    }
  }
}

TEST(Packed, ChannelAndGroupsThatDoNotDivideK) {
  check_case(make({64, 128, -1, 4}));
  check_case(make({64, 128, -1, 8, false}));
  check_case(make({64, 192, 128, 4, false}));
}

TEST(Packed, ActorderGroup) {
  check_case(make({64, 128, 32, 4, true, false, true}));
  check_case(make({64, 128, 32, 4, false, false, true}));
}

// Neither N nor K is a multiple of 32, and the last group is short.
TEST(Packed, RowsAndColumnsThatEndInsideAWord) {
  for (const int bits : {2, 3, 4, 5, 6, 7, 8}) {
    for (const bool order : {false, true}) {
      SCOPED_TRACE(std::to_string(bits) + (order ? " act-order" : ""));
      check_case(make({37, 108, 32, bits, false, false, order}));
      if (32 % bits != 0) check_case(make({37, 236, 128, bits, false, true, order}));
    }
    check_case(make({19, 140, -1, bits}));
  }
}

TEST(Packed, GIdxOfMinusOneIsNatural) {
  Case c = make({64, 128, 32, 4});
  c.file.push_back(tensor("weight_g_idx", PLUQ_DTYPE_I32, {128}, std::vector<int32_t>(128, -1)));
  check_case(c);
}

// weight_shape is overwritten by each part of a fused layer: only said, never used.
TEST(Packed, WeightShapeIsNotTrusted) {
  Case c = make({64, 128, 32, 4});
  c.file[2] = tensor("weight_shape", PLUQ_DTYPE_I64, {2}, std::vector<int64_t>{16, 128});
  take_logs();
  check_case(c);
  const std::vector<std::string> logs = take_logs();
  ASSERT_FALSE(logs.empty());
  EXPECT_NE(logs[0].find("weight_shape says [16, 128], the model [64, 128]"), std::string::npos)
      << logs[0];
}

TEST(Packed, ActivationsOfInt8) {
  const std::string token =
      R"({"num_bits":8,"type":"int","strategy":"token","dynamic":true,"symmetric":)";
  check_case(make({64, 128, 32, 4, true, false, false, token + "true}"}));
  check_case(make({64, 128, 32, 4, true, false, false, token + "false}"}));
  Case c =
      make({64, 128, 32, 4, true, false, false,
            R"({"num_bits":8,"type":"int","strategy":"tensor","dynamic":false,"symmetric":true})"});
  expect_refusal(c, PLUQ_STATUS_INVALID, {"activations are static", "'input_scale' is missing"});
  c.file.push_back(reals("input_scale", PLUQ_DTYPE_BF16, {1}, {0.03125F}));
  c.input_scale = 0.03125F;
  check_case(c);
}

TEST(Packed, WhatIsNotBuiltIsNamed) {
  Case c = make({64, 128, 32, 4, true, false, false,
                 R"({"num_bits":4,"type":"int","strategy":"token","dynamic":true})"});
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"activations of 4-bit integers", "8-bit integers"});
  c = make({64, 128, 32, 4});
  c.config = config({64, 128, 32, 9});
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"num_bits is 9", "2 to 8"});
  c.config = config({64, 128, 32, 4}, R"(["re:.*k_proj"])");
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"no group of config_groups targets"});
  c.config = config({64, 128, 32, 4}, R"(["Linear"])",
                    R"(,"transform_config":{"config_groups":{"R1":{}}})");
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"transforms of activations"});
  c.config = config({64, 128, 32, 4}, R"(["Linear"])",
                    R"(,"sparsity_config":{"format":"sparse-24-bitmask"})");
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"sparse-24-bitmask"});
  c = make({64, 128, 32, 4, false});
  c.file.erase(c.file.begin() + 3);
  expect_refusal(c, PLUQ_STATUS_INVALID, {"'weight_zero_point' is missing"});
}

// Exact name before pattern before class; the first group among equals; the ignore list uses the
// same test.
TEST(Packed, TargetsInOrderOfPrecedence) {
  const Layer two{64, 128, 32, 2};
  Case c = make(two);
  const auto group = [](const std::string& target, int bits) {
    return R"({"targets":[")" + target + R"("],"weights":{"num_bits":)" + std::to_string(bits) +
           R"(,"strategy":"group","group_size":32}})";
  };
  const auto of = [&](const std::string& a, const std::string& b, const std::string& d,
                      const std::string& ignore) {
    return R"({"quant_method":"compressed-tensors","format":"pack-quantized","ignore":[)" + ignore +
           R"(],"config_groups":{"a":)" + a + R"(,"b":)" + b + R"(,"c":)" + d + "}}";
  };
  c.config = of(group("Linear", 8), group("re:.*q_proj", 4), group(c.ask.name, 2), "");
  check_case(c);
  c.config = of(group("Linear", 8), group("re:.*q_proj", 2), group("re:.*attn.*", 4), "");
  check_case(c);
  c.config = of(group("Linear", 2), group("re:q_proj", 4), group("self_attn", 4),
                "");  // anchored at the start; not a substring
  check_case(c);
  // Ignored, but quantized in the file, and three schemes could be meant.
  c.config = of(group("Linear", 2), group("re:x", 4), group("y", 4), "\"re:.*q_proj\"");
  expect_refusal(c, PLUQ_STATUS_UNSUPPORTED, {"no group of config_groups targets"});
  // Ignored but quantized, one scheme: the tensors are the truth.
  c.config = config(two, R"(["Linear"])");
  c.config.replace(c.config.find("\"lm_head\""), 9, "\"" + c.ask.name + "\"");
  check_case(c);
}

TEST(Packed, PresetGroups) {
  Case c = make({64, 256, 128, 4, false});
  c.config =
      R"({"quant_method":"compressed-tensors","format":"pack-quantized","config_groups":{"W4A16_ASYM":["Linear"]}})";
  check_case(c);
}

}  // namespace
}  // namespace pluq::test
