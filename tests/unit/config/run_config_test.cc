// SPDX-License-Identifier: Apache-2.0
#include "config/run_config.h"

#include <gtest/gtest.h>

#include "pluq/dtype.h"
#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;

TEST(RunConfig, ReadsEverything) {
  const RunConfig c = parse_run_config(R"(
model: ./m
device: cpu
compute: exact
activations: float
threads: 2
context: 128
plugins:
  paths: [./p, /abs]
  allow: p.sha256
  prefer: {gptq: ./p/gptq.so}
formats:
  w4: {type: gptq, group_size: 64, sym: true}
layers:
  - {match: lm_head, format: dense}
  - {match: "re:.*\\.v_proj", format: w4}
kv_cache: {dtype: bf16}
generation: {max_new_tokens: 5, temperature: 0.5, stop: ["x"]}
)",
                                       "/etc/pluq/run.yaml");
  EXPECT_EQ(c.model, "/etc/pluq/m");
  EXPECT_EQ(c.plugin_paths, (std::vector<std::string>{"/etc/pluq/p", "/abs"}));
  EXPECT_EQ(c.plugin_allow, "/etc/pluq/p.sha256");
  EXPECT_EQ(c.plugin_prefer.at("gptq"), "/etc/pluq/p/gptq.so");
  EXPECT_EQ(c.formats.at(0).options.at("group_size").as_int64(), 64);
  EXPECT_EQ(c.layers.at(1).where, "/etc/pluq/run.yaml:16:13");
  EXPECT_TRUE(c.layers.at(1).pattern.match("a.v_proj"));
  EXPECT_EQ(c.kv_dtype, "bf16");
  EXPECT_EQ(c.generation.stop.at(0), "x");
}

TEST(RunConfig, KvCache) {
  const RunConfig c = parse_run_config("kv_cache: {dtype: fp8_e5m2, scale: head}", "r.yaml");
  EXPECT_EQ(c.kv_dtype, "fp8_e5m2");
  EXPECT_EQ(c.kv_scale, "head");
  RunConfig flag = c;
  parse_kv_cache("int8", "--kv-cache", &flag);  // a flag replaces both
  EXPECT_EQ(flag.kv_dtype, "int8");
  EXPECT_EQ(flag.kv_scale, "");
  parse_kv_cache("fp8_e4m3:token", "--kv-cache", &flag);
  EXPECT_EQ(parse_kv_dtype(flag.kv_dtype, ""), uint32_t{PLUQ_DTYPE_F8_E4M3});
  EXPECT_EQ(flag.kv_scale, "token");
  EXPECT_EQ(kv_dtype_name(PLUQ_DTYPE_F8_E4M3), "fp8_e4m3");
  for (const char* text : {"int8:", "int8:Tensor", "int8:token:x"}) {
    expect_error(ErrorKind::kUsage, {"--kv-cache", "accepted are tensor, head, token"},
                 [&] { parse_kv_cache(text, "--kv-cache", &flag); });
  }
  expect_error(ErrorKind::kUsage, {"--kv-cache", "bf16 has no scales"},
               [&] { parse_kv_cache("bf16:token", "--kv-cache", &flag); });
}

TEST(RunConfig, ErrorsNamePlaceAndAcceptedValues) {
  const auto refuse = [](const char* text, const char* where, const char* says) {
    expect_error(ErrorKind::kUsage, {where, says}, [&] { parse_run_config(text, "r.yaml"); });
  };
  refuse("modle: x", "r.yaml:1:8",
         "unknown key 'modle' in the configuration (did you mean 'model'?)");
  refuse("compute: quick", "r.yaml:1:10", "expected one of exact, fast");
  refuse("threads: 0", "r.yaml:1:10", "from 1 to 1024");
  refuse("layers: [{match: a}]", "r.yaml:1:10", "needs 'match' and 'format'");
  refuse("layers: [{match: 're:(', format: a}]", "r.yaml:1:", "not a regular expression");
  refuse("formats: {a: {bits: 4}}", "r.yaml:1:14", "has no 'type'");
  refuse("kv_cache: {dtype: f8}", "r.yaml:1:19", "accepted are f32, f16, bf16");
  refuse("kv_cache: {dtype: f8}", "r.yaml:1:19", "fp8_e4m3, fp8_e5m2, int8");
  refuse("kv_cache: {dtype: f16, scale: head}", "r.yaml:1:31", "a KV cache of f16 has no scales");
  refuse("kv_cache: {dtype: int8, scale: row}", "r.yaml:1:32", "accepted are tensor, head, token");
  refuse("kv_cache: {scale: head}", "r.yaml:1:19", "needs kv_cache.dtype");
  refuse("plugins: {paths: ./x}", "r.yaml:1:18", "expected a list");
  refuse("generation: {temperature: hot}", "r.yaml:1:27", "expected a number");
  refuse("- a", "r.yaml:1:1", "expected a map");
}

TEST(RunConfig, ShippedFilesParse) {
  int files = 0;
  for (const auto& e :
       std::filesystem::directory_iterator(std::string(PLUQ_SOURCE_DIR) + "/configs")) {
    if (e.path().extension() != ".yaml") continue;
    EXPECT_NO_THROW(read_run_config(e.path().string())) << e.path();
    ++files;
  }
  EXPECT_GE(files, 2);
}

}  // namespace
}  // namespace pluq
