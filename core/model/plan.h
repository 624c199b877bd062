// SPDX-License-Identifier: Apache-2.0
// Which tensors a model of some configuration is made of: every linear layer, embedding and norm by
// its checkpoint name. Loading, inspecting and quantizing all follow this one description.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "config/model_config.h"
#include "plugin/layer_resolver.h"

namespace pluq {

// A norm weight; size 0: the model has no such norm.
struct NormPlan {
  std::string name;
  int64_t size = 0;
};

// gate and up are one tensor when the file has them fused; then `up` has no name.
struct MlpPlan {
  LayerRequest gate, up, down;
  bool fused() const { return up.name.empty(); }
};

struct DecoderLayerPlan {
  std::string attention;  // the block's checkpoint name, the prefix of q, k, v and of KV scales
  NormPlan attention_in, attention_out, mlp_in, mlp_out, q_norm, k_norm;
  LayerRequest q, k, v,
      o;                // q is q, k and v when the file has them fused; then k and v have no name
  MlpPlan mlp;          // without experts
  LayerRequest router;  // with experts
  std::vector<MlpPlan> experts;
  bool fused_qkv() const { return k.name.empty(); }
};

struct ModelPlan {
  LayerRequest embedding,
      head;  // of tied embeddings the head has the embedding's name and its own as alias
  NormPlan final_norm;
  std::vector<DecoderLayerPlan> layers;

  // Every linear layer and embedding, in the order of the forward pass.
  std::vector<LayerRequest> linears() const;
  // The same, those together that read one input and are fused by engines: q, k and v, gate and up.
  std::vector<std::vector<LayerRequest>> groups() const;
  std::vector<NormPlan> norms() const;
};

ModelPlan make_plan(const ModelConfig& config, const Checkpoint& checkpoint);

// Whether a tensor no layer asks for is known to be of no use: rotary tables that old exporters
// saved, a copy of tied embeddings, towers of a multimodal checkpoint.
bool is_ignored(const ModelConfig& config, const std::string& tensor);

}  // namespace pluq
