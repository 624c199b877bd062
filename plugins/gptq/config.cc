// SPDX-License-Identifier: Apache-2.0
// Keys of GPTQ's config as AutoGPTQ, GPTQModel and auto-round write them (formats: bits,
// group_size, sym, desc_act, checkpoint_format/format, dynamic); unknown keys are ignored, as all
// readers do.
#include "gptq/config.h"

#include <vector>

#include "gptq/method.h"
#include "pluq/cpu/int_inputs.hpp"

namespace gptq {
namespace {

using namespace pluq;

// One entry of `dynamic`: "+:regex" or "regex" changes settings, "-:regex" leaves a module plain.
struct Rule {
  std::string pattern;
  bool skip = false;
  int64_t bits = 0, group_size = 0;
  int sym = -1, desc_act = -1;  // -1: as the base says
};

// One entry of auto-round's `extra_config`: a layer's full name (newer versions: a pattern of it),
// and what differs. 16 bits and more mean that the layer is plain.
struct Exception {
  std::string name;
  int64_t bits = 0, group_size = 0;
  int sym = -1;
};

class GptqConfig final : public QuantizationConfig {
 public:
  // from_options: the settings of a YAML file, where the schema's defaults hold.
  GptqConfig(const Json& q, bool from_options) {
    const Json bits = q.any_of({"bits", "w_bit", "wbits"});
    if (bits.is_null() && !from_options) throw invalid("'bits' is missing");
    base_.bits = check_bits(bits.int_or(4));
    base_.group_size =
        check_group(q.any_of({"group_size", "q_group_size"}).int_or(from_options ? 128 : -1));
    base_.sym = q.get("sym").bool_or(true);
    base_.desc_act = q.get("desc_act").bool_or(false);
    read_format(q);
    const std::string pack = q.get("pack_dtype").string_or("int32");
    if (pack != "int32") throw unsupported("'pack_dtype' is '" + pack + "'; only int32 is built");
    const Json dynamic = q.get("dynamic");
    for (size_t i = 0; dynamic.is_object() && i < dynamic.size(); ++i) {
      read_rule(std::string(dynamic.key_at(i)), dynamic.at(i));
    }
    const Json extra = q.get("extra_config");
    for (size_t i = 0; extra.is_object() && i < extra.size(); ++i) {
      const Json body(extra.at(i).node(), "extra_config." + std::string(extra.key_at(i)));
      read_exception(std::string(extra.key_at(i)), body);
    }
    if (!from_options && q.get("sym").is_null()) {
      log(PLUQ_LOG_WARNING,
          "the quantization config does not say 'sym'; true is assumed, as other readers do");
    }
  }

  Choice get_quant_method(const LayerDesc& layer, const Device& device) override {
    if (layer.kind == "embedding") return Choice::not_mine("gptq does not quantize embeddings");
    if (layer.tensors.has("qweight") && !layer.tensors.has("scales")) {
      return Choice::unsupported("tensor 'scales' is missing beside 'qweight'; the layer holds " +
                                 layer.tensors_text());
    }
    if (!has_gptq_tensors(layer)) {
      return Choice::not_mine(
          "there are no GPTQ tensors (qweight packed along K, scales); the layer holds " +
          layer.tensors_text());
    }
    Settings s = base_;
    for (const Rule& rule : rules_) {
      if (!match(PLUQ_MATCH_PREFIX_REGEX, rule.pattern, layer.name)) continue;
      if (rule.skip) continue;  // the tensors are there all the same: the file is the truth
      if (rule.bits > 0) s.bits = static_cast<int>(rule.bits);
      if (rule.group_size != 0) s.group_size = rule.group_size;
      if (rule.sym >= 0) s.sym = rule.sym != 0;
      if (rule.desc_act >= 0) s.desc_act = rule.desc_act != 0;
      break;
    }
    for (const Exception& e : exceptions_) {
      if (e.name != layer.name &&
          !match(PLUQ_MATCH_PREFIX_REGEX, "(?:" + e.name + ")$", layer.name))
        continue;
      if (e.bits > 0 && e.bits <= 8) s.bits = static_cast<int>(e.bits);
      if (e.group_size != 0) s.group_size = e.group_size;
      if (e.sym >= 0) s.sym = e.sym != 0;
      break;
    }
    return Choice::use(make_gptq(layer, device, s), 500);
  }

 private:
  static int check_bits(int64_t bits) {
    if (bits < 2 || bits > 8)
      throw invalid(format("'bits' is %lld; accepted are 2 to 8", static_cast<long long>(bits)));
    return static_cast<int>(bits);
  }
  static int64_t check_group(int64_t size) {
    if (size != -1 && (size < 1 || size > (1 << 30))) {
      throw invalid(format("'group_size' is %lld; accepted are -1 and whole numbers from 1",
                           static_cast<long long>(size)));
    }
    return size;
  }

  void read_format(const Json& q) {
    if (q.get("is_marlin_format").bool_or(false) || q.get("quant_method").string_or("") == "marlin")
      throw unsupported("checkpoint_format 'marlin' is not built");
    std::string name = q.any_of({"checkpoint_format", "format"}).string_or("gptq");
    const std::string packing = q.get("packing_format").string_or("");
    if (packing.find("awq") != std::string::npos)
      throw unsupported("packing_format '" + packing + "' is not GPTQ's");
    // auto-round names its packings; its own is GPTQ's version 1.
    if (name.rfind("auto_round", 0) == 0 || name.rfind("auto-round", 0) == 0)
      name = packing.find("v2") != std::string::npos ? "gptq_v2" : "gptq";
    if (name == "gptq_v2" || (name == "gptq" && packing.find("gptqv2") != std::string::npos)) {
      base_.v1 = false;
    } else if (name == "gptq_p") {
      base_.v1 = false;
      base_.planar = true;
    } else if (name != "gptq") {
      throw unsupported("checkpoint_format '" + name +
                        "' is not built; gptq, gptq_v2 and gptq_p are");
    }
  }

  void read_rule(const std::string& key, const Json& body) {
    Rule r;
    r.pattern = key;
    if (key.rfind("+:", 0) == 0) r.pattern = key.substr(2);
    if (key.rfind("-:", 0) == 0) {
      r.pattern = key.substr(2);
      r.skip = true;
    }
    r.bits = body.get("bits").int_or(0);
    if (r.bits != 0) check_bits(r.bits);
    r.group_size = body.get("group_size").int_or(0);
    if (r.group_size != 0) check_group(r.group_size);
    if (const Json sym = body.get("sym"); !sym.is_null()) r.sym = sym.as_bool();
    if (const Json act = body.get("desc_act"); !act.is_null()) r.desc_act = act.as_bool();
    rules_.push_back(r);
  }

  void read_exception(const std::string& name, const Json& body) {
    Exception e;
    e.name = name;
    e.bits = body.get("bits").int_or(0);
    if (e.bits != 0 && e.bits < 16) check_bits(e.bits);
    e.group_size = body.get("group_size").int_or(0);
    if (e.group_size != 0) check_group(e.group_size);
    if (const Json sym = body.get("sym"); !sym.is_null()) e.sym = sym.as_bool();
    exceptions_.push_back(e);
  }

  Settings base_;
  std::vector<Rule> rules_;
  std::vector<Exception> exceptions_;
};

class PackedConfig final : public ct::GroupsConfig {
 public:
  using ct::GroupsConfig::GroupsConfig;

  Choice get_quant_method(const LayerDesc& layer, const Device& device) override {
    if (layer.kind == "embedding") return Choice::not_mine("gptq does not quantize embeddings");
    if (!has_packed_tensors(layer)) {
      return Choice::not_mine(
          "there are no pack-quantized tensors (weight_packed, weight_scale); the layer holds " +
          layer.tensors_text());
    }
    const ct::Scheme* scheme = ct::scheme_for_tensors(config_, layer);
    if (scheme == nullptr)
      return Choice::unsupported(
          "weight_packed is there, but no group of config_groups targets the layer");
    if (const std::string why = config_.refusal(*scheme); !why.empty())
      return Choice::unsupported(why);
    const ct::QuantArgs& w = scheme->weights;
    if (w.is_float) return Choice::not_mine("group '" + scheme->group + "' has float weights");
    if (w.bits < 2 || w.bits > 8)
      return Choice::unsupported("num_bits is " + std::to_string(w.bits) + "; 2 to 8 are built");
    Settings s;
    s.bits = static_cast<int>(w.bits);
    s.sym = w.symmetric;
    s.desc_act = w.actorder == "group";
    switch (w.strategy) {
      case ct::Strategy::kGroup:
        s.group_size = w.group_size;
        break;
      case ct::Strategy::kChannel:
      case ct::Strategy::kTensor:
        s.group_size = -1;
        break;
      default:
        return Choice::unsupported(
            "strategy '" + w.strategy_text +
            "' of packed weights is not built; group, channel and tensor are");
    }
    if (s.group_size != -1 && s.group_size < 1)
      return Choice::unsupported("group_size is " + std::to_string(s.group_size) +
                                 "; accepted are -1 and whole numbers from 1");
    if (scheme->has_inputs) {
      std::string why;
      s.inputs = cpu::int8_inputs(scheme->inputs, &why);
      if (!why.empty())
        return Choice::unsupported("packed weights with quantized activations: " + why);
    }
    return Choice::use(make_packed(layer, device, s), 500);
  }
};

}  // namespace

bool claims_method(const std::string& m) {
  return m == "gptq" || m == "auto-round" || m == "auto_round" || m == "autoround" || m == "marlin";
}

std::unique_ptr<QuantizationConfig> make_config_from_options(const Json& options) {
  return std::make_unique<GptqConfig>(options, true);
}

std::unique_ptr<QuantizationConfig> make_config(const Json& q) {
  const std::string method = q.any_of({"quant_method", "method"}).string_or("gptq");
  if (ct::is_compressed_tensors(method)) return std::make_unique<PackedConfig>(q);
  return std::make_unique<GptqConfig>(q, false);
}

}  // namespace gptq
