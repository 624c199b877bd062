// SPDX-License-Identifier: Apache-2.0
#include "config/model_config.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace pluq {
namespace {

namespace json = boost::json;

constexpr std::string_view kFull = "full_attention", kSliding = "sliding_attention";

const Architecture& architecture_of(const JsonReader& in) {
  const std::vector<std::string> names = in.strings("architectures");
  if (!names.empty()) {
    if (const Architecture* a = find_architecture(names[0])) return *a;
  }
  fail_input("{}: architecture '{}' is not supported; supported are {}", in.where(),
             printable(names.empty() ? "(none named in 'architectures')" : names[0]),
             supported_architectures());
}

void parse_sizes(const JsonReader& in, ModelConfig* c) {
  c->hidden_size = in.size("hidden_size");
  c->num_hidden_layers = in.size("num_hidden_layers");
  const SizeDefaults& usual = c->family->sizes;
  const auto size_or = [&](std::string_view key, int64_t otherwise) {
    return otherwise != 0 && !in.has(key) ? otherwise : in.size(key);
  };
  c->num_attention_heads = size_or("num_attention_heads", usual.heads);
  c->num_key_value_heads =
      size_or("num_key_value_heads", usual.kv_heads != 0 ? usual.kv_heads : c->num_attention_heads);
  c->vocab_size = size_or("vocab_size", usual.vocab);
  c->max_position_embeddings =
      size_or("max_position_embeddings", usual.max_position != 0 ? usual.max_position : 2048);
  if (c->num_hidden_layers > 10'000)
    fail_input("{}: 'num_hidden_layers' is {}, at most 10000", in.where(), c->num_hidden_layers);
  if (c->num_attention_heads % c->num_key_value_heads != 0) {
    fail_input("{}: 'num_attention_heads' {} is not a multiple of 'num_key_value_heads' {}",
               in.where(), c->num_attention_heads, c->num_key_value_heads);
  }
  auto head_dim = in.optional_size("head_dim");
  if (!head_dim && usual.head_dim != 0) head_dim = usual.head_dim;
  if (!head_dim && c->hidden_size % c->num_attention_heads != 0) {
    fail_input(
        "{}: 'hidden_size' {} is not a multiple of 'num_attention_heads' {} and there is no "
        "'head_dim'",
        in.where(), c->hidden_size, c->num_attention_heads);
  }
  c->head_dim = head_dim.value_or(c->hidden_size / c->num_attention_heads);
  if (c->head_dim % 2 != 0 || c->head_dim > 1024) {
    fail_input("{}: 'head_dim' {} is odd or above 1024, which rotary embeddings here cannot have",
               in.where(), c->head_dim);
  }
  c->rms_norm_eps = static_cast<float>(in.real("rms_norm_eps", 1e-6));
  if (!(c->rms_norm_eps >= 0)) in.wrong("rms_norm_eps", "a number from 0");
}

Activation parse_activation(const JsonReader& in, const Architecture& family) {
  // Configs of Gemma may hold an old hidden_act that was never meant; hidden_activation is the one
  // in force.
  const bool gemma = family.activation == Activation::kGeluTanh;
  const std::string name =
      in.string("hidden_activation", gemma ? "gelu_pytorch_tanh" : in.string("hidden_act", "silu"));
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new" || name == "gelu_fast")
    return Activation::kGeluTanh;
  if (name == "gelu") return Activation::kGelu;
  fail_input("{}: 'hidden_act' is '{}'; supported are silu, gelu, gelu_pytorch_tanh", in.where(),
             printable(name));
}

// Whether layer i sees only a window, when the config does not list its layers.
bool slides(const JsonReader& in, const ModelConfig& c, int64_t i, int64_t count) {
  const bool used = in.boolean("use_sliding_window", false);
  switch (c.family->sliding) {
    case SlidingPattern::kNone:
      return false;
    case SlidingPattern::kAll:
      return true;
    case SlidingPattern::kFromLayer:
      return used && i >= in.count("max_window_layers", count);
    case SlidingPattern::kAllIfUsed:
      return used;
    case SlidingPattern::kNoRope:
      return used && c.layers[static_cast<size_t>(i)].rope < 0;
    case SlidingPattern::kEveryOther:
      return i % 2 == 0;
    case SlidingPattern::kFiveOfSix:
      return (i + 1) % in.optional_size("sliding_window_pattern").value_or(6) != 0;
  }
  return false;
}

void parse_windows(const JsonReader& in, ModelConfig* c) {
  const int64_t window =
      in.count("sliding_window", in.is_null("sliding_window") ? 0 : c->family->sliding_window);
  const std::vector<std::string> types = in.strings("layer_types");
  if (!types.empty() && static_cast<int64_t>(types.size()) != c->num_hidden_layers) {
    fail_input("{}: 'layer_types' has {} entries for {} layers", in.where(), types.size(),
               c->num_hidden_layers);
  }
  for (int64_t i = 0; i < c->num_hidden_layers; ++i) {
    const auto at = static_cast<size_t>(i);
    if (!types.empty() && types[at] != kFull && types[at] != kSliding) {
      fail_input("{}: 'layer_types' names '{}' for layer {}; supported are {}, {}", in.where(),
                 printable(types[at]), i, kFull, kSliding);
    }
    const bool sliding =
        types.empty() ? slides(in, *c, i, c->num_hidden_layers) : types[at] == kSliding;
    c->layers[at].window = sliding ? window : 0;
  }
}

// What each layer sees and how it is told positions: one rotation for all layers, or a second one
// for those with a window, or none for some.
void parse_positions(const JsonReader& in, ModelConfig* c) {
  const double theta = c->family->rope_theta;
  c->ropes.push_back(parse_rope(in, kFull, theta, c->max_position_embeddings));
  bool local = false;
  if (const auto parameters = in.object("rope_parameters");
      parameters && parameters->object(kSliding)) {
    c->ropes.push_back(parse_rope(in, kSliding, theta, c->max_position_embeddings));
    local = true;
  } else if (in.has("rope_local_base_freq") || c->family->sliding == SlidingPattern::kFiveOfSix) {
    RopeConfig rope;
    rope.theta = in.positive("rope_local_base_freq", 10000);
    c->ropes.push_back(rope);
    local = true;
  }
  const std::vector<double> keep = in.reals("no_rope_layers");  // 1: this layer has positions
  if (!keep.empty() && static_cast<int64_t>(keep.size()) != c->num_hidden_layers) {
    fail_input("{}: 'no_rope_layers' has {} entries for {} layers", in.where(), keep.size(),
               c->num_hidden_layers);
  }
  const int64_t interval = in.count("no_rope_layer_interval", c->family->no_rope_interval);
  for (int64_t i = 0; i < c->num_hidden_layers; ++i) {
    const bool none =
        !keep.empty() ? keep[static_cast<size_t>(i)] == 0 : interval > 0 && (i + 1) % interval == 0;
    if (none) c->layers[static_cast<size_t>(i)].rope = -1;
  }
  parse_windows(in, c);
  if (!local) return;
  for (LayerConfig& layer : c->layers) {
    if (layer.rope == 0 && layer.window > 0) layer.rope = 1;
  }
}

void parse_experts(const JsonReader& in, ModelConfig* c) {
  c->intermediate_size = in.size("intermediate_size");
  if (c->family->experts.router == nullptr) return;
  c->num_experts =
      in.has("num_local_experts") ? in.size("num_local_experts") : in.size("num_experts");
  c->experts_per_token = in.size("num_experts_per_tok");
  if (c->num_experts > 4096 || c->experts_per_token > c->num_experts) {
    fail_input("{}: {} experts of which {} serve a token; at most 4096, and no more than there are",
               in.where(), c->num_experts, c->experts_per_token);
  }
  c->moe_intermediate_size =
      in.optional_size("moe_intermediate_size").value_or(c->intermediate_size);
  c->renormalize_experts = c->family->renormalize_experts || in.boolean("norm_topk_prob", false);
  const int64_t step = in.optional_size("decoder_sparse_step").value_or(1);
  const std::vector<double> dense = in.reals("mlp_only_layers");
  for (int64_t i = 0; i < c->num_hidden_layers; ++i) {
    const bool only_mlp =
        std::find(dense.begin(), dense.end(), static_cast<double>(i)) != dense.end();
    c->layers[static_cast<size_t>(i)].experts = !only_mlp && (i + 1) % step == 0;
  }
}

void parse_scales(const JsonReader& in, ModelConfig* c) {
  const Architecture& family = *c->family;
  const double query = in.positive("query_pre_attn_scalar", family.query_scalar != 0
                                                                ? family.query_scalar
                                                                : static_cast<double>(c->head_dim));
  c->attention_scale =
      static_cast<float>(in.positive("attention_multiplier", 1 / std::sqrt(query)));
  const auto cap = [&](std::string_view key, double otherwise) {  // null turns it off
    return static_cast<float>(in.is_null(key) ? 0 : in.positive(key, otherwise));
  };
  if (in.has("clip_qkv")) c->clip_qkv = static_cast<float>(in.positive("clip_qkv", 1));
  c->attention_softcap = cap("attn_logit_softcapping", family.attention_softcap);
  c->logit_softcap = cap("final_logit_softcapping", family.logit_softcap);
  const double embedding =
      family.scale_embedding ? std::sqrt(static_cast<double>(c->hidden_size)) : 1;
  c->embedding_multiplier = static_cast<float>(in.positive("embedding_multiplier", embedding));
  c->residual_multiplier = static_cast<float>(in.positive("residual_multiplier", 1));
  c->logit_divisor = static_cast<float>(in.positive("logits_scaling", 1));
}

// Options that change what a model computes and that nothing here obeys.
void refuse_unbuilt(const JsonReader& in, const Architecture& family) {
  if (in.has("clip_qkv") && !family.clips_qkv) {
    in.wrong("clip_qkv", "null: this architecture clips no activations");
  }
  if (in.has("use_bidirectional_attention") && in.boolean("use_bidirectional_attention", false)) {
    in.wrong("use_bidirectional_attention", "false: only causal attention is built");
  }
}

}  // namespace

ModelConfig parse_model_config(const json::value& config, std::string_view where) {
  if (!config.is_object()) fail_input("{}: expected a JSON object", where);
  const JsonReader top(config.get_object(), std::string(where));
  ModelConfig c;
  c.family = &architecture_of(top);
  const auto text = c.family->text_config ? top.object("text_config") : std::nullopt;
  const JsonReader& in = text ? *text : top;
  parse_sizes(in, &c);
  c.layers.resize(static_cast<size_t>(c.num_hidden_layers));
  c.activation = parse_activation(in, *c.family);
  c.qkv_bias = in.boolean("attention_bias", c.family->qkv_bias);
  c.o_bias = c.family->o_bias_follows && c.qkv_bias;
  c.mlp_bias = in.boolean("mlp_bias", false);
  c.tie_word_embeddings = top.boolean("tie_word_embeddings",
                                      in.boolean("tie_word_embeddings", c.family->tied_by_default));
  parse_positions(in, &c);
  refuse_unbuilt(in, *c.family);
  parse_experts(in, &c);
  parse_scales(in, &c);
  c.eos_ids = top.has("eos_token_id") ? top.ids("eos_token_id") : in.ids("eos_token_id");
  const std::vector<int32_t> bos =
      top.has("bos_token_id") ? top.ids("bos_token_id") : in.ids("bos_token_id");
  c.bos_id = bos.empty() ? -1 : bos[0];
  c.dtype = top.string(
      "dtype", top.string("torch_dtype", in.string("dtype", in.string("torch_dtype", "float32"))));
  return c;
}

GenerationConfig parse_generation_config(const json::value& generation, const ModelConfig& model,
                                         std::string_view where) {
  GenerationConfig g;
  g.eos_ids = model.eos_ids;
  if (generation.is_null()) return g;
  if (!generation.is_object()) fail_input("{}: expected a JSON object", where);
  const JsonReader in(generation.get_object(), std::string(where));
  for (const int32_t id : in.ids("eos_token_id")) {
    if (std::find(g.eos_ids.begin(), g.eos_ids.end(), id) == g.eos_ids.end())
      g.eos_ids.push_back(id);
  }
  // Sampling is only asked for when the file names a temperature; `do_sample` alone says nothing
  // about how warm.
  if (in.boolean("do_sample", false)) g.temperature = in.real("temperature", 0);
  g.top_p = in.real("top_p", 1);
  g.top_k = static_cast<int32_t>(in.real("top_k", 0));
  g.repetition_penalty = in.real("repetition_penalty", 1);
  return g;
}

}  // namespace pluq
