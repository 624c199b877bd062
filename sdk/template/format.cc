// SPDX-License-Identifier: Apache-2.0
// Format "@ID@": 4-bit weights with one scale per 32 columns. A whole format: change the bits, keep
// the frame. On disk, per linear layer [N, K]:
//
//   codes   U8 [N, K/2]    two codes per byte, the even column in the low half
//   scales  F16 [N, K/32]  W[n, k] = scales[n, k/32] * (code - 8)
//
#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

// <cuda>
#include "@ID@.h"
#include "pluq/cuda/linear.hpp"
// </cuda>
#include "pluq/plugin.hpp"
#include "pluq/shard.hpp"

namespace {

constexpr int64_t kGroup = 32;  // columns that share a scale

// The tensors of a layer, and the part of each that this shard of the layer needs.
std::vector<pluq::WeightSpec> specs_of(const pluq::LayerDesc& l) {
  const pluq::shard::Range n = pluq::shard::outputs(l), k = pluq::shard::inputs(l);
  if (l.in_features % kGroup != 0)
    throw pluq::unsupported("in_features of " + l.name + " is no multiple of 32");
  pluq::shard::need_multiple(l, k, l.in_features, kGroup, "columns");
  pluq::WeightSpec codes = pluq::shard::spec(
      "codes", PLUQ_DTYPE_U8, {l.out_features, l.in_features / 2}, {n, {k.begin / 2, k.end / 2}});
  pluq::WeightSpec scales =
      pluq::shard::spec("scales", PLUQ_DTYPE_F16, {l.out_features, l.in_features / kGroup},
                        {n, pluq::shard::runs(k, kGroup)});
  scales.sample = pluq::Sample::real(1e-3, 1e-2);
  return {codes, scales};
}

class Method final : public pluq::LinearMethod {
 public:
  using LinearMethod::LinearMethod;

  pluq::MethodInfo describe() const override {
    pluq::MethodInfo info;
    info.scheme = "int4 g32";
    info.kernel = "dequantize";  // the SDK's own apply; override apply() for speed
    info.bits_per_weight = 4 + 16.0 / kGroup;
    return info;
  }
  std::vector<pluq::WeightSpec> create_weights() const override { return specs_of(layer()); }
  // Rows [n_begin, n_end) of W: the truth that every kernel is checked against.
  void dequantize(const pluq::Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    const pluq::Tensor &codes = tensors.at("codes"), &scales = tensors.at("scales");
    for (int64_t n = n_begin; n < n_end; ++n) {
      for (int64_t k = 0; k < layer().k(); ++k) {
        const int c = codes.load<uint8_t>((n * layer().k() + k) / 2) >> (k % 2 * 4) & 15;
        out[(n - n_begin) * ld + k] =
            scales.real((n * layer().k() + k) / kGroup) * static_cast<float>(c - 8);
      }
    }
  }
};

// <cuda>
// apply on a CUDA device: the kernels of @ID@.cu.inl.
pluq::cuda::OpError launch(const pluq::cuda::DeviceCall& c) {
  return kernels::linear(c.exec, {c.array<uint8_t>("codes"), c.array<uint16_t>("scales"), c.layer.n(),
                                  c.layer.k(), c.io});
}

// </cuda>
class Config final : public pluq::QuantizationConfig {
 public:
  // <cpu>
  pluq::Choice get_quant_method(const pluq::LayerDesc& layer, const pluq::Device&) override {
  // </cpu>
  // <cuda>
  pluq::Choice get_quant_method(const pluq::LayerDesc& layer, const pluq::Device& device) override {
  // </cuda>
    if (!layer.tensors.has("codes") || !layer.tensors.has("scales"))
      return pluq::Choice::not_mine("no codes and scales");
    specs_of(layer);  // refuses shapes and shards that cannot be
    // <cpu>
    return pluq::Choice::use(std::make_unique<Method>(layer), 500);
    // </cpu>
    // <cuda>
    auto method = std::make_unique<Method>(layer);
    return pluq::Choice::use(
        pluq::cuda::on_device(std::move(method), device, {"cuda_@ID@"}, &launch), 500);
    // </cuda>
  }
};

// Round to nearest.
class Quantizer final : public pluq::Quantizer {
 public:
  explicit Quantizer(pluq::QuantizeRequest r) : pluq::Quantizer(std::move(r)) {
    for (size_t i = 0; i < request().layers.size(); ++i) output_specs(i);
  }
  std::vector<pluq::WeightSpec> output_specs(size_t i) const override {
    return specs_of(whole_layer(i));
  }
  void solve(const pluq::QuantizeContext& context) override {
    for (size_t i = 0; i < request().layers.size(); ++i) {
      const int64_t k = request().layers[i].in_features;
      context.parallel_rows(request().layers[i].out_features, 16, [&](int64_t begin, int64_t end) {
        std::vector<float> w(static_cast<size_t>((end - begin) * k));
        std::vector<uint16_t> scales(w.size() / kGroup);
        std::vector<uint8_t> codes(w.size() / 2);
        context.rows(i, begin, end, w.data(), k);
        for (size_t g = 0; g < scales.size(); ++g) {
          float largest = 0;
          for (size_t j = g * kGroup; j < (g + 1) * kGroup; ++j)
            largest = std::max(largest, std::fabs(w[j]));
          scales[g] = pluq::float_to_half(std::max(largest / 7, 1e-7F));
          const float scale = pluq::Tensor::half(scales[g]);  // as dequantize will see it
          for (size_t j = g * kGroup; j < (g + 1) * kGroup; ++j) {
            const auto c = static_cast<int>(std::lround(std::clamp(w[j] / scale, -8.0F, 7.0F))) + 8;
            codes[j / 2] = static_cast<uint8_t>(codes[j / 2] | c << (j % 2 * 4));
          }
        }
        context.emit(i, "codes", begin, end, codes.data(), codes.size());
        context.emit(i, "scales", begin, end, scales.data(), scales.size() * sizeof scales[0]);
      });
    }
  }
};

class Format final : public pluq::Format {
 public:
  pluq::FormatInfo describe() const override {
    return {"@ID@", "", "4 bits with a scale per 32 columns", {}};  // {}: options
  }
  pluq::ProbeResult probe(const pluq::ProbeRequest& r) override {
    if (r.quant_method == "@ID@") return {900, "its own quant_method"};
    return {0, "quant_method is '" + r.quant_method + "', not '@ID@'"};
  }
  std::unique_ptr<pluq::QuantizationConfig> create_config(const pluq::ConfigRequest&) override {
    return std::make_unique<Config>();
  }
  std::string algorithms() const override { return "rtn"; }
  std::unique_ptr<pluq::Quantizer> create_quantizer(pluq::QuantizeRequest r) override {
    return std::make_unique<Quantizer>(std::move(r));
  }
  std::string write_config(const pluq::QuantizeRequest&, const std::vector<std::string>&) override {
    return R"({"quant_method": "@ID@"})";
  }
};

}  // namespace

PLUQ_PLUGIN("@ID@", "0.1.0", "@ID@", Format)
