// SPDX-License-Identifier: Apache-2.0
// What a checkpoint says of its KV cache: the element type and the scales of each attention block,
// by the answers of its formats.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/model_config.h"
#include "model/plan.h"
#include "plugin/layer_resolver.h"

namespace pluq {

struct KvScheme {
  std::string format;       // id of the format that said it; empty: nothing is said
  std::string unsupported;  // what is said is not built
  uint32_t dtype = 0;       // PLUQ_DTYPE_F8_E4M3, F8_E5M2 or I8
  bool in_force = false;    // the checkpoint asks for it, else the scales are an offer
  bool dynamic = false;     // scales are computed as tokens are stored

  // [layers, kv_heads] each, when every block has its scales; else empty.
  std::vector<float> k_scale, v_scale;
  bool per_head = false;             // some block has a scale per head
  std::vector<std::string> missing;  // blocks without any, when the scales are not computed
  std::vector<std::string> single;   // blocks that have K's or V's alone, which then serves both

  bool has_scales() const { return !k_scale.empty(); }
};

// Asks the formats for every block and reads the scales; their tensors count as used. Throws
// Error(kInput) naming formats that differ, or the tensor and value that is wrong.
KvScheme read_kv_scheme(LayerResolver& resolver, const Checkpoint& checkpoint,
                        const ModelPlan& plan, const ModelConfig& config);

// Bytes of one token over all layers: K and V of `element_bytes` each, and where every token has
// its own scales, an f32 for each head of both.
int64_t kv_token_bytes(const ModelConfig& config, int64_t element_bytes, bool token_scales);

}  // namespace pluq
