// SPDX-License-Identifier: Apache-2.0
#include "model/kv_scheme.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"

namespace pluq {
namespace {

// One scale per head, from a tensor of one element or kv_heads.
std::vector<float> read_scales(const Checkpoint& checkpoint, const std::string& name,
                               int64_t kv_heads, bool* per_head) {
  const TensorView& t = checkpoint.at(name);
  const int64_t count = t.elements();
  if (!is_plain_float(t.dtype.id) || (count != 1 && count != kv_heads)) {
    fail_input(
        "{}: KV scale '{}' is {} {}, expected F32, F16 or BF16 with 1 element or {} (one for each "
        "head)",
        checkpoint.path(), name, dtype_name(t.dtype.id), shape_text(t.shape), kv_heads);
  }
  std::vector<float> out = to_f32(t.dtype.id, t.data);
  for (const float value : out) {
    if (!(value > 0) || !std::isfinite(value)) {
      fail_input("{}: KV scale '{}' holds {}, expected a number above 0", checkpoint.path(), name,
                 value);
    }
  }
  *per_head = *per_head || count > 1;
  out.resize(static_cast<size_t>(kv_heads), out[0]);
  return out;
}

// Of the whole checkpoint; the blocks must agree in all but names.
void add(const KvDescription& said, const std::string& format, const std::string& attention,
         const std::string& first, const Checkpoint& checkpoint, KvScheme* out) {
  if (said.verdict == PLUQ_VERDICT_UNSUPPORTED) {
    if (out->unsupported.empty()) {
      out->unsupported = fmt::format("{} (format '{}')", said.reason, format);
    }
  } else if (out->format.empty()) {
    out->dtype = said.dtype;
    out->in_force = said.in_force;
    out->dynamic = said.dynamic;
  } else if (out->dtype != said.dtype || out->in_force != said.in_force ||
             out->dynamic != said.dynamic) {
    fail_input(
        "{}: the KV caches of {} ({}, scales {}) and {} ({}, scales {}) differ in kind, "
        "which is not built",
        checkpoint.path(), first, dtype_name(out->dtype), out->dynamic ? "computed" : "given",
        attention, dtype_name(said.dtype), said.dynamic ? "computed" : "given");
  }
  out->format = format;
}

}  // namespace

KvScheme read_kv_scheme(LayerResolver& resolver, const Checkpoint& checkpoint,
                        const ModelPlan& plan, const ModelConfig& config) {
  KvScheme out;
  std::string first;
  for (const DecoderLayerPlan& layer : plan.layers) {
    std::string format;
    const KvDescription said =
        resolver.kv_cache(layer.attention, config.num_key_value_heads, config.head_dim, &format);
    if (format.empty()) {
      out.missing.push_back(layer.attention);
      continue;
    }
    add(said, format, layer.attention, first.empty() ? layer.attention : first, checkpoint, &out);
    if (first.empty()) first = layer.attention;
    const std::string prefix = layer.attention + ".";
    for (const std::string& name : said.unneeded) resolver.mark_used(prefix + name);
    if (said.dynamic || said.verdict != PLUQ_VERDICT_USE) continue;
    if (said.k_scale.empty() && said.v_scale.empty()) {
      out.missing.push_back(layer.attention);
      continue;
    }
    const std::string& k = said.k_scale.empty() ? said.v_scale : said.k_scale;
    const std::string& v = said.v_scale.empty() ? said.k_scale : said.v_scale;
    if (said.k_scale.empty() || said.v_scale.empty()) out.single.push_back(prefix + k);
    for (const auto& [name, to] : {std::pair(&k, &out.k_scale), std::pair(&v, &out.v_scale)}) {
      const std::vector<float> scales =
          read_scales(checkpoint, prefix + *name, config.num_key_value_heads, &out.per_head);
      to->insert(to->end(), scales.begin(), scales.end());
      resolver.mark_used(prefix + *name);
    }
  }
  if (out.format.empty() || out.dynamic) out.missing.clear();
  if (!out.missing.empty()) {  // not every block: they are of no use
    out.k_scale.clear();
    out.v_scale.clear();
  }
  return out;
}

int64_t kv_token_bytes(const ModelConfig& config, int64_t element_bytes, bool token_scales) {
  const int64_t row =
      config.head_dim * element_bytes + (token_scales ? static_cast<int64_t>(sizeof(float)) : 0);
  return 2 * config.num_hidden_layers * config.num_key_value_heads * row;
}

}  // namespace pluq
