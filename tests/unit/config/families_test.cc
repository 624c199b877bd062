// SPDX-License-Identifier: Apache-2.0
// config.json of each family as its publishers write it, what it must come to, and what is refused.
// Defaults of absent keys are those of transformers' configuration classes.
#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "config/model_config.h"
#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;
namespace json = boost::json;

// Sizes that every family shares here, with the members of `own` put over them.
json::object config(const std::string& architecture, const std::string& own) {
  json::object o =
      json::parse(
          R"({"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
      "num_key_value_heads": 2, "vocab_size": 128, "max_position_embeddings": 8192})")
          .as_object();
  o["architectures"] = json::array{json::string(architecture)};
  const json::value over = json::parse(own);
  for (const auto& [key, value] : over.as_object()) o[key] = value;
  return o;
}
ModelConfig parse(const std::string& architecture, const std::string& own) {
  return parse_model_config(config(architecture, own), "config.json");
}

std::vector<int64_t> windows(const ModelConfig& c) {
  std::vector<int64_t> out;
  for (const LayerConfig& l : c.layers) out.push_back(l.window);
  return out;
}
std::vector<int> ropes(const ModelConfig& c) {
  std::vector<int> out;
  for (const LayerConfig& l : c.layers) out.push_back(l.rope);
  return out;
}
std::vector<bool> experts(const ModelConfig& c) {
  std::vector<bool> out;
  for (const LayerConfig& l : c.layers) out.push_back(l.experts);
  return out;
}
using Windows = std::vector<int64_t>;
using Ropes = std::vector<int>;
using Experts = std::vector<bool>;

const std::string kLlama = "LlamaForCausalLM", kMistral = "MistralForCausalLM",
                  kQwen2 = "Qwen2ForCausalLM", kQwen3 = "Qwen3ForCausalLM",
                  kPhi3 = "Phi3ForCausalLM", kSmolLm3 = "SmolLM3ForCausalLM",
                  kGranite = "GraniteForCausalLM", kOlmo2 = "Olmo2ForCausalLM",
                  kGemma = "GemmaForCausalLM", kGemma2 = "Gemma2ForCausalLM",
                  kGemma3 = "Gemma3ForCausalLM", kGemma3Vision = "Gemma3ForConditionalGeneration",
                  kMixtral = "MixtralForCausalLM", kQwen3Moe = "Qwen3MoeForCausalLM",
                  kOlmoe = "OlmoeForCausalLM";

TEST(Families, Llama) {
  const ModelConfig c = parse(
      kLlama,
      R"({"rope_theta": 500000.0, "hidden_act": "silu", "attention_bias": true, "mlp_bias": true})");
  EXPECT_EQ(windows(c), (Windows{0, 0, 0, 0}));
  EXPECT_EQ(ropes(c), (Ropes{0, 0, 0, 0}));
  EXPECT_TRUE(c.qkv_bias && c.o_bias && c.mlp_bias);
  EXPECT_FALSE(c.tie_word_embeddings);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_FLOAT_EQ(c.attention_scale, 0.25F);
  EXPECT_EQ(c.embedding_multiplier, 1);
  EXPECT_EQ(c.logit_softcap, 0);
}

TEST(Families, MistralWindowOnEveryLayer) {
  EXPECT_EQ(windows(parse(kMistral, R"({"sliding_window": 512})")), (Windows{512, 512, 512, 512}));
  EXPECT_EQ(windows(parse(kMistral, R"({"sliding_window": null})")), (Windows{0, 0, 0, 0}));
  EXPECT_EQ(windows(parse(kMistral, "{}")), (Windows{4096, 4096, 4096, 4096}))
      << "absent: transformers' default";
  EXPECT_EQ(parse(kMistral, R"({"head_dim": 32})").head_dim, 32);
}

TEST(Families, Qwen2WindowOnlyWhenAskedFor) {
  // As published: a window that is not in use.
  const ModelConfig c = parse(
      kQwen2,
      R"({"sliding_window": 131072, "use_sliding_window": false, "max_window_layers": 2, "tie_word_embeddings": true})");
  EXPECT_EQ(windows(c), (Windows{0, 0, 0, 0}));
  EXPECT_TRUE(c.qkv_bias);
  EXPECT_FALSE(c.o_bias || c.mlp_bias);
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_EQ(
      windows(parse(
          kQwen2, R"({"sliding_window": 64, "use_sliding_window": true, "max_window_layers": 3})")),
      (Windows{0, 0, 0, 64}));
  EXPECT_EQ(
      windows(parse(
          kQwen2, R"({"sliding_window": 64, "use_sliding_window": true, "max_window_layers": 0})")),
      (Windows{64, 64, 64, 64}));
  EXPECT_EQ(
      windows(parse(
          kQwen2, R"({"sliding_window": 64, "use_sliding_window": true, "max_window_layers": 9})")),
      (Windows{0, 0, 0, 0}));
  const char* listed = R"({"sliding_window": 64, "use_sliding_window": true, "max_window_layers": 1,
      "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]})";
  EXPECT_EQ(windows(parse(kQwen2, listed)), (Windows{64, 0, 0, 64}))
      << "layer_types wins over max_window_layers";
}

TEST(Families, Qwen2Yarn) {
  const ModelConfig c = parse(kQwen2, R"({"rope_theta": 1000000.0,
      "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 2048, "type": "yarn"}})");
  EXPECT_EQ(c.ropes[0].type, RopeType::kYarn);
  EXPECT_EQ(c.ropes[0].factor, 4);
  EXPECT_EQ(c.ropes[0].original_max_position, 2048);
}

TEST(Families, Qwen3) {
  const ModelConfig c = parse(
      kQwen3,
      R"({"attention_bias": false, "head_dim": 128, "max_window_layers": 36, "sliding_window": null})");
  EXPECT_FALSE(c.qkv_bias || c.o_bias);
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_EQ(c.family->qk_norm, QkNorm::kHead);
  EXPECT_FLOAT_EQ(c.attention_scale, static_cast<float>(1 / std::sqrt(128.0)));
}

TEST(Families, Phi3LongRope) {
  const ModelConfig c = parse(
      kPhi3,
      R"({"original_max_position_embeddings": 4096, "max_position_embeddings": 131072, "sliding_window": 2047,
      "partial_rotary_factor": 0.75, "rope_theta": 10000.0,
      "rope_scaling": {"type": "longrope", "short_factor": [1, 1.5, 2, 2.5, 3, 3.5], "long_factor": [2, 3, 4, 5, 6, 7]}})");
  const RopeConfig& r = c.ropes[0];
  EXPECT_EQ(r.type, RopeType::kLongRope);
  EXPECT_EQ(r.original_max_position, 4096);
  EXPECT_EQ(rotary_dim(r, 16), 12);
  EXPECT_EQ(windows(c), (Windows{2047, 2047, 2047, 2047}));
  const auto short_of = rope_frequencies(r, 12, 131072, 4096),
             long_of = rope_frequencies(r, 12, 131072, 4097);
  for (size_t i = 0; i < 6; ++i) {
    const double plain = std::pow(10000.0, -2.0 * static_cast<double>(i) / 12);
    EXPECT_NEAR(short_of.inverse[i] * r.short_factor[i] / plain, 1, 1e-6);
    EXPECT_NEAR(long_of.inverse[i] * r.long_factor[i] / plain, 1, 1e-6);
  }
  const double scale = std::sqrt(1 + std::log(32.0) / std::log(4096.0));
  EXPECT_NEAR(short_of.attention_factor, scale, 1e-6);
  EXPECT_NEAR(long_of.attention_factor, scale, 1e-6);
  EXPECT_EQ(
      parse(kPhi3, R"({"rope_scaling": {"type": "su", "short_factor": [1], "long_factor": [1]}})")
          .ropes[0]
          .type,
      RopeType::kLongRope);
}

TEST(Families, SmolLm3LayersWithoutPositions) {
  const ModelConfig c = parse(
      kSmolLm3,
      R"({"no_rope_layers": [1, 0, 1, 0], "use_sliding_window": false, "max_window_layers": 28})");
  EXPECT_EQ(ropes(c), (Ropes{0, -1, 0, -1}));
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_EQ(ropes(parse(kSmolLm3, R"({"no_rope_layer_interval": 3})")), (Ropes{0, 0, -1, 0}));
  EXPECT_EQ(ropes(parse(kSmolLm3, "{}")), (Ropes{0, 0, 0, -1}))
      << "absent: every fourth, transformers' default";
  EXPECT_EQ(ropes(parse(kLlama, "{}")), (Ropes{0, 0, 0, 0}));
  // Where a window is in use, it is for the layers without positions.
  EXPECT_EQ(
      windows(parse(
          kSmolLm3,
          R"({"no_rope_layers": [1, 0, 1, 0], "use_sliding_window": true, "sliding_window": 64})")),
      (Windows{0, 64, 0, 64}));
}

TEST(Families, GraniteMultipliers) {
  const ModelConfig c = parse(
      kGranite,
      R"({"attention_multiplier": 0.0078125, "embedding_multiplier": 12.0, "logits_scaling": 16.0,
      "residual_multiplier": 0.22, "attention_bias": false})");
  EXPECT_EQ(c.attention_scale, 0.0078125F);
  EXPECT_EQ(c.embedding_multiplier, 12);
  EXPECT_EQ(c.logit_divisor, 16);
  EXPECT_EQ(c.residual_multiplier, 0.22F);
}

TEST(Families, Olmo2NormsTheOutputs) {
  const ModelConfig c = parse(kOlmo2, R"({"attention_bias": false, "rope_theta": 500000})");
  EXPECT_EQ(c.family->norms.attention_in, nullptr);
  EXPECT_STREQ(c.family->norms.attention_out, "post_attention_layernorm");
  EXPECT_STREQ(c.family->norms.mlp_out, "post_feedforward_layernorm");
  EXPECT_EQ(c.family->qk_norm, QkNorm::kWhole);
  EXPECT_EQ(c.ropes[0].theta, 500000) << "a whole number is a number";
}

TEST(Families, GemmaActivation) {
  // Early configs of Gemma name "gelu" where the tanh form is meant.
  EXPECT_EQ(parse(kGemma, R"({"hidden_act": "gelu"})").activation, Activation::kGeluTanh);
  EXPECT_EQ(parse(kGemma, R"({"hidden_act": "gelu", "hidden_activation": null})").activation,
            Activation::kGeluTanh);
  EXPECT_EQ(parse(kGemma, R"({"hidden_act": "gelu_pytorch_tanh"})").activation,
            Activation::kGeluTanh);
  EXPECT_EQ(parse(kLlama, R"({"hidden_act": "gelu"})").activation, Activation::kGelu);
  const ModelConfig c = parse(kGemma, R"({"head_dim": 32})");
  EXPECT_EQ(c.embedding_multiplier, 8);
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_TRUE(c.family->norm_plus_one);
  EXPECT_FLOAT_EQ(c.attention_scale, static_cast<float>(1 / std::sqrt(32.0)));
}

TEST(Families, Gemma2CapsAndWindows) {
  const ModelConfig c = parse(
      kGemma2,
      R"({"sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
      "query_pre_attn_scalar": 144, "hidden_activation": "gelu_pytorch_tanh", "cache_implementation": "hybrid", "head_dim": 16})");
  EXPECT_EQ(windows(c), (Windows{4096, 0, 4096, 0}));
  EXPECT_EQ(c.attention_softcap, 50);
  EXPECT_EQ(c.logit_softcap, 30);
  EXPECT_FLOAT_EQ(c.attention_scale, 1.0F / 12);
  const ModelConfig bare = parse(kGemma2, "{}");
  EXPECT_EQ(bare.attention_softcap, 50);
  EXPECT_EQ(bare.logit_softcap, 30);
  EXPECT_FLOAT_EQ(bare.attention_scale, 1.0F / 16);
  // null is not absent: it turns a cap off.
  const ModelConfig off =
      parse(kGemma2, R"({"attn_logit_softcapping": null, "final_logit_softcapping": null})");
  EXPECT_EQ(off.attention_softcap, 0);
  EXPECT_EQ(off.logit_softcap, 0);
}

TEST(Families, Gemma3TwoRopes) {
  const std::string seven = R"("num_hidden_layers": 7, "sliding_window": 512)";
  const ModelConfig c = parse(
      kGemma3,
      "{" + seven +
          R"(, "sliding_window_pattern": 6, "rope_theta": 1000000, "rope_local_base_freq": 10000,
      "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "query_pre_attn_scalar": 256})");
  EXPECT_EQ(windows(c), (Windows{512, 512, 512, 512, 512, 0, 512}));
  EXPECT_EQ(ropes(c), (Ropes{1, 1, 1, 1, 1, 0, 1}));
  ASSERT_EQ(c.ropes.size(), 2u);
  EXPECT_EQ(c.ropes[0].type, RopeType::kLinear);
  EXPECT_EQ(c.ropes[0].theta, 1000000);
  EXPECT_EQ(c.ropes[1].type, RopeType::kDefault) << "local layers are not stretched";
  EXPECT_EQ(c.ropes[1].theta, 10000);
  EXPECT_EQ(c.attention_softcap, 0);
  const ModelConfig bare = parse(kGemma3, "{" + seven + "}");
  EXPECT_EQ(windows(bare), windows(c));
  EXPECT_EQ(bare.ropes[0].theta, 1000000);
  EXPECT_EQ(bare.ropes[1].theta, 10000);
  const ModelConfig recent = parse(
      kGemma3,
      R"({"sliding_window": 512, "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
      "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}})");
  EXPECT_EQ(windows(recent), (Windows{512, 0, 512, 0}));
  EXPECT_EQ(ropes(recent), (Ropes{1, 0, 1, 0}));
  EXPECT_EQ(recent.ropes[0].factor, 8);
  EXPECT_EQ(recent.ropes[1].theta, 10000);
}

// The published multimodal configs leave out what equals transformers' defaults.
TEST(Families, Gemma3SparseTextConfig) {
  const json::object o =
      json::parse(
          R"({"architectures": ["Gemma3ForConditionalGeneration"], "boi_token_index": 255999, "eoi_token_index": 256000,
      "eos_token_id": [1, 106], "image_token_index": 262144, "model_type": "gemma3", "torch_dtype": "bfloat16", "mm_tokens_per_image": 256,
      "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
                      "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024},
      "vision_config": {"hidden_size": 1152}})")
          .as_object();
  const ModelConfig c = parse_model_config(o, "config.json");
  EXPECT_EQ(c.hidden_size, 2560);
  EXPECT_EQ(c.num_attention_heads, 8);
  EXPECT_EQ(c.num_key_value_heads, 4);
  EXPECT_EQ(c.head_dim, 256);
  EXPECT_EQ(c.vocab_size, 262208);
  EXPECT_EQ(c.max_position_embeddings, 131072);
  EXPECT_FLOAT_EQ(c.attention_scale, 1.0F / 16);
  EXPECT_EQ(c.rms_norm_eps, 1e-6F);
  EXPECT_EQ(c.layers[4].window, 1024);
  EXPECT_EQ(c.layers[5].window, 0);
  EXPECT_EQ(c.ropes[0].theta, 1000000);
  EXPECT_EQ(c.ropes[0].factor, 8);
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_EQ(c.eos_ids, (std::vector<int32_t>{1, 106}));
  EXPECT_EQ(c.dtype, "bfloat16");
}

TEST(Families, Mixtral) {
  const ModelConfig c = parse(
      kMixtral,
      R"({"num_local_experts": 8, "num_experts_per_tok": 2, "rope_theta": 1000000.0, "sliding_window": null})");
  EXPECT_EQ(c.num_experts, 8);
  EXPECT_EQ(c.experts_per_token, 2);
  EXPECT_EQ(c.moe_intermediate_size, 96);
  EXPECT_TRUE(c.renormalize_experts);
  EXPECT_EQ(experts(c), (Experts{true, true, true, true}));
  EXPECT_EQ(windows(c), (Windows{0, 0, 0, 0}));
  EXPECT_STREQ(c.family->experts.gate, "w1");
  EXPECT_STREQ(c.family->experts.up, "w3");
  EXPECT_STREQ(c.family->experts.down, "w2");
}

TEST(Families, Qwen3Moe) {
  const std::string base =
      R"("num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 32, "head_dim": 16)";
  const ModelConfig c = parse(
      kQwen3Moe,
      "{" + base + R"(, "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [],
      "max_window_layers": 4, "sliding_window": null, "use_sliding_window": false})");
  EXPECT_EQ(c.num_experts, 16);
  EXPECT_EQ(c.moe_intermediate_size, 32);
  EXPECT_EQ(c.intermediate_size, 96);
  EXPECT_TRUE(c.renormalize_experts);
  EXPECT_EQ(experts(c), (Experts{true, true, true, true}));
  EXPECT_EQ(experts(parse(kQwen3Moe, "{" + base + R"(, "decoder_sparse_step": 2})")),
            (Experts{false, true, false, true}));
  EXPECT_EQ(experts(parse(kQwen3Moe, "{" + base + R"(, "mlp_only_layers": [0, 3]})")),
            (Experts{false, true, true, false}));
  EXPECT_FALSE(parse(kQwen3Moe, "{" + base + "}").renormalize_experts);
  // Unlike Qwen 2 and 3, a window in use holds for every layer.
  EXPECT_EQ(
      windows(parse(
          kQwen3Moe,
          "{" + base +
              R"(, "use_sliding_window": true, "sliding_window": 64, "max_window_layers": 2})")),
      (Windows{64, 64, 64, 64}));
  EXPECT_EQ(
      windows(parse(kQwen3Moe, "{" + base + R"(, "sliding_window": 64, "max_window_layers": 0})")),
      (Windows{0, 0, 0, 0}));
}

TEST(Families, Olmoe) {
  const ModelConfig c = parse(
      kOlmoe,
      R"({"num_experts": 64, "num_experts_per_tok": 8, "norm_topk_prob": false, "clip_qkv": null})");
  EXPECT_EQ(c.num_experts, 64);
  EXPECT_FALSE(c.renormalize_experts);
  EXPECT_EQ(c.family->qk_norm, QkNorm::kWhole);
  EXPECT_EQ(c.clip_qkv, 0);
  const ModelConfig clipped =
      parse(kOlmoe, R"({"num_experts": 64, "num_experts_per_tok": 8, "clip_qkv": 8})");
  EXPECT_EQ(clipped.clip_qkv, 8);
}

TEST(Families, DynamicRopeFollowsTheContext) {
  const ModelConfig c = parse(
      kLlama,
      R"({"max_position_embeddings": 2048, "rope_scaling": {"type": "dynamic", "factor": 4.0}})");
  const RopeConfig& r = c.ropes[0];
  EXPECT_FLOAT_EQ(rope_frequencies(r, 16, 2048, 1024).inverse[7],
                  rope_frequencies(r, 16, 2048, 2048).inverse[7]);
  const double base = 10000 * std::pow(4.0 * 8192 / 2048 - 3, 16.0 / 14);
  EXPECT_NEAR(rope_frequencies(r, 16, 2048, 8192).inverse[7] / std::pow(base, -14.0 / 16), 1, 1e-5);
}

TEST(Families, RefusedValuesNameTheKey) {
  const auto refuse = [](const std::string& architecture, const std::string& own,
                         std::initializer_list<std::string> says) {
    SCOPED_TRACE(architecture + " " + own);
    expect_error(ErrorKind::kInput, says, [&] { parse(architecture, own); });
  };
  refuse(kMistral, R"({"sliding_window": -1})", {"config.json", "sliding_window", "-1"});
  refuse(kMistral, R"({"sliding_window": 2.5})", {"config.json", "sliding_window", "2.5"});
  refuse(kQwen2, R"({"use_sliding_window": 1, "sliding_window": 8})",
         {"use_sliding_window", "1", "true or false"});
  refuse(kQwen2, R"({"layer_types": ["full_attention"]})", {"layer_types", "1", "4"});
  refuse(
      kQwen2,
      R"({"layer_types": ["full_attention", "full_attention", "chunked_attention", "full_attention"]})",
      {"layer_types", "chunked_attention", "layer 2", "sliding_attention"});
  refuse(kQwen2, R"({"layer_types": "full_attention"})", {"layer_types"});
  refuse(kPhi3, R"({"partial_rotary_factor": 0})", {"partial_rotary_factor", "0"});
  refuse(kPhi3, R"({"partial_rotary_factor": 1.5})", {"partial_rotary_factor", "1.5"});
  refuse(kPhi3, R"({"rope_scaling": {"type": "longrope", "short_factor": [1, 1]}})",
         {"longrope", "long_factor"});
  refuse(kPhi3,
         R"({"rope_scaling": {"type": "longrope", "short_factor": [1, 1], "long_factor": [1]}})",
         {"long_factor", "2", "1"});
  refuse(
      kPhi3,
      R"({"rope_scaling": {"type": "longrope", "short_factor": [1, "x"], "long_factor": [1, 1]}})",
      {"short_factor"});
  refuse(kPhi3,
         R"({"rope_scaling": {"type": "longrope", "short_factor": [1, 1], "long_factor": [1, 0]}})",
         {"long_factor", "0"});
  refuse(kSmolLm3, R"({"no_rope_layers": [1, 0]})", {"no_rope_layers", "2", "4"});
  refuse(kGranite, R"({"logits_scaling": 0})", {"logits_scaling", "0"});
  refuse(kGranite, R"({"residual_multiplier": "x"})", {"residual_multiplier", "x"});
  refuse(kGemma2, R"({"attn_logit_softcapping": -1})", {"attn_logit_softcapping", "-1"});
  refuse(kGemma2, R"({"query_pre_attn_scalar": 0})", {"query_pre_attn_scalar", "0"});
  refuse(kGemma3, R"({"sliding_window_pattern": 0})", {"sliding_window_pattern", "0"});
  refuse(kGemma3, R"({"use_bidirectional_attention": true})", {"use_bidirectional_attention"});
  refuse(kMixtral, R"({"num_experts_per_tok": 2})", {"num_", "experts", "missing"});
  refuse(kMixtral, R"({"num_local_experts": 4})", {"num_experts_per_tok", "missing"});
  refuse(kMixtral, R"({"num_local_experts": 4, "num_experts_per_tok": 5})",
         {"config.json", "4", "5"});
  refuse(kMixtral, R"({"num_local_experts": 100000, "num_experts_per_tok": 5})",
         {"100000", "4096"});
  refuse(kQwen3Moe, R"({"num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 0})",
         {"decoder_sparse_step", "0"});
  refuse(kQwen3Moe, R"({"num_experts": 4, "num_experts_per_tok": 2, "mlp_only_layers": {}})",
         {"mlp_only_layers"});
  refuse(kOlmoe, R"({"num_experts": 4, "num_experts_per_tok": 2, "clip_qkv": 0})",
         {"clip_qkv", "0"});
  refuse(kMixtral, R"({"num_local_experts": 4, "num_experts_per_tok": 2, "clip_qkv": 8.0})",
         {"clip_qkv", "8", "clips no activations"});
  refuse("Foo", "{}",
         {"'Foo' is not supported", "Gemma3ForConditionalGeneration", "OlmoeForCausalLM"});
}

// Families whose head_dim is not hidden_size / heads when the config leaves it out.
TEST(Families, HeadDimByDefault) {
  for (const std::string& name : {kGemma, kGemma2, kGemma3})
    EXPECT_EQ(parse(name, "{}").head_dim, 256) << name;
  EXPECT_EQ(parse(kQwen3, "{}").head_dim, 128);
  EXPECT_EQ(parse(kLlama, R"({"head_dim": null})").head_dim, 16);
}

TEST(Families, TextConfigMustBeAnObject) {
  json::object o = config(kGemma3Vision, R"({"text_config": [1]})");
  expect_error(ErrorKind::kInput, {"config.json", "text_config"},
               [&] { parse_model_config(o, "config.json"); });
}

}  // namespace
}  // namespace pluq
