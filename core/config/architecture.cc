// SPDX-License-Identifier: Apache-2.0
#include "config/architecture.h"

namespace pluq {
namespace {

constexpr NormNames kBefore{"input_layernorm", nullptr, "post_attention_layernorm", nullptr};
constexpr NormNames kAfter{nullptr, "post_attention_layernorm", nullptr,
                           "post_feedforward_layernorm"};
constexpr NormNames kAround{"input_layernorm", "post_attention_layernorm",
                            "pre_feedforward_layernorm", "post_feedforward_layernorm"};

constexpr ExpertNames kMixtralExperts{"block_sparse_moe.gate", "block_sparse_moe.experts", "w1",
                                      "w3", "w2"};
constexpr ExpertNames kMlpExperts{"mlp.gate", "mlp.experts", "gate_proj", "up_proj", "down_proj"};

// The published multimodal Gemma 3 names little more than its width and depth.
constexpr SizeDefaults kGemma3Sizes{8, 4, 256, 262208, 131072};

constexpr Architecture kArchitectures[] = {
    {.name = "LlamaForCausalLM", .norms = kBefore},
    {.name = "MistralForCausalLM",
     .norms = kBefore,
     .sliding = SlidingPattern::kAll,
     .sliding_window = 4096},
    {.name = "Qwen2ForCausalLM",
     .norms = kBefore,
     .sliding = SlidingPattern::kFromLayer,
     .qkv_bias = true,
     .o_bias_follows = false},
    {.name = "Qwen3ForCausalLM",
     .norms = kBefore,
     .qk_norm = QkNorm::kHead,
     .sliding = SlidingPattern::kFromLayer,
     .sizes = {.head_dim = 128}},
    {.name = "Phi3ForCausalLM", .norms = kBefore, .sliding = SlidingPattern::kAll},
    {.name = "SmolLM3ForCausalLM",
     .norms = kBefore,
     .sliding = SlidingPattern::kNoRope,
     .tied_by_default = true,
     .rope_theta = 2000000,
     .no_rope_interval = 4},
    {.name = "GraniteForCausalLM", .norms = kBefore},
    {.name = "Olmo2ForCausalLM", .norms = kAfter, .qk_norm = QkNorm::kWhole},
    {.name = "GemmaForCausalLM",
     .norms = kBefore,
     .activation = Activation::kGeluTanh,
     .norm_plus_one = true,
     .scale_embedding = true,
     .tied_by_default = true,
     .sizes = {.head_dim = 256}},
    {.name = "Gemma2ForCausalLM",
     .norms = kAround,
     .sliding = SlidingPattern::kEveryOther,
     .activation = Activation::kGeluTanh,
     .norm_plus_one = true,
     .scale_embedding = true,
     .tied_by_default = true,
     .attention_softcap = 50,
     .logit_softcap = 30,
     .query_scalar = 256,
     .sliding_window = 4096,
     .sizes = {.head_dim = 256}},
    {.name = "Gemma3ForCausalLM",
     .norms = kAround,
     .qk_norm = QkNorm::kHead,
     .sliding = SlidingPattern::kFiveOfSix,
     .activation = Activation::kGeluTanh,
     .norm_plus_one = true,
     .scale_embedding = true,
     .tied_by_default = true,
     .query_scalar = 256,
     .rope_theta = 1000000,
     .sliding_window = 4096,
     .sizes = kGemma3Sizes},
    {.name = "Gemma3ForConditionalGeneration",
     .norms = kAround,
     .qk_norm = QkNorm::kHead,
     .sliding = SlidingPattern::kFiveOfSix,
     .activation = Activation::kGeluTanh,
     .norm_plus_one = true,
     .scale_embedding = true,
     .tied_by_default = true,
     .query_scalar = 256,
     .rope_theta = 1000000,
     .sliding_window = 4096,
     .sizes = kGemma3Sizes,
     .text_config = true},
    {.name = "MixtralForCausalLM",
     .norms = kBefore,
     .sliding = SlidingPattern::kAll,
     .experts = kMixtralExperts,
     .renormalize_experts = true,
     .rope_theta = 1000000},
    {.name = "Qwen3MoeForCausalLM",
     .norms = kBefore,
     .qk_norm = QkNorm::kHead,
     .sliding = SlidingPattern::kAllIfUsed,
     .experts = kMlpExperts},
    {.name = "OlmoeForCausalLM",
     .norms = kBefore,
     .qk_norm = QkNorm::kWhole,
     .experts = kMlpExperts,
     .clips_qkv = true},
};

}  // namespace

const Architecture* find_architecture(std::string_view name) {
  for (const Architecture& a : kArchitectures) {
    if (a.name == name) return &a;
  }
  return nullptr;
}

std::string supported_architectures() {
  std::string out;
  for (const Architecture& a : kArchitectures)
    out += (out.empty() ? "" : ", ") + std::string(a.name);
  return out;
}

}  // namespace pluq
