// SPDX-License-Identifier: Apache-2.0
// The KV cache as checkpoints describe it: finds the scale tensors under every name that tools have
// given them, and reads the scheme from a quantization config. Shared by the formats. Names as in
// the weight-name mapper of vllm-project/vllm and the exporters of compressed-tensors, AutoFP8 and
// ModelOpt.
#pragma once

#include <string>
#include <vector>

#include "pluq/plugin.hpp"

namespace pluq {
namespace kv {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  // What a quantization config says of the KV cache.
  struct Scheme {
    bool given = false;  // it says something
    uint32_t dtype_id = PLUQ_DTYPE_F8_E4M3;  // of what is stored
    bool dynamic = false;                    // scales are made as tokens are stored
    std::string refusal;  // what it says is not built
  };

  // The object form: {num_bits, type, symmetric, strategy, dynamic}.
  inline Scheme read_args(const Json& j) {
    Scheme s;
    s.given = true;
    const int64_t bits = j.get("num_bits").int_or(8);
    const std::string type = j.get("type").string_or("float");
    if (type != "float" && type != "int") {
      throw invalid("'" + j.get("type").path() + "' is '" + type + "', expected float or int");
    }
    s.dtype_id = type == "int" ? PLUQ_DTYPE_I8 : PLUQ_DTYPE_F8_E4M3;
    const Json dynamic = j.get("dynamic");
    s.dynamic = dynamic.is_string() || dynamic.bool_or(false);
    const std::string strategy = j.get("strategy").string_or("tensor");
    if (bits != 8) {
      s.refusal = "a KV cache of " + std::to_string(bits) + "-bit " + type + ", 8 bits are built";
    } else if (!j.get("symmetric").bool_or(true)) {
      s.refusal = "an asymmetric KV cache, symmetric is built";
    } else if (!s.dynamic && strategy != "tensor" && strategy != "attn_head") {
      s.refusal = "KV scales of strategy '" + strategy + "', tensor and attn_head are built";
    }
    return s;
  }

  // `kv_cache_scheme` as an object (compressed-tensors, ModelOpt) or a word (AutoFP8), and
  // ModelOpt's `kv_cache_quant_algo`.
  inline Scheme read_scheme(const Json& root) {
    Scheme s;
    const Json scheme = root.get("kv_cache_scheme");
    if (scheme.is_object() && scheme.size() > 0) return read_args(scheme);
    const Json algo = root.get("kv_cache_quant_algo");
    if (!scheme.is_null() && !scheme.is_object()) {
      const std::string word = scheme.as_string();
      if (word != "static" && word != "dynamic") {
        throw invalid("'" + scheme.path() + "' is '" + word +
                      "', expected static, dynamic or an object");
      }
      s.given = true;
      s.dynamic = word == "dynamic";
    } else if (!algo.is_null()) {
      const std::string word = algo.as_string();
      s.given = word != "none" && word != "NONE" && word != "None";
      if (word == "INT8") s.dtype_id = PLUQ_DTYPE_I8;
      if (s.given && word != "FP8" && word != "INT8") {
        s.refusal = "a KV cache of '" + word + "', FP8 and INT8 are built";
      }
    }
    return s;
  }

  // The first of these names that is there; the NULL at their end when none is.
  inline const char* const* find_name(const Tensors& tensors, const char* const* names) {
    while (*names != nullptr && !tensors.has(*names)) ++names;
    return names;
  }

  // The scale tensors below one attention block. One tensor for both is named twice.
  inline void find_scales(const Tensors& tensors, KvAnswer* out) {
    static const char* const k[] = {
        "k_scale",          "attn.k_scale",  "k_proj.k_scale", "k_proj.output_scale",
        "qkv_proj.k_scale", "k_cache.scale", nullptr};
    static const char* const v[] = {
        "v_scale",          "attn.v_scale",  "v_proj.v_scale", "v_proj.output_scale",
        "qkv_proj.v_scale", "v_cache.scale", nullptr};
    static const char* const both[] = {"kv_scale", "attn.kv_scale", "qkv_proj.kv_scale", nullptr};
    if (const char* const* found = find_name(tensors, k)) {
      if (*found != nullptr) out->k_scale = *found;
    }
    if (const char* const* found = find_name(tensors, v)) {
      if (*found != nullptr) out->v_scale = *found;
    }
    if (out->k_scale.empty() && out->v_scale.empty()) {
      if (const char* const* found = find_name(tensors, both)) {
        if (*found != nullptr) out->k_scale = out->v_scale = *found;
      }
    }
  }

  // Tensors of the scheme that change nothing here: queries and probabilities are not rounded, and
  // the zero point of a symmetric scheme is 0. Returns what is wrong, or nothing.
  inline std::string find_unneeded(const Tensors& tensors, KvAnswer* out) {
    static const char* const names[] = {
        "q_scale",          "attn.q_scale",      "q_proj.q_scale",         "q.scale",
        "qkv_proj.q_scale", "prob_output_scale", "attn.prob_output_scale", "q_zero_point",
        "prob_zero_point",  "attn.q_zero_point"};
    static const char* const zeros[] = {"k_zero_point",
                                        "v_zero_point",
                                        "attn.k_zero_point",
                                        "attn.v_zero_point",
                                        "k_proj.k_zero_point",
                                        "v_proj.v_zero_point",
                                        "k_proj.output_zero_point",
                                        "v_proj.output_zero_point"};
    for (const char* name : names) {
      if (tensors.has(name)) out->unneeded.emplace_back(name);
    }
    for (const char* name : zeros) {
      const Tensor* t = tensors.find(name);
      if (t == nullptr) continue;
      for (uint64_t i = 0; t->data() != nullptr && i < t->bytes(); ++i) {
        // A float's negative zero is one too.
        if ((t->data()[i] & (i + 1 == t->bytes() ? 0x7f : 0xff)) != 0) {
          return std::string("'") + name + "' is not 0, a symmetric KV cache is built";
        }
      }
      out->unneeded.emplace_back(name);
    }
    return {};
  }

  // The whole answer of a config. Scales without a scheme are there for whoever chooses the type.
  inline KvAnswer answer(const Scheme& scheme, const KvRequest& request) {
    KvAnswer out;
    if (!scheme.refusal.empty()) {
      out.verdict = PLUQ_VERDICT_UNSUPPORTED;
      out.reason = "the checkpoint asks for " + scheme.refusal;
      return out;
    }
    if (!scheme.dynamic) find_scales(request.tensors, &out);
    if (!scheme.given && out.k_scale.empty() && out.v_scale.empty()) return out;
    out.verdict = PLUQ_VERDICT_USE;
    out.dtype_id = scheme.dtype_id;
    out.in_force = scheme.given;
    out.dynamic = scheme.dynamic;
    if (std::string wrong = find_unneeded(request.tensors, &out); !wrong.empty()) {
      out.verdict = PLUQ_VERDICT_UNSUPPORTED;
      out.reason = std::move(wrong);
    }
    return out;
  }

}  // namespace )
}  // namespace kv
}  // namespace pluq
