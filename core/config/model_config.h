// SPDX-License-Identifier: Apache-2.0
// The sizes and options of a model, from a HF config.json in old or new spelling.
#pragma once

#include <boost/json/value.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pluq {

enum class RopeType { kDefault, kLinear, kLlama3, kYarn };

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000;
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double original_max_position = 0;                  // llama3, yarn
  double beta_fast = 32, beta_slow = 1;              // yarn
  double attention_factor = 0;                       // yarn; 0: from factor
  double mscale = 0, mscale_all_dim = 0;             // yarn
  bool truncate = true;                              // yarn
};

// What differs between the families of decoder-only transformers, as data.
struct ArchitectureTraits {
  const char* name;         // in config.json's architectures
  bool qkv_bias;            // default of attention_bias for q, k, v
  bool o_bias_follows;      // attention_bias also gives o_proj one
};

struct ModelConfig {
  std::string architecture;
  int64_t hidden_size = 0, intermediate_size = 0, num_hidden_layers = 0;
  int64_t num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  int64_t vocab_size = 0, max_position_embeddings = 0;
  float rms_norm_eps = 1e-6F;
  bool qkv_bias = false, o_bias = false, mlp_bias = false;
  bool tie_word_embeddings = false;
  RopeConfig rope;
  std::vector<int32_t> eos_ids;
  int32_t bos_id = -1;  // -1: none
  std::string dtype;    // "bfloat16", ...
};

// Throws Error(kInput) naming the file, the key and what is accepted.
ModelConfig parse_model_config(const boost::json::value& config, std::string_view where);

// Supported architectures, for messages.
std::string supported_architectures();

// Defaults of generation from generation_config.json (empty object: none) on top of the model's own ids.
struct GenerationConfig {
  double temperature = 0, top_p = 1;
  int32_t top_k = 0;
  double repetition_penalty = 1;
  std::vector<int32_t> eos_ids;  // union of both files
};
GenerationConfig parse_generation_config(const boost::json::value& generation, const ModelConfig& model,
                                         std::string_view where);

// Inverse frequencies [head_dim / 2] and the factor that scales cos and sin, as transformers computes them in f32.
struct RopeFrequencies {
  std::vector<float> inverse;
  float attention_factor = 1;
};
RopeFrequencies rope_frequencies(const RopeConfig& rope, int64_t head_dim, int64_t max_position_embeddings);

}  // namespace pluq
