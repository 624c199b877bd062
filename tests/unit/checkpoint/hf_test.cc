// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hf.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;
using test::TempDir;

TEST(QuantizationConfig, PrecedenceAndWarnings) {
  const TempDir dir;
  const auto find = [&](const char* config) {
    return find_quantization_config(dir.path(), parse_json(config, "config.json"));
  };
  EXPECT_TRUE(find("{}").json.is_null());
  EXPECT_EQ(find(R"({"text_config":{"quantization_config":{"quant_method":"fp8"}}})").source,
            "config.json: text_config.quantization_config");
  EXPECT_EQ(find(R"({"compression_config":{"quant_method":"compressed-tensors"}})").source,
            "config.json: compression_config");
  dir.write("quantize_config.json", R"({"bits":4,"group_size":64,"desc_act":false,"sym":true})");
  const QuantizationSource side = find("{}");
  EXPECT_EQ(side.source, "quantize_config.json");
  EXPECT_EQ(side.json.at("quant_method").as_string(), "gptq");  // what the keys say
  const QuantizationSource both =
      find(R"({"quantization_config":{"quant_method":"gptq","bits":4,"group_size":128}})");
  EXPECT_EQ(both.source, "config.json: quantization_config");
  ASSERT_EQ(both.warnings.size(), 1u);
  EXPECT_NE(both.warnings[0].find("group_size is 128 and 64"), std::string::npos);
  EXPECT_TRUE(find(R"({"quantization_config":{"quant_method":"gptq","bits":4,"group_size":64}})")
                  .warnings.empty());
  std::filesystem::remove(dir.path() + "/quantize_config.json");
  dir.write("quant_config.json",
            R"({"w_bit":4,"q_group_size":128,"zero_point":true,"version":"GEMM"})");
  EXPECT_EQ(find("{}").json.at("quant_method").as_string(), "awq");
}

TEST(ConfigJson, MustBeThere) {
  const TempDir dir;
  expect_error(ErrorKind::kInput, {"there is no config.json"},
               [&] { read_config_json(dir.path()); });
  dir.write("config.json", "[]");
  expect_error(ErrorKind::kInput, {"expected an object"}, [&] { read_config_json(dir.path()); });
}

}  // namespace
}  // namespace pluq
