// SPDX-License-Identifier: Apache-2.0
// A whole format in one file: int8 weights with one scale per row. Built outside pluq's tree
// against the installed SDK:
//   cmake -S . -B build -DCMAKE_PREFIX_PATH=<pluq> && cmake --build build
//   pluq quantize MODEL -o OUT --format rowwise_int8 --plugins build/lib/pluq/plugins
//   pluq run OUT -p "Hello" --plugins build/lib/pluq/plugins
// On disk, per linear layer:  codes I8 [N, K],  row_scale F32 [N];  W[n, k] = row_scale[n] *
// codes[n, k].
#include <cmath>

#include "pluq/plugin.hpp"
#include "pluq/shard.hpp"

namespace {

class RowwiseMethod final : public pluq::LinearMethod {
 public:
  using LinearMethod::LinearMethod;

  pluq::MethodInfo describe() const override {
    pluq::MethodInfo info;
    info.scheme = "int8 row";
    info.kernel = "dequantize";
    info.bits_per_weight = 8 + 32.0 / static_cast<double>(layer().k());
    return info;
  }

  std::vector<pluq::WeightSpec> create_weights() const override { return specs(layer()); }

  void dequantize(const pluq::Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    const pluq::Tensor &codes = tensors.at("codes"), &scale = tensors.at("row_scale");
    const int64_t k = layer().k();
    for (int64_t n = n_begin; n < n_end; ++n) {
      for (int64_t i = 0; i < k; ++i)
        out[(n - n_begin) * ld + i] = scale.real(n) * codes.load<int8_t>(n * k + i);
    }
  }

  // The tensors, and of each the part that this shard of the layer needs.
  static std::vector<pluq::WeightSpec> specs(const pluq::LayerDesc& l) {
    const pluq::shard::Range n = pluq::shard::outputs(l), k = pluq::shard::inputs(l);
    pluq::WeightSpec codes =
        pluq::shard::spec("codes", PLUQ_DTYPE_I8, {l.out_features, l.in_features}, {n, k});
    pluq::WeightSpec scale = pluq::shard::spec("row_scale", PLUQ_DTYPE_F32, {l.out_features}, {n});
    scale.sample = pluq::Sample::real(1e-3, 1e-2);
    return {codes, scale};
  }
  static std::vector<pluq::WeightSpec> specs(int64_t n, int64_t k) {
    pluq::LayerDesc l;
    l.in_features = l.in_end = k;
    l.out_features = l.out_end = n;
    return specs(l);
  }
};

class RowwiseConfig final : public pluq::QuantizationConfig {
 public:
  pluq::Choice get_quant_method(const pluq::LayerDesc& layer, const pluq::Device&) override {
    if (!layer.tensors.has("codes") || !layer.tensors.has("row_scale"))
      return pluq::Choice::not_mine("no codes and row_scale");
    return pluq::Choice::use(std::make_unique<RowwiseMethod>(layer), 500);
  }
};

class RowwiseQuantizer final : public pluq::Quantizer {
 public:
  using Quantizer::Quantizer;

  std::vector<pluq::WeightSpec> output_specs(size_t i) const override {
    return RowwiseMethod::specs(request().layers[i].out_features, request().layers[i].in_features);
  }

  void solve(const pluq::QuantizeContext& context) override {
    for (size_t i = 0; i < request().layers.size(); ++i) {
      const int64_t k = request().layers[i].in_features;
      context.parallel_rows(request().layers[i].out_features, 32, [&](int64_t begin, int64_t end) {
        std::vector<float> rows(static_cast<size_t>((end - begin) * k)), scales;
        std::vector<int8_t> codes;
        context.rows(i, begin, end, rows.data(), k);
        for (int64_t r = 0; r < end - begin; ++r) {
          float largest = 0;
          for (int64_t j = 0; j < k; ++j)
            largest = std::fmax(largest, std::fabs(rows[static_cast<size_t>(r * k + j)]));
          scales.push_back(largest > 0 ? largest / 127 : 1);
          for (int64_t j = 0; j < k; ++j)
            codes.push_back(static_cast<int8_t>(
                std::lround(rows[static_cast<size_t>(r * k + j)] / scales.back())));
        }
        context.emit(i, "codes", begin, end, codes.data(), codes.size());
        context.emit(i, "row_scale", begin, end, scales.data(), scales.size() * 4);
      });
    }
  }
};

class RowwiseFormat final : public pluq::Format {
 public:
  pluq::FormatInfo describe() const override {
    return {"rowwise_int8", "", "int8 with one scale per row", {}};
  }
  pluq::ProbeResult probe(const pluq::ProbeRequest& r) override {
    return r.quant_method == "rowwise_int8" ? pluq::ProbeResult{900, "its own quant_method"}
                                            : pluq::ProbeResult{0, "another quant_method"};
  }
  std::unique_ptr<pluq::QuantizationConfig> create_config(const pluq::ConfigRequest&) override {
    return std::make_unique<RowwiseConfig>();
  }
  std::string algorithms() const override { return "rtn"; }
  std::unique_ptr<pluq::Quantizer> create_quantizer(pluq::QuantizeRequest r) override {
    return std::make_unique<RowwiseQuantizer>(std::move(r));
  }
  std::string write_config(const pluq::QuantizeRequest&, const std::vector<std::string>&) override {
    return R"({"quant_method": "rowwise_int8"})";
  }
};

}  // namespace

PLUQ_PLUGIN("example.rowwise_int8", "1.0.0", "rowwise_int8", RowwiseFormat)
