// SPDX-License-Identifier: Apache-2.0
// Format `nf4`: 4-bit weights of bitsandbytes, types nf4 and fp4.
#include "nf4/method.h"
#include "nf4/quantizer.h"

namespace {

using namespace pluq;

class Nf4Config final : public QuantizationConfig {
 public:
  explicit Nf4Config(const Json& q) {
    const std::string storage = q.get("bnb_4bit_quant_storage").string_or("uint8");
    if (storage != "uint8")
      throw unsupported("'bnb_4bit_quant_storage' is '" + storage + "'; uint8 is built");
  }

  Choice get_quant_method(const LayerDesc& layer, const Device& device) override {
    if (layer.tensors.has("SCB"))
      return Choice::unsupported("bitsandbytes int8 ('SCB') is not built; its 4-bit types are");
    if (layer.kind == "embedding" || !nf4::has_tensors(layer)) {
      return Choice::not_mine("there are no U8 'weight' and 'weight.absmax'; the layer holds " +
                              layer.tensors_text());
    }
    return Choice::use(nf4::make_method(layer, device), 900);
  }
};

class Nf4Format final : public Format {
 public:
  FormatInfo describe() const override {
    return {"nf4", "bitsandbytes", "4-bit tables of bitsandbytes, nf4 and fp4",
            nf4::quantizer_options()};
  }
  ProbeResult probe(const ProbeRequest& r) override {
    if (r.quant_method == "bitsandbytes") return {900, "quant_method is 'bitsandbytes'"};
    return {0, r.quant_method.empty()
                   ? "the checkpoint has no quantization config"
                   : "quant_method is '" + r.quant_method + "', not bitsandbytes"};
  }
  std::unique_ptr<QuantizationConfig> create_config(const ConfigRequest& r) override {
    return std::make_unique<Nf4Config>(r.quantization);
  }
  std::string algorithms() const override { return "rtn"; }
  std::unique_ptr<Quantizer> create_quantizer(QuantizeRequest r) override {
    return nf4::make_quantizer(std::move(r));
  }
  std::string write_config(const QuantizeRequest& r,
                           const std::vector<std::string>& plain) override {
    return nf4::quantizer_config(r, plain);
  }
};

}  // namespace

PLUQ_PLUGIN("pluq.nf4", "0.9.0", "nf4", Nf4Format)
