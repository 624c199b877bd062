// SPDX-License-Identifier: Apache-2.0
// Format `dense`: plain floats. Even an unquantized layer is served by a plugin.
//   weight  F32, F16 or BF16 [N, K], row-major
#include "dense/method.h"

namespace {

using namespace pluq;

class DenseConfig : public QuantizationConfig {
 public:
  Choice get_quant_method(const LayerDesc& layer, const Device& device) override {
    const Tensor* weight = layer.tensors.find("weight");
    if (weight == nullptr) return Choice::not_mine("no tensor 'weight'");
    if (!is_float_weight(weight->dtype_id())) {
      return Choice::not_mine(std::string("'weight' is ") + dtype_name(weight->dtype_id()) +
                              ", not F32, F16 or BF16");
    }
    // A scale beside a float weight means that some format stores its weights in 16 bits; that is
    // not plain.
    for (const Tensor& t : layer.tensors.all()) {
      if (t.name() != "weight")
        return Choice::not_mine("there is a tensor '" + t.name() + "' beside 'weight'");
    }
    return Choice::use(dense::make_method(layer, device), 100);
  }
};

// Round to nearest into another plain type.
class DenseQuantizer : public Quantizer {
 public:
  DenseQuantizer(QuantizeRequest request, uint32_t dtype_id)
      : Quantizer(std::move(request)), dtype_id_(dtype_id) {}

  std::vector<WeightSpec> output_specs(size_t layer) const override {
    const QuantizeLayer& l = request().layers[layer];
    WeightSpec w;
    w.suffix = "weight";
    w.dtype_id = dtype_id_;
    w.shape = {l.out_features, l.in_features};
    return {w};
  }

  void solve(const QuantizeContext& context) override {
    for (size_t i = 0; i < request().layers.size(); ++i) {
      const QuantizeLayer& l = request().layers[i];
      context.parallel_rows(l.out_features, 64, [&](int64_t begin, int64_t end) {
        std::vector<float> rows(static_cast<size_t>((end - begin) * l.in_features));
        context.rows(i, begin, end, rows.data(), l.in_features);
        const std::vector<uint8_t> bytes = dense::convert(rows, dtype_id_);
        context.emit(i, "weight", begin, end, bytes.data(), bytes.size());
      });
    }
  }

 private:
  uint32_t dtype_id_;
};

class DenseFormat : public Format {
 public:
  FormatInfo describe() const override {
    return {"dense",
            "",
            "plain F32, F16 or BF16 weights",
            {{"dtype", PLUQ_OPTION_STRING, "bf16", 1, 0, "f32|f16|bf16", "type of the weights"}}};
  }
  ProbeResult probe(const ProbeRequest&) override {
    return {1, "layers with a plain float weight"};
  }
  std::unique_ptr<QuantizationConfig> create_config(const ConfigRequest&) override {
    return std::make_unique<DenseConfig>();
  }
  std::string algorithms() const override { return "rtn"; }
  std::unique_ptr<Quantizer> create_quantizer(QuantizeRequest request) override {
    const std::string name = request.options.get("dtype").string_or("bf16");
    const uint32_t id = name == "f32"   ? PLUQ_DTYPE_F32
                        : name == "f16" ? PLUQ_DTYPE_F16
                                        : PLUQ_DTYPE_BF16;
    return std::make_unique<DenseQuantizer>(std::move(request), id);
  }
  std::string write_config(const QuantizeRequest&, const std::vector<std::string>&) override {
    return "null";
  }
};

}  // namespace

PLUQ_PLUGIN("pluq.dense", "0.9.0", "dense", DenseFormat)
