// SPDX-License-Identifier: Apache-2.0
#include "config/model_config.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cmath>

#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;
namespace json = boost::json;

json::object base() {
  return {{"architectures", json::array{"LlamaForCausalLM"}},
          {"hidden_size", 256},
          {"intermediate_size", 768},
          {"num_hidden_layers", 4},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 4096},
          {"rms_norm_eps", 1e-5},
          {"max_position_embeddings", 2048},
          {"eos_token_id", json::array{1, 7}},
          {"bos_token_id", 0}};
}
ModelConfig parse(const json::object& o) { return parse_model_config(o, "config.json"); }

TEST(ModelConfig, OldAndNewSpellingsAgree) {
  json::object old = base(), recent = base();
  old["rope_theta"] = 500000.0;
  old["torch_dtype"] = "bfloat16";
  old["rope_scaling"] = json::object{{"type", "linear"}, {"factor", 2.0}};
  recent["rope_parameters"] =
      json::object{{"rope_theta", 500000.0}, {"rope_type", "linear"}, {"factor", 2.0}};
  recent["dtype"] = "bfloat16";
  const ModelConfig a = parse(old), b = parse(recent);
  EXPECT_EQ(a.ropes[0].theta, 500000.0);
  EXPECT_EQ(b.ropes[0].theta, 500000.0);
  EXPECT_EQ(a.ropes[0].type, RopeType::kLinear);
  EXPECT_EQ(b.ropes[0].type, RopeType::kLinear);
  EXPECT_EQ(a.dtype, b.dtype);
  EXPECT_EQ(a.head_dim, 64);
  EXPECT_EQ(a.eos_ids, (std::vector<int32_t>{1, 7}));
}

TEST(ModelConfig, ErrorsNameFileAndKey) {
  const auto refuse = [](const char* key, json::value value, const char* says) {
    json::object o = base();
    if (value.is_string() && value.get_string() == "<drop>") {
      o.erase(key);
    } else {
      o[key] = std::move(value);
    }
    expect_error(ErrorKind::kInput, {"config.json", says}, [&] { parse(o); });
  };
  refuse("architectures", json::array{"FooForCausalLM"},
         "'FooForCausalLM' is not supported; supported are LlamaForCausalLM");
  refuse("hidden_size", "<drop>", "'hidden_size' is missing");
  refuse("hidden_size", -1, "'hidden_size' is -1");
  refuse("num_hidden_layers", int64_t{1} << 40, "'num_hidden_layers' is");
  refuse("num_hidden_layers", 20000, "at most 10000");
  refuse("num_key_value_heads", 3, "not a multiple");
  refuse("head_dim", 33, "odd or above 1024");
  refuse("hidden_act", "relu2", "supported are silu, gelu, gelu_pytorch_tanh");
  refuse("rope_parameters", json::object{{"rope_type", "zigzag"}},
         "supported are default, linear, dynamic, llama3, yarn, longrope");
  refuse("rms_norm_eps", "x", "expected a finite number");
  refuse("eos_token_id", -4, "expected a token id");
  expect_error(ErrorKind::kInput, {"expected a JSON object"},
               [] { parse_model_config(json::array{}, "config.json"); });
}

TEST(GenerationConfig, UnionOfEosAndTemperatureOnlyWhenNamed) {
  const ModelConfig m = parse(base());
  const auto g =
      parse_generation_config(json::object{{"eos_token_id", 9}, {"do_sample", true}}, m, "g");
  EXPECT_EQ(g.eos_ids, (std::vector<int32_t>{1, 7, 9}));
  EXPECT_EQ(g.temperature, 0);
  EXPECT_EQ(parse_generation_config(json::object{{"temperature", 0.6}, {"do_sample", true}}, m, "g")
                .temperature,
            0.6);
  EXPECT_EQ(parse_generation_config(json::object{{"temperature", 0.6}}, m, "g").temperature, 0);
}

TEST(Rope, DefaultAndLinearAndLlama3) {
  RopeConfig r;
  r.theta = 10000;
  const auto plain = rope_frequencies(r, 64, 2048, 2048);
  ASSERT_EQ(plain.inverse.size(), 32u);
  for (int i = 0; i < 32; ++i)
    EXPECT_NEAR(plain.inverse[static_cast<size_t>(i)], std::pow(10000.0, -2.0 * i / 64), 1e-7);
  r.type = RopeType::kLinear;
  r.factor = 4;
  EXPECT_FLOAT_EQ(rope_frequencies(r, 64, 2048, 2048).inverse[3], plain.inverse[3] / 4);
  // Llama 3.1: theta 500000, factor 8, low 1, high 4, original 8192. The published rule in double.
  r.type = RopeType::kLlama3;
  r.theta = 500000;
  r.factor = 8;
  r.low_freq_factor = 1;
  r.high_freq_factor = 4;
  r.original_max_position = 8192;
  const auto scaled = rope_frequencies(r, 128, 131072, 4096);
  for (int i = 0; i < 64; ++i) {
    const double f = std::pow(500000.0, -2.0 * i / 128), wave = 2 * M_PI / f;
    double want = f;
    if (wave > 8192) {
      want = f / 8;
    } else if (wave >= 2048) {
      const double s = (8192 / wave - 1) / 3;
      want = (1 - s) * f / 8 + s * f;
    }
    EXPECT_NEAR(scaled.inverse[static_cast<size_t>(i)] / want, 1, 1e-5) << i;
  }
  EXPECT_EQ(scaled.attention_factor, 1);
}

TEST(Rope, YarnInterpolatesSlowDimensionsAndScalesAttention) {
  RopeConfig r;
  r.type = RopeType::kYarn;
  r.theta = 10000;
  r.factor = 4;
  r.original_max_position = 4096;
  const auto y = rope_frequencies(r, 128, 16384, 4096);
  EXPECT_NEAR(y.attention_factor, 0.1 * std::log(4.0) + 1, 1e-6);
  EXPECT_FLOAT_EQ(y.inverse[0], 1.0F);  // fast dimensions are left alone
  EXPECT_NEAR(y.inverse[63] / (std::pow(10000.0, -126.0 / 128) / 4), 1,
              1e-5);  // slow ones are interpolated
  r.mscale = 1;
  r.mscale_all_dim = 1;
  EXPECT_FLOAT_EQ(rope_frequencies(r, 128, 16384, 4096).attention_factor, 1.0F);
}

}  // namespace
}  // namespace pluq
