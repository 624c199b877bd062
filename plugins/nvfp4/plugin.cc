// SPDX-License-Identifier: Apache-2.0
// Format `nvfp4`: 4-bit floats with e4m3 scales per 16 columns (compressed-tensors
// nvfp4-pack-quantized, ModelOpt NVFP4).
#include "nvfp4/method.h"
#include "nvfp4/quantizer.h"
#include "pluq/compressed_tensors.hpp"
#include "pluq/modelopt.hpp"

namespace {

using namespace pluq;

class Nvfp4Config final : public ct::GroupsConfig {
 public:
  using ct::GroupsConfig::GroupsConfig;

  Choice get_quant_method(const LayerDesc& layer, const Device& device) override {
    if (layer.kind == "embedding" || !nvfp4::has_tensors(layer)) {
      return Choice::not_mine(
          "there are no U8 'weight_packed', F8_E4M3 'weight_scale' and 'weight_global_scale'; the "
          "layer holds " +
          layer.tensors_text());
    }
    const ct::Scheme* scheme = ct::scheme_for_tensors(config_, layer);
    if (scheme == nullptr)
      return Choice::unsupported(
          "the weight is nvfp4, but no group of config_groups targets the layer");
    if (std::string why = config_.refusal(*scheme); !why.empty())
      return Choice::unsupported(std::move(why));
    const ct::QuantArgs& w = scheme->weights;
    if (!w.is_float || w.bits != 4 || (w.group_size > 0 && w.group_size != nvfp4::kGroup)) {
      return Choice::unsupported(
          format("group '%s' says %lld-bit %s weights in groups of %lld, but the tensors are "
                 "nvfp4, which has "
                 "4-bit floats in groups of 16",
                 scheme->group.c_str(), static_cast<long long>(w.bits),
                 w.is_float ? "float" : "integer", static_cast<long long>(w.group_size)));
    }
    if (scheme->has_inputs && !layer.float_activations) {
      return Choice::unsupported("group '" + scheme->group +
                                 "' rounds activations to 4-bit floats, which is not built; "
                                 "--activations float runs the weights alone");
    }
    return Choice::use(nvfp4::make_method(layer, device), 500);
  }
};

class Nvfp4ModelOptConfig final : public modelopt::ModelOptConfig {
 public:
  using modelopt::ModelOptConfig::ModelOptConfig;

  Choice get_quant_method(const LayerDesc& layer, const Device& device) override {
    if (layer.kind == "embedding" || !nvfp4::has_tensors(layer)) {
      return Choice::not_mine(
          "there are no U8 'weight', F8_E4M3 'weight_scale' and 'weight_scale_2'; the layer "
          "holds " +
          layer.tensors_text());
    }
    const std::string& algo = algorithm(layer.name);
    if (algo != "NVFP4" && algo != "W4A16_NVFP4") {
      return Choice::unsupported("the tensors are nvfp4, but quant_algo is '" + algo +
                                 "'; NVFP4 and W4A16_NVFP4 are built for such tensors");
    }
    if (layer.tensors.has("pre_quant_scale")) {
      return Choice::unsupported("pre_quant_scale multiplies the activations, which is not built");
    }
    if (algo == "NVFP4" && layer.tensors.has("input_scale") && !layer.float_activations) {
      return Choice::unsupported(
          "quant_algo NVFP4 rounds activations to 4-bit floats, which is not built; "
          "--activations float runs the weights alone");
    }
    return Choice::use(nvfp4::make_method(layer, device), 500);
  }
};

class Nvfp4Format final : public Format {
 public:
  FormatInfo describe() const override {
    return {
        "nvfp4", "compressed-tensors,modelopt", "4-bit floats with e4m3 scales per 16 columns", {}};
  }
  ProbeResult probe(const ProbeRequest& r) override {
    if (ct::is_compressed_tensors(r.quant_method))
      return {500, "compressed-tensors, for its nvfp4-pack-quantized groups"};
    if (modelopt::is_modelopt(r.quant_method)) return {500, "modelopt, for its NVFP4 layers"};
    return {0, r.quant_method.empty() ? "the checkpoint has no quantization config"
                                      : "quant_method is '" + r.quant_method +
                                            "', not compressed-tensors or modelopt"};
  }
  std::unique_ptr<QuantizationConfig> create_config(const ConfigRequest& r) override {
    const std::string method = r.quantization.get("quant_method").string_or("");
    if (modelopt::is_modelopt(method)) return std::make_unique<Nvfp4ModelOptConfig>(r.quantization);
    return std::make_unique<Nvfp4Config>(r.quantization);
  }
  std::string algorithms() const override { return "rtn"; }
  std::unique_ptr<Quantizer> create_quantizer(QuantizeRequest r) override {
    return nvfp4::make_quantizer(std::move(r));
  }
  std::string write_config(const QuantizeRequest&, const std::vector<std::string>& plain) override {
    return nvfp4::quantizer_config(plain);
  }
};

}  // namespace

PLUQ_PLUGIN("pluq.nvfp4", "0.9.0", "nvfp4", Nvfp4Format)
