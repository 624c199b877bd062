// SPDX-License-Identifier: Apache-2.0
// Format `gguf`: the block types of GGUF files, run as they are stored.
#include "gguf/blocks.h"
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
  // A layer of each type whose blocks fit K.
  std::vector<SampleLayer> samples(int64_t n, int64_t k) const override {
    std::vector<SampleLayer> out;
    for (const gguf_format::BlockType& t : gguf_format::block_types()) {
      if (k % t.elements != 0) continue;
      SampleLayer layer;
      layer.name = t.name;
      WeightSpec w;
      w.suffix = "weight";
      w.dtype_id = PLUQ_DTYPE_GGML_BASE + t.type;
      w.block_elements = static_cast<uint32_t>(t.elements);
      w.block_bytes = static_cast<uint32_t>(t.bytes);
      w.shape = {n, k};
      w.sample = Sample::bytes();
      layer.tensors.push_back(std::move(w));
      out.push_back(std::move(layer));
    }
    return out;
  }
  void fill(const SampleLayer& sample, std::string_view, uint64_t seed, uint8_t* data,
            uint64_t bytes) override {
    const uint32_t type = sample.tensors.at(0).dtype_id - PLUQ_DTYPE_GGML_BASE;
    gguf_format::random_blocks(*gguf_format::find_block_type(type), seed, data, bytes);
  }
};

}  // namespace

PLUQ_PLUGIN("pluq.gguf", "0.9.0", "gguf", GgufFormat)
