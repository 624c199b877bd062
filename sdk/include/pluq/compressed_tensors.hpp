// SPDX-License-Identifier: Apache-2.0
// Reads the quantization config of compressed-tensors checkpoints: which scheme a layer has. Shared
// by the formats that serve parts of such checkpoints. Keys as in
// compressed_tensors/quantization/{quant_config,quant_scheme,quant_args}.py of
// vllm-project/compressed-tensors.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "pluq/kv_scales.hpp"
#include "pluq/plugin.hpp"

namespace pluq {
namespace ct {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  enum class Strategy { kTensor, kChannel, kGroup, kBlock, kToken, kTensorGroup, kOther };

  struct QuantArgs {
    int64_t bits = 8;
    bool is_float = false;
    bool symmetric = true;
    Strategy strategy = Strategy::kTensor;
    std::string strategy_text = "tensor";
    int64_t group_size = -1;
    int64_t block_rows = 0, block_cols = 0;
    bool dynamic = false;
    std::string actorder;  // "", "group", "weight"
  };

  struct Scheme {
    std::string group;   // its name in config_groups
    std::string format;  // of the group, else of the whole config
    std::vector<std::string> targets;
    bool has_weights = false, has_inputs = false, has_outputs = false;
    QuantArgs weights, inputs;
  };

  inline bool is_compressed_tensors(const std::string& quant_method) {
    return quant_method == "compressed-tensors" || quant_method == "compressed_tensors";
  }

  inline QuantArgs read_args(const Json& j) {
    QuantArgs a;
    a.bits = j.get("num_bits").int_or(8);
    const std::string type = j.get("type").string_or("int");
    if (type != "int" && type != "float")
      throw invalid("'" + j.get("type").path() + "' is '" + type + "', expected int or float");
    a.is_float = type == "float";
    a.symmetric = j.get("symmetric").bool_or(true);
    const Json group = j.get("group_size");
    a.group_size = group.int_or(-1);
    const Json strategy = j.get("strategy");
    a.strategy_text = !strategy.is_null() ? strategy.as_string()
                      : group.is_null()   ? "tensor"
                      : a.group_size > 0  ? "group"
                                          : "channel";
    static const struct {
      const char* name;
      Strategy value;
    } names[] = {{"tensor", Strategy::kTensor}, {"channel", Strategy::kChannel},
                 {"group", Strategy::kGroup},   {"block", Strategy::kBlock},
                 {"token", Strategy::kToken},   {"tensor_group", Strategy::kTensorGroup}};
    a.strategy = Strategy::kOther;
    for (const auto& n : names) {
      if (a.strategy_text == n.name) a.strategy = n.value;
    }
    if (a.strategy == Strategy::kGroup && a.group_size < 0) a.strategy = Strategy::kChannel;
    const Json block = j.get("block_structure");
    if (block.is_array() && block.size() == 2) {
      a.block_rows = block.at(0).as_int();
      a.block_cols = block.at(1).as_int();
    } else if (block.is_string()) {  // the older spelling "128x128"
      const std::string text = block.as_string();
      const size_t x = text.find('x');
      if (x == std::string::npos ||
          std::sscanf(text.c_str(), "%ldx%ld", &a.block_rows, &a.block_cols) != 2) {
        throw invalid("'" + block.path() + "' is '" + text + "', expected rows x columns");
      }
    }
    const Json dynamic = j.get("dynamic");
    a.dynamic =
        dynamic.is_string() ? true : dynamic.bool_or(false);  // "local" is dynamic per group
    const Json order = j.get("actorder");
    if (order.is_bool()) {
      a.actorder = order.as_bool() ? "group" : "";
    } else {
      a.actorder = order.string_or("");
      if (a.actorder == "dynamic") a.actorder = "group";
      if (a.actorder == "static") a.actorder = "weight";
    }
    return a;
  }

  // A group may be a list of targets whose name says the scheme. False: no such preset is built.
  inline bool preset(std::string name, Scheme * s) {
    for (char& c : name) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    const auto args = [](int64_t bits, bool is_float, bool symmetric, Strategy strategy,
                         const char* text, int64_t group, bool dynamic) {
      QuantArgs a;
      a.bits = bits;
      a.is_float = is_float;
      a.symmetric = symmetric;
      a.strategy = strategy;
      a.strategy_text = text;
      a.group_size = group;
      a.dynamic = dynamic;
      return a;
    };
    const QuantArgs channel8 = args(8, false, true, Strategy::kChannel, "channel", -1, false);
    const QuantArgs token8 = args(8, false, true, Strategy::kToken, "token", -1, true);
    s->has_weights = s->has_inputs = true;
    if (name == "W8A8" || name == "INT8") {
      s->weights = channel8;
      s->inputs = token8;
    } else if (name == "W4A8") {
      s->weights = args(4, false, true, Strategy::kGroup, "group", 128, false);
      s->inputs = token8;
    } else if (name == "W4A16" || name == "W4A16_ASYM") {
      s->weights = args(4, false, name == "W4A16", Strategy::kGroup, "group", 128, false);
      s->has_inputs = false;
    } else if (name == "W8A16") {
      s->weights = channel8;
      s->has_inputs = false;
    } else if (name == "FP8") {
      s->weights = args(8, true, true, Strategy::kTensor, "tensor", -1, false);
      s->inputs = s->weights;
    } else if (name == "FP8_DYNAMIC") {
      s->weights = args(8, true, true, Strategy::kChannel, "channel", -1, false);
      s->inputs = args(8, true, true, Strategy::kToken, "token", -1, true);
    } else if (name == "FP8_BLOCK") {
      s->weights = args(8, true, true, Strategy::kBlock, "block", -1, false);
      s->weights.block_rows = s->weights.block_cols = 128;
      s->inputs = args(8, true, true, Strategy::kGroup, "group", 128, true);
    } else {
      return false;
    }
    return true;
  }

  class Config {
   public:
    explicit Config(const Json& root) {
      const std::string format = root.get("format").string_or("dense");
      ignore_ = root.get("ignore").strings();
      read_refusals(root);
      const Json groups = root.get("config_groups");
      if (groups.is_null()) return;
      if (!groups.is_object()) throw invalid("'" + groups.path() + "' is not an object");
      for (size_t i = 0; i < groups.size(); ++i) {
        const Json g(groups.at(i).node(), groups.path() + "." + std::string(groups.key_at(i)));
        Scheme s;
        s.group = groups.key_at(i);
        if (g.is_array()) {
          if (!preset(s.group, &s))
            throw unsupported("'" + g.path() +
                              "' is a list of targets for a preset that is not built");
          s.format = format;
          s.targets = g.strings();
          schemes_.push_back(std::move(s));
          continue;
        }
        if (!g.is_object())
          throw invalid("'" + g.path() + "' is neither a scheme nor a list of targets");
        s.format = g.get("format").string_or(format);
        s.targets = g.get("targets").strings();
        if (const Json w = g.get("weights"); !w.is_null()) {
          s.has_weights = true;
          s.weights = read_args(w);
        }
        if (const Json x = g.get("input_activations"); !x.is_null()) {
          s.has_inputs = true;
          s.inputs = read_args(x);
        }
        s.has_outputs = !g.get("output_activations").is_null();
        schemes_.push_back(std::move(s));
      }
    }

    // Why a layer of this scheme cannot be served by anyone yet, or empty.
    std::string refusal(const Scheme& s) const {
      if (!refusal_.empty()) return refusal_;
      if (s.has_outputs)
        return "group '" + s.group + "' quantizes output_activations, which is not built";
      if (s.format == "marlin-24" || s.format.rfind("sparse", 0) == 0)
        return "format '" + s.format + "' (2:4 sparsity) is not built";
      return {};
    }

    // The scheme of a layer: exact name first, then `re:` patterns, then the class; among equals
    // the first group. NULL: no group targets it, or it is ignored (*ignored tells).
    const Scheme* find(const LayerDesc& layer, bool* ignored) const {
      *ignored = false;
      // As for targets, a class may be named.
      for (const std::string& pattern : ignore_) {
        if (matches(pattern, layer.name) || pattern == layer.module_class) {
          *ignored = true;
          return nullptr;
        }
      }
      for (int kind = 0; kind < 3; ++kind) {
        for (const Scheme& s : schemes_) {
          for (const std::string& target : s.targets) {
            const bool regex = target.rfind("re:", 0) == 0;
            const bool hit = kind == 0   ? !regex && target == layer.name
                             : kind == 1 ? regex && matches(target, layer.name)
                                         : target == layer.module_class;
            if (hit) return &s;
          }
        }
      }
      return nullptr;
    }
    const std::vector<Scheme>& schemes() const { return schemes_; }

   private:
    static bool matches(const std::string& pattern, const std::string& name) {
      return pattern.rfind("re:", 0) == 0 ? match(PLUQ_MATCH_PREFIX_REGEX, pattern.substr(3), name)
                                          : pattern == name;
    }
    // Parts of the configuration that change what a layer computes.
    void read_refusals(const Json& root) {
      const Json transforms = root.get("transform_config");
      const Json groups = transforms.get("config_groups");
      if (groups.size() > 0)
        refusal_ =
            "'" + transforms.path() + "' asks for transforms of activations, which are not built";
      const Json sparsity = root.get("sparsity_config").get("format");
      if (sparsity.is_string() && sparsity.as_string() != "dense") {
        refusal_ = "'" + sparsity.path() + "' is '" + sparsity.as_string() +
                   "'; sparse weights are not built";
      }
    }

    std::vector<std::string> ignore_;
    std::vector<Scheme> schemes_;
    std::string refusal_;
  };

  // What the configs of all formats that serve compressed-tensors have in common: the groups, and
  // the same answer about the KV cache.
  class GroupsConfig : public QuantizationConfig {
   public:
    explicit GroupsConfig(const Json& root) : config_(root), kv_(kv::read_scheme(root)) {}
    KvAnswer kv_cache(const KvRequest& request) override { return kv::answer(kv_, request); }

   protected:
    Config config_;
    kv::Scheme kv_;
  };

  // The scheme of a layer whose tensors are quantized: the tensors are the truth, so a layer on the
  // ignore list is served all the same when only one scheme can be meant. NULL: none.
  inline const Scheme* scheme_for_tensors(const Config& config, const LayerDesc& layer) {
    bool ignored = false;
    const Scheme* scheme = config.find(layer, &ignored);
    if (scheme == nullptr && ignored && config.schemes().size() == 1) scheme = &config.schemes()[0];
    return scheme != nullptr && scheme->has_weights ? scheme : nullptr;
  }

}  // namespace )
}  // namespace ct
}  // namespace pluq
