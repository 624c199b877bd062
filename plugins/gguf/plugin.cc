// SPDX-License-Identifier: Apache-2.0
// Format `gguf`: the block types of GGUF files, run as they are stored.
#include "gguf/method.h"

namespace {

using namespace pluq;

class GgufConfig final : public QuantizationConfig {
 public:
  Choice get_quant_method(const LayerDesc& layer, const Device& device) override {
    if (!gguf_format::has_tensors(layer)) {
      return Choice::not_mine(
          "'weight' is no matrix of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K; the layer "
          "holds " +
          layer.tensors_text());
    }
    return Choice::use(gguf_format::make_method(layer, device), 900);
  }
};

class GgufFormat final : public Format {
 public:
  FormatInfo describe() const override {
    return {"gguf", "", "block types of GGUF: Q4_0 to Q8_0, Q2_K to Q6_K", {}};
  }
  ProbeResult probe(const ProbeRequest& r) override {
    if (r.container == "gguf") return {900, "the file is GGUF"};
    return {0, "the container is '" + r.container + "', not gguf"};
  }
  std::unique_ptr<QuantizationConfig> create_config(const ConfigRequest&) override {
    return std::make_unique<GgufConfig>();
  }
};

}  // namespace

PLUQ_PLUGIN("pluq.gguf", "0.9.0", "gguf", GgufFormat)
