// SPDX-License-Identifier: Apache-2.0
#include "model/plan.h"

#include <fmt/format.h>

#include <utility>

namespace pluq {
namespace {

class Planner {
 public:
  Planner(const ModelConfig& config, const Checkpoint& checkpoint)
      : c_(config), checkpoint_(checkpoint) {
    // Exporters of multimodal models put the decoder below another name.
    for (const char* prefix : {"model.", "language_model.model.", "model.language_model."}) {
      if (checkpoint.with_prefix(std::string(prefix) + "embed_tokens.").empty()) continue;
      root_ = prefix;
      break;
    }
  }

  ModelPlan run() const {
    ModelPlan plan;
    plan.embedding.name = root_ + "embed_tokens";
    plan.embedding.kind = "embedding";
    plan.embedding.module_class = "Embedding";
    plan.embedding.in_features = c_.hidden_size;
    plan.embedding.out_features = c_.vocab_size;
    for (int64_t i = 0; i < c_.num_hidden_layers; ++i) plan.layers.push_back(layer(i));
    plan.final_norm = {root_ + "norm.weight", c_.hidden_size};
    plan.head = linear(head_name(), c_.hidden_size, c_.vocab_size, false);
    plan.head.kind = "lm_head";
    // Tied embeddings serve as the head, also when a copy was saved under its own name.
    if (c_.tie_word_embeddings) {
      plan.head.alias = std::exchange(plan.head.name, plan.embedding.name);
      plan.head.has_bias = false;
    }
    return plan;
  }

 private:
  bool has(const std::string& layer) const { return !checkpoint_.with_prefix(layer + ".").empty(); }

  std::string head_name() const {
    return has("language_model.lm_head") ? "language_model.lm_head" : "lm_head";
  }

  // Some exporters write a bias the config does not name; the file is the truth.
  LayerRequest linear(std::string name, int64_t in, int64_t out, bool bias) const {
    LayerRequest r;
    r.has_bias = bias || checkpoint_.find(name + ".bias") != nullptr;
    r.name = std::move(name);
    r.in_features = in;
    r.out_features = out;
    return r;
  }

  MlpPlan mlp(const std::string& prefix, const char* gate, const char* up, const char* down,
              int64_t width) const {
    MlpPlan m;
    const std::string fused = prefix + ".gate_up_proj";
    if (!has(prefix + "." + gate) && has(fused)) {
      m.gate = linear(fused, c_.hidden_size, 2 * width, c_.mlp_bias);
      m.gate.output_parts = {width, width};
    } else {
      m.gate = linear(prefix + "." + gate, c_.hidden_size, width, c_.mlp_bias);
      m.up = linear(prefix + "." + up, c_.hidden_size, width, c_.mlp_bias);
    }
    m.down = linear(prefix + "." + down, width, c_.hidden_size, c_.mlp_bias);
    return m;
  }

  void attention(const std::string& prefix, DecoderLayerPlan* plan) const {
    const int64_t q = c_.num_attention_heads * c_.head_dim,
                  kv = c_.num_key_value_heads * c_.head_dim;
    const std::string fused = prefix + "qkv_proj";
    if (!has(prefix + "q_proj") && has(fused)) {
      plan->q = linear(fused, c_.hidden_size, q + 2 * kv, c_.qkv_bias);
      plan->q.output_parts = {q, kv, kv};
    } else {
      plan->q = linear(prefix + "q_proj", c_.hidden_size, q, c_.qkv_bias);
      plan->k = linear(prefix + "k_proj", c_.hidden_size, kv, c_.qkv_bias);
      plan->v = linear(prefix + "v_proj", c_.hidden_size, kv, c_.qkv_bias);
    }
    plan->o = linear(prefix + "o_proj", q, c_.hidden_size, c_.o_bias);
    if (c_.family->qk_norm == QkNorm::kNone) return;
    const bool whole = c_.family->qk_norm == QkNorm::kWhole;
    plan->q_norm = {prefix + "q_norm.weight", whole ? q : c_.head_dim};
    plan->k_norm = {prefix + "k_norm.weight", whole ? kv : c_.head_dim};
  }

  DecoderLayerPlan layer(int64_t index) const {
    const std::string p = fmt::format("{}layers.{}.", root_, index);
    DecoderLayerPlan plan;
    const auto norm = [&](const char* name) {
      return name == nullptr ? NormPlan{} : NormPlan{p + name + ".weight", c_.hidden_size};
    };
    const NormNames& names = c_.family->norms;
    plan.attention_in = norm(names.attention_in);
    plan.attention_out = norm(names.attention_out);
    plan.mlp_in = norm(names.mlp_in);
    plan.mlp_out = norm(names.mlp_out);
    plan.attention = p + "self_attn";
    attention(plan.attention + ".", &plan);
    if (!c_.layers[static_cast<size_t>(index)].experts) {
      plan.mlp = mlp(p + "mlp", "gate_proj", "up_proj", "down_proj", c_.intermediate_size);
      return plan;
    }
    const ExpertNames& e = c_.family->experts;
    plan.router = linear(p + e.router, c_.hidden_size, c_.num_experts, false);
    plan.router.kind = "router";
    for (int64_t i = 0; i < c_.num_experts; ++i) {
      plan.experts.push_back(mlp(fmt::format("{}{}.{}", p, e.experts, i), e.gate, e.up, e.down,
                                 c_.moe_intermediate_size));
      for (LayerRequest* r :
           {&plan.experts.back().gate, &plan.experts.back().up, &plan.experts.back().down})
        r->kind = "expert";
    }
    return plan;
  }

  const ModelConfig& c_;
  const Checkpoint& checkpoint_;
  std::string root_ = "model.";
};

void add(const MlpPlan& mlp, std::vector<std::vector<LayerRequest>>* out) {
  out->push_back({mlp.gate});
  if (!mlp.fused()) out->back().push_back(mlp.up);
  out->push_back({mlp.down});
}

}  // namespace

std::vector<std::vector<LayerRequest>> ModelPlan::groups() const {
  std::vector<std::vector<LayerRequest>> out{{embedding}};
  for (const DecoderLayerPlan& l : layers) {
    out.push_back({l.q});
    if (!l.fused_qkv()) {
      out.back().push_back(l.k);
      out.back().push_back(l.v);
    }
    out.push_back({l.o});
    if (l.experts.empty()) {
      add(l.mlp, &out);
      continue;
    }
    out.push_back({l.router});
    for (const MlpPlan& expert : l.experts) add(expert, &out);
  }
  out.push_back({head});
  return out;
}

std::vector<LayerRequest> ModelPlan::linears() const {
  std::vector<LayerRequest> out;
  for (const std::vector<LayerRequest>& group : groups())
    out.insert(out.end(), group.begin(), group.end());
  return out;
}

std::vector<NormPlan> ModelPlan::norms() const {
  std::vector<NormPlan> out;
  for (const DecoderLayerPlan& l : layers) {
    for (const NormPlan* n :
         {&l.attention_in, &l.q_norm, &l.k_norm, &l.attention_out, &l.mlp_in, &l.mlp_out}) {
      if (n->size > 0) out.push_back(*n);
    }
  }
  out.push_back(final_norm);
  return out;
}

ModelPlan make_plan(const ModelConfig& config, const Checkpoint& checkpoint) {
  return Planner(config, checkpoint).run();
}

bool is_ignored(const ModelConfig& config, const std::string& tensor) {
  if (tensor.ends_with("rotary_emb.inv_freq")) return true;
  if (config.tie_word_embeddings && tensor.ends_with("lm_head.weight")) return true;
  if (!config.family->text_config) return false;
  for (const char* tower : {"vision_tower.", "multi_modal_projector.", "model.vision_tower.",
                            "model.multi_modal_projector."}) {
    if (tensor.starts_with(tower)) return true;
  }
  return false;
}

}  // namespace pluq
