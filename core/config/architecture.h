// SPDX-License-Identifier: Apache-2.0
// What differs between the families of decoder-only transformers, as data. A family is one row of
// the table in architecture.cc; nothing else in pluq names one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace pluq {

enum class Activation { kSilu, kGeluTanh, kGelu };

// Normalisation of q and k before the rotation.
enum class QkNorm { kNone, kHead /* each head */, kWhole /* all heads together */ };

// Which layers see only a window of the past when the config does not list them.
enum class SlidingPattern {
  kNone,
  kAll,         // every layer, when sliding_window is a number (Mistral, Phi-3)
  kFromLayer,   // layers from max_window_layers on, when use_sliding_window (Qwen)
  kAllIfUsed,   // every layer, when use_sliding_window (Qwen3-MoE)
  kNoRope,      // layers without positions, when use_sliding_window (SmolLM3)
  kEveryOther,  // layers 0, 2, 4, ... (Gemma 2)
  kFiveOfSix,   // all but every sliding_window_pattern-th (Gemma 3)
};

// Names below a decoder layer; nullptr: the family has no such norm.
struct NormNames {
  const char* attention_in;
  const char* attention_out;
  const char* mlp_in;
  const char* mlp_out;
};

// Mixture of experts: names below a decoder layer.
struct ExpertNames {
  const char* router;   // nullptr: dense MLP
  const char* experts;  // experts.N.* live below it
  const char* gate;
  const char* up;
  const char* down;
};

// What sizes a config may leave out, because they equal transformers' defaults for the family; 0:
// it may not.
struct SizeDefaults {
  int64_t heads = 0, kv_heads = 0, head_dim = 0, vocab = 0, max_position = 0;
};

struct Architecture {
  std::string_view name;  // in config.json's architectures
  NormNames norms;
  QkNorm qk_norm = QkNorm::kNone;
  SlidingPattern sliding = SlidingPattern::kNone;
  ExpertNames experts = {};
  Activation activation = Activation::kSilu;
  bool qkv_bias = false;         // default of attention_bias for q, k, v
  bool o_bias_follows = true;    // attention_bias also gives o_proj one
  bool clips_qkv = false;        // obeys clip_qkv
  bool norm_plus_one = false;    // stored norm weights are w - 1
  bool scale_embedding = false;  // by sqrt(hidden_size)
  bool tied_by_default = false;  // tie_word_embeddings when the config says nothing
  bool renormalize_experts =
      false;  // weights of the chosen experts sum to 1, whatever norm_topk_prob says
  double attention_softcap = 0, logit_softcap = 0;  // when the config says nothing; 0: none
  double query_scalar = 0;                          // query_pre_attn_scalar by default; 0: head_dim
  double rope_theta = 10000;                        // when the config says nothing
  int64_t sliding_window = 0;    // when the config says nothing; null in the config: none
  int64_t no_rope_interval = 0;  // no_rope_layer_interval when the config says nothing
  SizeDefaults sizes = {};
  bool text_config =
      false;  // sizes are in config.json's text_config; other tensors belong to other towers
};

// nullptr when there is none.
const Architecture* find_architecture(std::string_view name);

// "LlamaForCausalLM, MistralForCausalLM, ...", for messages.
std::string supported_architectures();

}  // namespace pluq
