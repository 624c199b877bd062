// SPDX-License-Identifier: Apache-2.0
// Mistakes that authors of formats make: the kit finds each, and its words point at the mistake.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "conformance/kit.h"

namespace pluq::conformance {
namespace {

Report checked(const std::string& name, const std::string& only) {
  Options options;
  options.path = std::string(ZOO_DIR) + "/" + name + "/zoo_" + name + ".so";
  options.filter = only;
  return check_plugin(options, {});
}

TEST(Mistakes, TheFormatWithoutOneConforms) {
  for (const char* only : {"weights.", "quantizer.", "numerics.every_batch"}) {
    const Report report = checked("no_mistake", only);
    for (const Result& r : report.results) EXPECT_EQ(r.status, "pass") << r.name << ": " << r.text;
    EXPECT_FALSE(report.results.empty());
  }
}

TEST(Mistakes, EachIsFoundAndNamed) {
  const struct {
    const char *name, *test;
    std::vector<std::string> says;
  } cases[] = {
      {"dequantize_wrong_scale",
       "quantizer.round_trip",
       {"dequantize gives W[0, 0] as", "every weight counts 0.5", "look at the scale"}},
      {"dequantize_transposed", "quantizer.round_trip", {"W seems to be read as [K, N]"}},
      {"wrong_scale",
       "numerics.every_batch",
       {"y[0, 0] is", "expected", "every weight counts 2 times: look at the scale"}},
      {"scales_of_next_row",
       "numerics.every_batch",
       {"each run of 32 columns has a factor of its own", "the scales of other groups?"}},
      {"zero_point_off_by_one",
       "numerics.every_batch",
       {"weights are wrong, all 64 rows and all 256 columns"}},
      {"transposed", "numerics.every_batch", {"W seems to be read as [K, N]"}},
      {"swaps_halves_of_bytes",
       "numerics.every_batch",
       {"columns 2j and 2j + 1 are exchanged: the halves of a byte?"}},
      {"forgets_bias",
       "numerics.every_batch",
       {"with M = 1, bias", "y is right but for the bias, which is not added"}},
      {"adds_first_bias", "numerics.every_batch", {"It is right without bias"}},
      {"ignores_ld_of_x",
       "numerics.every_batch",
       {"with M = 7", "It is right when the rows lie one behind the other", "x->ld"}},
      {"ignores_ld_of_y", "numerics.every_batch", {"writes between the rows of y", "y->ld"}},
      {"wrong_from_8_rows",
       "numerics.every_batch",
       {"right with M = 1 and wrong from M = 8 on", "column 63 of 64"}},
      {"rounds_x", "numerics.every_batch", {"Each weight by itself is right"}},
      {"shard_ends_early",
       "weights.shards",
       {"no shard's box of 'codes' holds 63 to 64 along dimension 1"}},
      {"shard_begins_late", "weights.shards", {"the box of 'codes' is 65 to 129"}},
      {"shard_forgets_its_scales",
       "weights.shards",
       {"shard 1: is not its part of the whole layer, rows 0 to 64 and columns 128 to 256",
        "Its boxes are 'codes' [0:64, 64:128], 'scales' [0:64, 0:4]"}}};
  for (const auto& c : cases) {
    const Report report = checked(c.name, c.test);
    ASSERT_EQ(report.results.size(), 1u) << c.name;
    const Result& r = report.results[0];
    EXPECT_EQ(r.status, "fail") << c.name;
    EXPECT_FALSE(r.read.empty()) << c.name;
    for (const std::string& words : c.says)
      EXPECT_NE(r.text.find(words), std::string::npos) << c.name << ": " << r.text;
  }
}

}  // namespace
}  // namespace pluq::conformance
