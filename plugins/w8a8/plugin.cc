// SPDX-License-Identifier: Apache-2.0
// Format `w8a8`: int8 weights with int8 activations, as compressed-tensors int-quantized stores
// them.
#include "w8a8/method.h"
#include "w8a8/quantizer.h"

namespace {

using namespace pluq;

class W8a8Config final : public ct::GroupsConfig {
 public:
  using ct::GroupsConfig::GroupsConfig;

  Choice get_quant_method(const LayerDesc& layer, const Device& device) override {
    if (layer.kind == "embedding" || !w8a8::has_tensors(layer)) {
      return Choice::not_mine("there are no int8 'weight' and 'weight_scale'; the layer holds " +
                              layer.tensors_text());
    }
    const ct::Scheme* scheme = ct::scheme_for_tensors(config_, layer);
    if (scheme == nullptr)
      return Choice::unsupported(
          "the weight is int8, but no group of config_groups targets the layer");
    if (const std::string why = config_.refusal(*scheme); !why.empty())
      return Choice::unsupported(why);
    try {
      return Choice::use(w8a8::make_method(layer, device, scheme->weights,
                                           scheme->has_inputs ? &scheme->inputs : nullptr),
                         500);
    } catch (const PluginError& e) {
      if (e.code != PLUQ_STATUS_UNSUPPORTED) throw;
      return Choice::unsupported(e.text);
    }
  }
};

class W8a8Format final : public Format {
 public:
  FormatInfo describe() const override {
    return {"w8a8", "compressed-tensors",
            "int8 weights with int8 activations (compressed-tensors int-quantized)",
            w8a8::quantizer_options()};
  }
  ProbeResult probe(const ProbeRequest& r) override {
    if (ct::is_compressed_tensors(r.quant_method))
      return {500, "compressed-tensors, for its int-quantized groups"};
    return {0, r.quant_method.empty()
                   ? "the checkpoint has no quantization config"
                   : "quant_method is '" + r.quant_method + "', not compressed-tensors"};
  }
  std::unique_ptr<QuantizationConfig> create_config(const ConfigRequest& r) override {
    return std::make_unique<W8a8Config>(r.quantization);
  }
  std::string algorithms() const override { return "rtn"; }
  std::unique_ptr<Quantizer> create_quantizer(QuantizeRequest r) override {
    return w8a8::make_quantizer(std::move(r));
  }
  std::string write_config(const QuantizeRequest& r,
                           const std::vector<std::string>& plain) override {
    return w8a8::quantizer_config(r, plain);
  }
};

}  // namespace

PLUQ_PLUGIN("pluq.w8a8", "0.9.0", "w8a8", W8a8Format)
