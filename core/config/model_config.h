// SPDX-License-Identifier: Apache-2.0
// The sizes and options of a model, from a HF config.json in old or new spelling.
#pragma once

#include <boost/json/value.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/architecture.h"
#include "config/rope.h"

namespace pluq {

// What one decoder layer has of its own.
struct LayerConfig {
  int64_t window = 0;  // a token sees itself and window - 1 tokens before it; 0: all
  int rope = 0;        // index into ModelConfig::ropes, -1: positions are not encoded
  bool experts = false;
};

struct ModelConfig {
  const Architecture* family = nullptr;
  int64_t hidden_size = 0, intermediate_size = 0, num_hidden_layers = 0;
  int64_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  int64_t vocab_size = 0, max_position_embeddings = 0;
  float rms_norm_eps = 1e-6F;
  Activation activation = Activation::kSilu;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool tie_word_embeddings = false;
  std::vector<LayerConfig> layers;  // [num_hidden_layers]
  std::vector<RopeConfig> ropes;
  float attention_scale = 0;                       // of q k^T
  float clip_qkv = 0;                              // q, k, v are clamped to +-this; 0: they are not
  float attention_softcap = 0, logit_softcap = 0;  // 0: none
  float embedding_multiplier = 1, residual_multiplier = 1, logit_divisor = 1;
  int64_t num_experts = 0, experts_per_token = 0, moe_intermediate_size = 0;
  bool renormalize_experts = false;
  std::vector<int32_t> eos_ids;
  int32_t bos_id = -1;  // -1: none
  std::string dtype;    // "bfloat16", ...

  std::string_view architecture() const { return family->name; }
};

// Throws Error(kInput) naming the file, the key and what is accepted.
ModelConfig parse_model_config(const boost::json::value& config, std::string_view where);

// Defaults of generation from generation_config.json (empty object: none) on top of the model's own
// ids.
struct GenerationConfig {
  double temperature = 0, top_p = 1;
  int32_t top_k = 0;
  double repetition_penalty = 1;
  std::vector<int32_t> eos_ids;  // union of both files
};
GenerationConfig parse_generation_config(const boost::json::value& generation,
                                         const ModelConfig& model, std::string_view where);

}  // namespace pluq
