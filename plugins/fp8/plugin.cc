// SPDX-License-Identifier: Apache-2.0
// Format `fp8`: 8-bit float weights of quant_method fp8 (DeepSeek, Qwen, AutoFP8, GPTQModel),
// fbgemm_fp8 and compressed-tensors float-quantized.
#include <cmath>

#include "fp8/method.h"
#include "fp8/quantizer.h"
#include "pluq/compressed_tensors.hpp"
#include "pluq/modelopt.hpp"

namespace {

using namespace pluq;

// quant_method fp8 and fbgemm_fp8: one scheme for all layers.
class Fp8Config final : public QuantizationConfig {
 public:
  explicit Fp8Config(const Json& q) : kv_(kv::read_scheme(q)) {
    const std::string method = q.any_of({"quant_method", "method"}).string_or("fp8");
    const Json block = q.get("weight_block_size");
    if (!block.is_null()) {
      if (!block.is_array() || block.size() != 2)
        throw invalid("'weight_block_size' is not [rows, columns]");
      settings_.block_n = block.at(0).as_int();
      settings_.block_k = block.at(1).as_int();
      if (settings_.block_n < 1 || settings_.block_k < 1)
        throw invalid("'weight_block_size' has a size below 1");
    }
    const std::string semantics = q.get("weight_scale_semantics").string_or("");
    if (semantics == "inverse") {
      // GPTQModel's own: weight-only, scales divide, the granularity is named.
      settings_.inverse = true;
      settings_.rounding = fp8::Rounding::kNone;
      return;
    }
    if (!semantics.empty() && semantics != "multiplier" && semantics != "direct") {
      throw unsupported("'weight_scale_semantics' is '" + semantics +
                        "'; inverse and multiplier are built");
    }
    if (method == "fbgemm_fp8") {
      if (const Json bound = q.get("activation_scale_ub"); !bound.is_null()) {
        settings_.bound = static_cast<float>(bound.as_real());
        if (!(settings_.bound > 0) || !std::isfinite(settings_.bound)) {
          throw invalid(
              format("'activation_scale_ub' is %g, expected a number above 0", bound.as_real()));
        }
      }
      settings_.rounding = fp8::Rounding::kToken;
      return;
    }
    const std::string scheme = q.get("activation_scheme").string_or("dynamic");
    if (scheme == "static") {
      settings_.rounding = fp8::Rounding::kStatic;
    } else if (scheme == "dynamic") {
      settings_.rounding = settings_.block_n > 0 ? fp8::Rounding::kGroup : fp8::Rounding::kToken;
      settings_.group_size = settings_.block_k > 0 ? settings_.block_k : 128;
    } else {
      throw invalid("'activation_scheme' is '" + scheme + "', expected dynamic or static");
    }
  }

  KvAnswer kv_cache(const KvRequest& request) override { return kv::answer(kv_, request); }
  Choice get_quant_method(const LayerDesc& layer, const Device& device) override {
    if (layer.kind == "embedding" || !fp8::has_tensors(layer)) {
      return Choice::not_mine("there is no 8-bit float 'weight'; the layer holds " +
                              layer.tensors_text());
    }
    return Choice::use(fp8::make_method(layer, device, settings_), 500);
  }

 private:
  fp8::Settings settings_;
  kv::Scheme kv_;
};

class Fp8GroupsConfig final : public ct::GroupsConfig {
 public:
  using ct::GroupsConfig::GroupsConfig;

  Choice get_quant_method(const LayerDesc& layer, const Device& device) override {
    if (layer.kind == "embedding" || !fp8::has_tensors(layer)) {
      return Choice::not_mine("there is no 8-bit float 'weight'; the layer holds " +
                              layer.tensors_text());
    }
    const ct::Scheme* scheme = ct::scheme_for_tensors(config_, layer);
    if (scheme == nullptr)
      return Choice::unsupported(
          "the weight is fp8, but no group of config_groups targets the layer");
    if (const std::string why = config_.refusal(*scheme); !why.empty())
      return Choice::unsupported(why);
    const ct::QuantArgs& w = scheme->weights;
    if (!w.is_float || w.bits != 8)
      return Choice::unsupported("group '" + scheme->group +
                                 "' does not say 8-bit float weights, but the tensor is");
    fp8::Settings s;
    if (w.strategy == ct::Strategy::kBlock) {
      s.block_n = w.block_rows > 0 ? w.block_rows : 128;
      s.block_k = w.block_cols > 0 ? w.block_cols : 128;
    } else if (w.strategy == ct::Strategy::kGroup) {
      s.block_n = 1;
      s.block_k = w.group_size;
    } else if (w.strategy != ct::Strategy::kTensor && w.strategy != ct::Strategy::kChannel) {
      return Choice::unsupported(
          "strategy '" + w.strategy_text +
          "' of fp8 weights is not built; tensor, channel, group and block are");
    }
    if (scheme->has_inputs) {
      const ct::QuantArgs& x = scheme->inputs;
      if (!x.is_float || x.bits != 8)
        return Choice::unsupported("fp8 weights with other than fp8 activations are not built");
      if (!x.dynamic) {
        if (x.strategy != ct::Strategy::kTensor)
          return Choice::unsupported("static fp8 activations of strategy '" + x.strategy_text +
                                     "' are not built; tensor is");
        s.rounding = fp8::Rounding::kStatic;
      } else if (x.strategy == ct::Strategy::kToken) {
        s.rounding = fp8::Rounding::kToken;
      } else if (x.strategy == ct::Strategy::kGroup) {
        s.rounding = fp8::Rounding::kGroup;
        s.group_size = x.group_size > 0 ? x.group_size : 128;
      } else {
        return Choice::unsupported("dynamic fp8 activations of strategy '" + x.strategy_text +
                                   "' are not built; token and group are");
      }
    }
    return Choice::use(fp8::make_method(layer, device, s), 500);
  }
};

// ModelOpt: per-tensor weights and static activations, or the other FP8 algorithms it names.
class Fp8ModelOptConfig final : public modelopt::ModelOptConfig {
 public:
  using modelopt::ModelOptConfig::ModelOptConfig;

  Choice get_quant_method(const LayerDesc& layer, const Device& device) override {
    if (layer.kind == "embedding" || !fp8::has_tensors(layer)) {
      return Choice::not_mine("there is no 8-bit float 'weight'; the layer holds " +
                              layer.tensors_text());
    }
    const std::string& algo = algorithm(layer.name);
    fp8::Settings s;
    if (algo == "FP8") {
      s.rounding = fp8::Rounding::kStatic;
    } else if (algo == "FP8_PER_CHANNEL_PER_TOKEN") {
      s.rounding = fp8::Rounding::kToken;
    } else if (algo == "FP8_PB_WO") {
      s.block_n = s.block_k = 128;
    } else {
      return Choice::unsupported(
          "the weight is fp8, but quant_algo is '" + algo +
          "'; FP8, FP8_PER_CHANNEL_PER_TOKEN and FP8_PB_WO are built for such weights");
    }
    return Choice::use(fp8::make_method(layer, device, s), 500);
  }
};

class Fp8Format final : public Format {
 public:
  FormatInfo describe() const override {
    return {"fp8", "fbgemm_fp8,compressed-tensors,modelopt",
            "8-bit float weights, per tensor, channel or block", fp8::quantizer_options()};
  }
  ProbeResult probe(const ProbeRequest& r) override {
    const std::string method =
        r.quant_method.empty() ? r.quantization.get("method").string_or("") : r.quant_method;
    if (method == "fp8" || method == "fbgemm_fp8") return {900, "quant_method is '" + method + "'"};
    if (ct::is_compressed_tensors(method))
      return {500, "compressed-tensors, for its float-quantized groups"};
    if (modelopt::is_modelopt(method)) return {500, "modelopt, for its fp8 layers"};
    return {0, method.empty() ? "the checkpoint has no quantization config"
                              : "quant_method is '" + method +
                                    "', not fp8, fbgemm_fp8, compressed-tensors or modelopt"};
  }
  std::unique_ptr<QuantizationConfig> create_config(const ConfigRequest& r) override {
    const std::string method = r.quantization.get("quant_method").string_or("");
    if (ct::is_compressed_tensors(method)) return std::make_unique<Fp8GroupsConfig>(r.quantization);
    if (modelopt::is_modelopt(method)) return std::make_unique<Fp8ModelOptConfig>(r.quantization);
    return std::make_unique<Fp8Config>(r.quantization);
  }
  std::string algorithms() const override { return "rtn"; }
  std::unique_ptr<Quantizer> create_quantizer(QuantizeRequest r) override {
    return fp8::make_quantizer(std::move(r));
  }
  std::string write_config(const QuantizeRequest& r,
                           const std::vector<std::string>& plain) override {
    return fp8::quantizer_config(r, plain);
  }
};

}  // namespace

PLUQ_PLUGIN("pluq.fp8", "0.9.0", "fp8", Fp8Format)
