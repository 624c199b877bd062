// SPDX-License-Identifier: Apache-2.0
// Which format serves which layer: small checkpoints of zeros, and the plugins that ship.
#include "plugin/layer_resolver.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

#include "checkpoint/dtype.h"
#include "checkpoint/writer.h"
#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;
using test::TempDir;

constexpr int64_t kN = 32, kK = 64;

struct TensorPlan {
  std::string name;
  uint32_t dtype_id;
  std::vector<int64_t> shape;
};

// The tensors of one layer in each format's layout.
std::vector<TensorPlan> plain(const std::string& n) {
  return {{n + ".weight", PLUQ_DTYPE_BF16, {kN, kK}}};
}
std::vector<TensorPlan> gptq(const std::string& n) {
  return {{n + ".qweight", PLUQ_DTYPE_I32, {kK / 8, kN}},
          {n + ".qzeros", PLUQ_DTYPE_I32, {2, kN / 8}},
          {n + ".scales", PLUQ_DTYPE_F16, {2, kN}}};
}
std::vector<TensorPlan> packed(const std::string& n) {
  return {{n + ".weight_packed", PLUQ_DTYPE_I32, {kN, kK / 8}},
          {n + ".weight_scale", PLUQ_DTYPE_BF16, {kN, 2}}};
}
std::vector<TensorPlan> int8(const std::string& n) {
  return {{n + ".weight", PLUQ_DTYPE_I8, {kN, kK}},
          {n + ".weight_scale", PLUQ_DTYPE_BF16, {kN, 1}}};
}
std::vector<TensorPlan> fp8(const std::string& n) {
  return {{n + ".weight", PLUQ_DTYPE_F8_E4M3, {kN, kK}},
          {n + ".weight_scale", PLUQ_DTYPE_BF16, {kN, 1}}};
}

// A checkpoint, the plugins, and a resolver over both.
class Scene {
 public:
  explicit Scene(std::initializer_list<std::vector<TensorPlan>> layers,
                 const std::string& quantization = "null")
      : host_(plugins()) {
    const std::string out = dir_.path() + "/model";
    ModelWriter w(out, "");
    for (const auto& layer : layers) {
      for (const TensorPlan& t : layer) w.declare(t.name, dtype_by_id(t.dtype_id), t.shape);
    }
    w.open();
    for (const auto& layer : layers) {
      for (const TensorPlan& t : layer) {
        int64_t bytes = dtype_by_id(t.dtype_id).block_bytes;
        for (const int64_t d : t.shape) bytes *= d;
        w.write(t.name, 0, t.shape.empty() ? 1 : t.shape[0],
                std::vector<std::byte>(static_cast<size_t>(bytes)));
      }
    }
    w.finish();
    checkpoint_ = Checkpoint::open(out);
    options.quantization = boost::json::parse(quantization);
    options.quantization_source = "config.json: quantization_config";
    options.device.struct_size = sizeof options.device;
    options.device.kind = PLUQ_DEVICE_CPU;
    options.device.n_workers = 1;
    options.device.cpu_features = PLUQ_CPU_X86_64_V2;
  }

  LayerResolver& resolver() {
    if (!resolver_) resolver_ = std::make_unique<LayerResolver>(host_, checkpoint_, options);
    return *resolver_;
  }
  ResolvedLayer resolve(const std::string& name, const std::string& kind = "linear") {
    return resolver().resolve(request(name, kind));
  }
  static LayerRequest request(const std::string& name, const std::string& kind = "linear") {
    LayerRequest r;
    r.name = name;
    r.kind = kind;
    if (kind == "embedding") r.module_class = "Embedding";
    r.in_features = kK;
    r.out_features = kN;
    return r;
  }
  void rule(const std::string& pattern, const std::string& format) {
    options.rules.push_back({LayerPattern(pattern), format,
                             "run.yaml:" + std::to_string(options.rules.size() + 1) + ":3"});
  }
  const PluginHost& host() const { return host_; }

  ResolverOptions options;

 private:
  static PluginOptions plugins() {
    PluginOptions o;
    o.directories = {std::string(PLUQ_BINARY_DIR) + "/lib/pluq/plugins"};
    o.search_defaults = false;
    return o;
  }
  TempDir dir_;
  PluginHost host_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::unique_ptr<LayerResolver> resolver_;
};

const std::string kGptq =
    R"({"quant_method":"gptq","bits":4,"group_size":32,"sym":true,"desc_act":false})";
const std::string kMixed =
    R"({"quant_method":"compressed-tensors","format":"mixed-precision","ignore":["lm_head","re:.*router"],"config_groups":{
  "a":{"format":"float-quantized","targets":["re:.*self_attn.*"],"weights":{"num_bits":8,"type":"float","strategy":"channel"},
       "input_activations":{"num_bits":8,"type":"float","strategy":"token","dynamic":true}},
  "b":{"format":"pack-quantized","targets":["re:.*(gate|up)_proj"],"weights":{"num_bits":4,"type":"int","strategy":"group","group_size":32}},
  "c":{"format":"int-quantized","targets":["Linear"],"weights":{"num_bits":8,"type":"int","strategy":"channel"},
       "input_activations":{"num_bits":8,"type":"int","strategy":"token","dynamic":true}}}})";

TEST(LayerResolver, MixedCheckpointsAreSharedLayerByLayer) {
  Scene s({fp8("m.self_attn.q_proj"), packed("m.mlp.gate_proj"), int8("m.mlp.down_proj"),
           plain("m.mlp.router"), plain("lm_head")},
          kMixed);
  const auto expect = [&](const std::string& name, const std::string& format,
                          const std::string& scheme) {
    const ResolvedLayer l = s.resolve(name);
    EXPECT_EQ(l.method.format(), format) << name;
    EXPECT_EQ(l.method.describe().scheme, scheme) << name;
    EXPECT_NE(l.decided_by.find("config.json"), std::string::npos) << l.decided_by;
  };
  expect("m.self_attn.q_proj", "fp8", "e4m3 channel a8 token");
  expect("m.mlp.gate_proj", "gptq", "int4 g32 sym");
  expect("m.mlp.down_proj", "w8a8", "int8 channel a8 token");
  expect("m.mlp.router", "dense", "bf16");
  expect("lm_head", "dense", "bf16");
  EXPECT_EQ(s.resolver().used().size(), 8U);
  EXPECT_TRUE(s.resolver().used().count("m.mlp.gate_proj.weight_scale"));
}

TEST(LayerResolver, WhatIsOnlyPlainNeedsNoConfiguration) {
  Scene s({plain("m.q_proj"), plain("m.embed_tokens")});
  EXPECT_EQ(s.resolve("m.q_proj").decided_by, "the tensors in the file");
  EXPECT_EQ(s.resolve("m.embed_tokens", "embedding").method.describe().kernel, "gather");
}

TEST(LayerResolver, FusedNamesOnDiskAreLayersOfTheirOwn) {
  Scene s({gptq("m.qkv_proj"), gptq("m.gate_up_proj")}, kGptq);
  LayerRequest r = Scene::request("m.qkv_proj");
  r.output_parts = {16, 8, 8};
  EXPECT_EQ(s.resolver().resolve(r).method.format(), "gptq");
  r.name = "m.gate_up_proj";
  r.output_parts = {16, 16};
  EXPECT_EQ(s.resolver().resolve(r).method.format(), "gptq");
}

TEST(LayerResolver, OneScalePerPartOfAFusedWeight) {
  std::vector<TensorPlan> layer = int8("m.qkv_proj");
  layer[1].shape = {3};
  Scene s({layer}, kMixed);
  expect_error(ErrorKind::kInput, {"m.qkv_proj", "weight_scale is BF16 [3]"},
               [&] { s.resolve("m.qkv_proj"); });
  LayerRequest r = Scene::request("m.qkv_proj");
  r.output_parts = {16, 8, 8};
  EXPECT_EQ(s.resolver().resolve(r).method.describe().scheme, "int8 tensor per part a8 token");
}

TEST(LayerResolver, ALayerThatIsQuantizedThoughIgnoredIsServed) {
  Scene s(
      {int8("lm_head")},
      R"({"quant_method":"compressed-tensors","ignore":["lm_head"],"config_groups":{"a":{"targets":["Linear"],
    "weights":{"num_bits":8,"strategy":"channel"}}}})");
  EXPECT_EQ(s.resolve("lm_head").method.format(), "w8a8");
}

TEST(LayerResolver, TheFirstRuleThatMatchesDecides) {
  Scene s({plain("m.a"), plain("m.b"), gptq("m.c")}, kGptq);
  s.options.formats.push_back(
      {"small", "gptq", boost::json::parse(R"({"bits":3,"group_size":32})"), "run.yaml:2:3"});
  s.rule("m.a", "dense");
  s.rule("re:m\\.[ab]$", "small");
  s.rule("*", "gptq");
  const ResolvedLayer a = s.resolve("m.a");
  EXPECT_EQ(a.method.format(), "dense");
  EXPECT_EQ(a.decided_by, "run.yaml:1:3: m.a -> dense");
  const ResolvedLayer b =
      s.resolve("m.b");  // plain floats, so quantized while loading, with the instance's options
  ASSERT_NE(b.quantize_with, nullptr);
  EXPECT_EQ(b.quantize_with->id(), "gptq");
  EXPECT_EQ(b.quantize_options.at("bits").as_int64(), 3);
  EXPECT_FALSE(b.method);
  EXPECT_EQ(s.resolve("m.c").method.format(), "gptq");
}

TEST(LayerResolver, ARuleMayNameALayerByItsAlias) {
  Scene s({plain("m.embed_tokens")});
  s.rule("lm_head", "gptq");
  LayerRequest r = Scene::request("m.embed_tokens", "lm_head");
  EXPECT_EQ(s.resolver().resolve(r).method.format(), "dense");
  r.alias = "lm_head";
  EXPECT_NE(s.resolver().resolve(r).quantize_with, nullptr);
}

TEST(LayerResolver, AWildcardLeavesTheEmbeddingToThePlainFormats) {
  Scene s({plain("m.embed_tokens")});
  s.rule("*", "gptq");
  const ResolvedLayer l = s.resolve("m.embed_tokens", "embedding");
  EXPECT_EQ(l.method.format(), "dense");
  EXPECT_EQ(l.decided_by, "the tensors in the file");
}

TEST(LayerResolver, ARuleThatCannotBeFollowedNamesLayerFormatAndTensors) {
  Scene s({int8("m.a")}, kMixed);
  s.rule("m.a", "awq");
  expect_error(
      ErrorKind::kInput,
      {"run.yaml:1:3", "layer m.a", "format 'awq'", "no tensor 'qweight'", "weight I8 [32, 64]"},
      [&] { s.resolve("m.a"); });
}

TEST(LayerResolver, ARuleWithAnUnknownFormatListsThoseThereAre) {
  Scene s({plain("m.a")});
  s.options.formats.push_back({"mine", "gptq", nullptr, "run.yaml:2:3"});
  s.rule("*", "nf5");
  expect_error(ErrorKind::kInput, {"run.yaml:1:3", "'nf5'", "mine", "awq", "dense"},
               [&] { s.resolve("m.a"); });
}

TEST(LayerResolver, NobodyQuotesTheCheckpointTheDirectoriesAndEveryAnswer) {
  Scene s({gptq("m.a")}, R"({"quant_method":"exl3","format":"tr"})");
  expect_error(ErrorKind::kPlugin,
               {"layer m.a", "quant_method 'exl3'", "format 'tr'", "m.a", "qweight I32 [8, 32]",
                "/lib/pluq/plugins", "gptq: quant_method is 'exl3'", "dense: no tensor 'weight'"},
               [&] { s.resolve("m.a"); });
}

TEST(LayerResolver, AFormatThatKnowsTheLayerButCannotServeItSaysWhy) {
  Scene s(
      {int8("m.a")},
      R"({"quant_method":"compressed-tensors","config_groups":{"a":{"targets":["Linear"],"weights":{"num_bits":8,"strategy":"block",
    "block_structure":[8,8]}}}})");
  expect_error(ErrorKind::kInput,
               {"layer m.a cannot be served", "format 'w8a8'", "strategy 'block'"},
               [&] { s.resolve("m.a"); });
}

TEST(LayerResolver, AConfigurationThatCannotBeReadIsTheReason) {
  Scene s({gptq("m.a")}, R"({"quant_method":"gptq","bits":11})");
  expect_error(ErrorKind::kInput, {"layer m.a", "bits' is 11", "2 to 8"},
               [&] { s.resolve("m.a"); });
}

TEST(LayerResolver, TensorsThatAreMissingOrWrong) {
  Scene none({plain("m.a")});
  expect_error(ErrorKind::kInput, {"layer m.b has no tensors"}, [&] { none.resolve("m.b"); });

  std::vector<TensorPlan> layer = gptq("m.a");
  layer[2].shape = {3, kN};
  Scene shape({layer}, kGptq);
  expect_error(ErrorKind::kInput,
               {"layer m.a (format 'gptq')", "'scales' has shape [3, 32]", "expected [2, 32]",
                "in_features 64"},
               [&] { shape.resolve("m.a"); });

  layer = gptq("m.a");
  layer[1].dtype_id = PLUQ_DTYPE_I64;
  Scene type({layer}, kGptq);
  expect_error(ErrorKind::kInput, {"'qzeros' is I64, expected I32"}, [&] { type.resolve("m.a"); });
}

TEST(LayerResolver, HeadersOnlyGivesNoData) {
  Scene s({int8("m.a")}, kMixed);
  s.options.headers_only = true;
  for (const pluq_tensor& t : s.resolve("m.a").tensors) EXPECT_EQ(t.data, nullptr);
  Scene full({int8("m.a")}, kMixed);
  for (const pluq_tensor& t : full.resolve("m.a").tensors) EXPECT_NE(t.data, nullptr);
}

TEST(LayerResolver, WhatWasQuantizedWhileLoadingIsServedByItsFormat) {
  Scene s({int8("m.a"), plain("m.b")}, kMixed);
  ResolvedLayer l = s.resolve("m.a");
  const auto config = boost::json::parse(kMixed);
  const ResolvedLayer again = s.resolver().resolve_quantized(
      Scene::request("m.x"), s.host().at("w8a8"), config, l.tensors, "run.yaml:9:1");
  EXPECT_EQ(again.method.format(), "w8a8");
  EXPECT_EQ(again.decided_by, "run.yaml:9:1");
  EXPECT_NE(again.reason.find("quantized while loading"), std::string::npos);
  expect_error(ErrorKind::kPlugin, {"format 'fp8'", "m.x", "just quantized"}, [&] {
    s.resolver().resolve_quantized(Scene::request("m.x"), s.host().at("fp8"), config, l.tensors,
                                   "run.yaml:9:1");
  });
}

}  // namespace
}  // namespace pluq
