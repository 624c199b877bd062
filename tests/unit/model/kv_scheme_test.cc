// SPDX-License-Identifier: Apache-2.0
// What checkpoints say of their KV cache, through the plugins that ship: every name of scales,
// every kind of scheme, and what is said when something is wrong.
#include "model/kv_scheme.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

#include <algorithm>

#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "checkpoint/writer.h"
#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;
using test::TempDir;

constexpr int64_t kHeads = 2;

// A scale tensor below an attention block.
struct Scale {
  std::string name;
  std::vector<float> values{0.5F};
  std::vector<int64_t> shape{1};
  uint32_t dtype_id = PLUQ_DTYPE_F32;
};
using Layers = std::vector<std::vector<Scale>>;  // of layers 0, 1, ...

std::string groups(const std::string& scheme) {
  return R"({"quant_method":"compressed-tensors","config_groups":{},"kv_cache_scheme":)" + scheme +
         "}";
}
const std::string kFloat = R"({"num_bits":8,"type":"float","strategy":"tensor"})";

class Scene {
 public:
  explicit Scene(const Layers& layers, const std::string& quantization, bool contrary = false)
      : host_(plugins(contrary)) {
    const std::string out = dir_.path() + "/model";
    ModelWriter w(out, "");
    const auto each = [&](const auto& body) {
      for (size_t i = 0; i < layers.size(); ++i) {
        for (const Scale& s : layers[i]) body(name(i) + "." + s.name, s);
      }
    };
    w.declare("model.norm.weight", dtype_by_id(PLUQ_DTYPE_F32), {1});
    each([&](const std::string& n, const Scale& s) {
      w.declare(n, dtype_by_id(s.dtype_id), s.shape);
    });
    w.open();
    w.write("model.norm.weight", 0, 1, std::vector<std::byte>(4));
    each([&](const std::string& n, const Scale& s) {
      std::vector<std::byte> bytes(s.values.size() * dtype_by_id(s.dtype_id).block_bytes);
      if (is_plain_float(s.dtype_id)) from_f32(s.dtype_id, s.values, bytes.data());
      w.write(n, 0, s.shape.empty() ? 1 : s.shape[0], bytes);
    });
    w.finish();
    checkpoint_ = Checkpoint::open(out);
    for (size_t i = 0; i < layers.size(); ++i) plan_.layers.emplace_back().attention = name(i);
    config_.num_key_value_heads = kHeads;
    config_.head_dim = 64;
    ResolverOptions options;
    options.quantization = boost::json::parse(quantization);
    options.device.struct_size = sizeof options.device;
    resolver_ = std::make_unique<LayerResolver>(host_, checkpoint_, options);
  }
  static std::string name(size_t layer) {
    return "model.layers." + std::to_string(layer) + ".self_attn";
  }
  KvScheme read() { return read_kv_scheme(*resolver_, *checkpoint_, plan_, config_); }
  // Tensors of the blocks that nothing has used.
  std::vector<std::string> unused() const {
    std::vector<std::string> out;
    for (const TensorView& t : checkpoint_->tensors()) {
      if (t.name != "model.norm.weight" && !resolver_->used().contains(t.name))
        out.push_back(t.name);
    }
    return out;
  }

 private:
  static PluginOptions plugins(bool contrary) {
    PluginOptions o;
    o.directories = {std::string(PLUQ_BINARY_DIR) + "/lib/pluq/plugins"};
    if (contrary) o.directories.push_back(std::string(PLUQ_BINARY_DIR) + "/zoo/kv_contrary");
    o.search_defaults = false;
    return o;
  }
  TempDir dir_;
  PluginHost host_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  ModelPlan plan_;
  ModelConfig config_;
  std::unique_ptr<LayerResolver> resolver_;
};

TEST(KvScheme, EveryNameInTheWild) {
  const std::pair<const char*, const char*> names[] = {
      {"k_scale", "v_scale"},
      {"attn.k_scale", "attn.v_scale"},
      {"k_proj.k_scale", "v_proj.v_scale"},
      {"k_proj.output_scale", "v_proj.output_scale"},
      {"qkv_proj.k_scale", "qkv_proj.v_scale"},
      {"k_cache.scale", "v_cache.scale"}};
  for (const auto& [k, v] : names) {
    Scene s({{{k, {0.25F}}, {v, {0.75F}}}, {{k, {2.0F}}, {v, {3.0F}}}}, groups(kFloat));
    const KvScheme got = s.read();
    EXPECT_TRUE(got.in_force && !got.dynamic && !got.per_head) << k;
    EXPECT_EQ(got.dtype, uint32_t{PLUQ_DTYPE_F8_E4M3});
    EXPECT_EQ(got.k_scale, (std::vector<float>{0.25F, 0.25F, 2, 2})) << k;
    EXPECT_EQ(got.v_scale, (std::vector<float>{0.75F, 0.75F, 3, 3})) << k;
    EXPECT_TRUE(got.missing.empty() && got.single.empty());
    EXPECT_TRUE(s.unused().empty()) << k;
  }
}

TEST(KvScheme, OneTensorForBothAndOnePartnerAlone) {
  Scene both({{{"kv_scale", {0.125F}}}}, groups(kFloat));
  const KvScheme a = both.read();
  EXPECT_EQ(a.k_scale, (std::vector<float>{0.125F, 0.125F}));
  EXPECT_EQ(a.v_scale, a.k_scale);
  EXPECT_TRUE(a.single.empty());  // meant so
  Scene alone({{{"v_scale", {0.5F}}}}, groups(kFloat));
  const KvScheme b = alone.read();
  EXPECT_EQ(b.k_scale, (std::vector<float>{0.5F, 0.5F}));
  EXPECT_EQ(b.v_scale, b.k_scale);
  EXPECT_EQ(b.single, std::vector<std::string>{Scene::name(0) + ".v_scale"});
}

TEST(KvScheme, PerTensorPerHeadAndEveryFloat) {
  for (const uint32_t dtype : {PLUQ_DTYPE_F32, PLUQ_DTYPE_F16, PLUQ_DTYPE_BF16}) {
    Scene s({{{"k_scale", {0.5F}, {}, dtype}, {"v_scale", {0.25F, 4.0F}, {2, 1, 1}, dtype}}},
            groups(R"({"num_bits":8,"type":"float","strategy":"attn_head"})"));
    const KvScheme got = s.read();
    EXPECT_TRUE(got.per_head);
    EXPECT_EQ(got.k_scale, (std::vector<float>{0.5F, 0.5F}));
    EXPECT_EQ(got.v_scale, (std::vector<float>{0.25F, 4}));
  }
}

TEST(KvScheme, MissingScalesAreNamedNeverOne) {
  Scene s({{{"k_scale"}, {"v_scale"}}, {}}, groups(kFloat));
  const KvScheme got = s.read();
  EXPECT_TRUE(got.in_force && !got.has_scales());
  EXPECT_EQ(got.missing, std::vector<std::string>{Scene::name(1)});
}

TEST(KvScheme, OtherConfigs) {
  const auto read = [](const std::string& config, const Layers& layers) {
    return Scene(layers, config).read();
  };
  const Layers given{{{"k_scale"}, {"v_scale"}}}, none{{}};
  // AutoFP8's word, int8, computed scales.
  const KvScheme word =
      read(R"({"quant_method":"fp8","activation_scheme":"static","kv_cache_scheme":"static"})",
           {{{"kv_scale"}}});
  EXPECT_TRUE(word.in_force && word.has_scales());
  EXPECT_EQ(word.format, "fp8");
  EXPECT_EQ(read(groups(R"({"num_bits":8,"type":"int"})"), given).dtype, uint32_t{PLUQ_DTYPE_I8});
  const KvScheme dynamic = read(groups(R"({"num_bits":8,"type":"float","dynamic":true})"), none);
  EXPECT_TRUE(dynamic.dynamic && dynamic.in_force && dynamic.missing.empty());
  // Scales without a scheme are an offer; nothing at all is nothing.
  const KvScheme offer = read(groups("null"), given);
  EXPECT_TRUE(!offer.in_force && offer.has_scales() && !offer.format.empty());
  EXPECT_TRUE(read(groups("null"), none).format.empty());
  EXPECT_TRUE(read("null", none).format.empty());
}

TEST(KvScheme, TensorsThatChangeNothingAreUsed) {
  Scene s({{{"k_scale"},
            {"v_scale"},
            {"q_scale"},
            {"prob_output_scale"},
            {"k_zero_point", {0}, {1}, PLUQ_DTYPE_I8}}},
          groups(kFloat));
  EXPECT_TRUE(s.read().unsupported.empty());
  EXPECT_TRUE(s.unused().empty());
  Scene shifted({{{"k_scale"}, {"v_scale"}, {"k_zero_point", {-0.5F}}}}, groups(kFloat));
  EXPECT_NE(shifted.read().unsupported.find("'k_zero_point' is not 0"), std::string::npos);
}

TEST(KvScheme, WhatIsNotBuiltSaysWhy) {
  const auto why = [](const std::string& scheme) {
    return Scene({{}}, groups(scheme)).read().unsupported;
  };
  EXPECT_NE(why(R"({"num_bits":4,"type":"float"})").find("4-bit float, 8 bits"), std::string::npos);
  EXPECT_NE(why(R"({"num_bits":8,"symmetric":false})").find("asymmetric"), std::string::npos);
  EXPECT_NE(why(R"({"num_bits":8,"strategy":"channel"})").find("'channel', tensor and attn_head"),
            std::string::npos);
}

TEST(KvScheme, WrongTensorsAreNamed) {
  const auto refuse = [](const Scale& k, const char* says) {
    Scene s({{k, {"v_scale"}}}, groups(kFloat));
    expect_error(ErrorKind::kInput, {Scene::name(0) + ".k_scale", says}, [&] { s.read(); });
  };
  refuse({"k_scale", {0.0F}}, "holds 0, expected a number above 0");
  refuse({"k_scale", {-1.0F}}, "holds -1");
  refuse({"k_scale", {NAN}}, "holds nan");
  refuse({"k_scale", {1, 2, 3}, {3}}, "F32 [3], expected F32, F16 or BF16 with 1 element or 2");
  refuse({"k_scale", {1}, {1}, PLUQ_DTYPE_I8}, "is I8 [1]");
}

TEST(KvScheme, ClaimantsThatDifferAreBothNamed) {
  Scene s({{{"k_scale"}, {"v_scale"}}}, groups(kFloat), true);
  expect_error(ErrorKind::kInput,
               {"'kv_contrary'", "differ about the KV cache of model.layers.0.self_attn",
                "k_scale and v_scale", "computed"},
               [&] { s.read(); });
}

TEST(KvScheme, LayersThatDifferInKind) {
  Scene s({{{"k_scale"}}, {}}, groups("null"));  // an offer for one layer alone
  const KvScheme got = s.read();
  EXPECT_FALSE(got.has_scales());
  EXPECT_EQ(got.missing, std::vector<std::string>{Scene::name(1)});
}

TEST(KvScheme, BytesOfAToken) {
  ModelConfig c;
  c.num_hidden_layers = 3;
  c.num_key_value_heads = 2;
  c.head_dim = 64;
  EXPECT_EQ(kv_token_bytes(c, 2, false), 2 * 3 * 2 * 64 * 2);
  EXPECT_EQ(kv_token_bytes(c, 1, false), 2 * 3 * 2 * 64);
  EXPECT_EQ(kv_token_bytes(c, 1, true), 2 * 3 * 2 * (64 + 4));
}

}  // namespace
}  // namespace pluq
