// SPDX-License-Identifier: Apache-2.0
// Format `gptq`: GPTQ checkpoints and the pack-quantized groups of compressed-tensors, 2 to 8 bits.
#include "gptq/config.h"
#include "gptq/quantizer.h"
#include "pluq/compressed_tensors.hpp"

namespace {

using namespace pluq;

class GptqFormat final : public Format {
 public:
  FormatInfo describe() const override {
    return {"gptq", "auto-round,auto_round,compressed-tensors",
            "GPTQ and compressed-tensors pack-quantized, 2 to 8 bits", gptq::quantizer_options()};
  }
  ProbeResult probe(const ProbeRequest& r) override {
    const std::string method =
        r.quant_method.empty() ? r.quantization.get("method").string_or("") : r.quant_method;
    const std::string packing = r.quantization.get("packing_format").string_or("");
    if (packing.find("awq") != std::string::npos)
      return {0, "packing_format is '" + packing + "', not GPTQ's"};
    if (gptq::claims_method(method)) return {900, "quant_method is '" + method + "'"};
    if (ct::is_compressed_tensors(method))
      return {500, "compressed-tensors, for its pack-quantized groups"};
    return {0, method.empty() ? "the checkpoint has no quantization config"
                              : "quant_method is '" + method + "', not gptq or compressed-tensors"};
  }
  std::unique_ptr<QuantizationConfig> create_config(const ConfigRequest& r) override {
    return r.quantization ? gptq::make_config(r.quantization)
                          : gptq::make_config_from_options(r.options);
  }
  std::string algorithms() const override { return "rtn"; }
  std::unique_ptr<Quantizer> create_quantizer(QuantizeRequest r) override {
    return gptq::make_quantizer(std::move(r));
  }
  std::string write_config(const QuantizeRequest& r, const std::vector<std::string>&) override {
    return gptq::quantizer_config(r);
  }
};

}  // namespace

PLUQ_PLUGIN("pluq.gptq", "0.9.0", "gptq", GptqFormat)
