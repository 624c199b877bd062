// SPDX-License-Identifier: Apache-2.0
// A format that nobody ships, with CUDA kernels of its own: weights are signed powers of two.
//
//   codes  U8 [N, K/2]  the even column in bits 0-3; a code is a sign (bit 3) and e (bits 0-2)
//   scale  F32 [N]      W[n, k] = +-scale[n] * 2^-e, e = 0 to 7
//
// 4 bits per weight and a scale per row; there is no zero. On a CUDA device codes are repacked by a
// kernel while loading and multiplied on tensor cores (log4_gemm.cu.inl); on the CPU by the SDK's
// apply.
#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "log4_gemm.h"
#include "pluq/cuda/linear.hpp"
#include "pluq/plugin.hpp"
#include "pluq/shard.hpp"

namespace {

constexpr int64_t kUnit = 8;  // columns: what the kernels read at once

std::vector<pluq::WeightSpec> specs_of(const pluq::LayerDesc& l) {
  const pluq::shard::Range n = pluq::shard::outputs(l), k = pluq::shard::inputs(l);
  if (l.in_features % kUnit != 0) {
    throw pluq::unsupported(pluq::format("layer %s: in_features is %lld, expected a multiple of 8",
                                         l.name.c_str(), static_cast<long long>(l.in_features)));
  }
  pluq::shard::need_multiple(l, k, l.in_features, kUnit, "columns");
  pluq::WeightSpec codes = pluq::shard::spec(
      "codes", PLUQ_DTYPE_U8, {l.out_features, l.in_features / 2}, {n, {k.begin / 2, k.end / 2}});
  pluq::WeightSpec scale = pluq::shard::spec("scale", PLUQ_DTYPE_F32, {l.out_features}, {n});
  scale.sample = pluq::Sample::real(1e-2, 1e-1);
  return {codes, scale};
}

class Method final : public pluq::LinearMethod {
 public:
  using LinearMethod::LinearMethod;
  pluq::MethodInfo describe() const override {
    pluq::MethodInfo info;
    info.scheme = "log4 channel";
    info.kernel = "dequantize";
    info.bits_per_weight = 4 + 32 / static_cast<double>(layer().in_features);
    return info;
  }
  std::vector<pluq::WeightSpec> create_weights() const override { return specs_of(layer()); }
  void dequantize(const pluq::Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    const pluq::Tensor &codes = tensors.at("codes"), &scale = tensors.at("scale");
    const int64_t columns = layer().k();
    for (int64_t n = n_begin; n < n_end; ++n) {
      for (int64_t k = 0; k < columns; ++k) {
        const int c = codes.load<uint8_t>((n * columns + k) / 2) >> (k % 2 * 4);
        const float power = std::ldexp((c & 8) != 0 ? -1.0F : 1.0F, -(c & 7));
        out[(n - n_begin) * ld + k] = scale.real(n) * power;
      }
    }
  }
};

// What concerns the kernels; DeviceMethod takes the rest from Method.
class OnDevice final : public pluq::cuda::DeviceLinear {
 public:
  OnDevice(const pluq::LayerDesc& layer, const pluq::Device& device)
      : n_(layer.n()), k_(layer.k()), splits_(log4::splits(n_, k_, device.sm_count)) {}

  void describe(pluq::MethodInfo* info) const override {
    info->kernel = "cuda_log4_gemm";
    info->arithmetic = PLUQ_ARITHMETIC_BF16;
    info->error_bound = 1.0 / 128;  // the products are exact, y may be rounded to bf16
  }
  pluq::ProcessPlan plan(const pluq::Tensors&) override {
    pluq::cuda::Arena arena;
    packed_at_ = arena.add(log4::packed_words(n_, k_) * 4);
    scale_at_ = arena.add(n_ * 4);
    pluq::ProcessPlan plan;
    plan.keep_tensors = false;
    plan.buffer_bytes = arena.bytes();
    plan.cache_key = "cuda-log4-1";
    return plan;
  }
  void load(const pluq_exec& exec, const pluq::Tensors& tensors, uint8_t* buffer) override {
    packed_ = reinterpret_cast<uint32_t*>(buffer + packed_at_);
    scale_ = reinterpret_cast<float*>(buffer + scale_at_);
    const auto* scale = reinterpret_cast<const float*>(tensors.at("scale").data());
    pluq::cuda::check(
        log4::repack(&exec, {tensors.at("codes").data(), scale, n_, k_, packed_, scale_}));
  }
  uint64_t workspace(int64_t max_tokens) const override {
    if (splits_ == 1) return 0;
    return static_cast<uint64_t>(splits_ * std::min(max_tokens, log4::kFewRows) * n_) * 4;
  }
  void apply(const pluq_exec& exec, const pluq::Tensors&, const pluq_activation& x,
             const float* bias, const pluq_output& y) const override {
    pluq::cuda::check(
        log4::gemm(&exec, {packed_, scale_, n_, k_, static_cast<float*>(exec.workspace), splits_,
                           pluq::cuda::linear_io(x, bias, y)}));
  }

 private:
  int64_t n_, k_, splits_;
  uint64_t packed_at_ = 0, scale_at_ = 0;
  uint32_t* packed_ = nullptr;  // device memory
  float* scale_ = nullptr;
};

class Config final : public pluq::QuantizationConfig {
 public:
  pluq::Choice get_quant_method(const pluq::LayerDesc& layer, const pluq::Device& device) override {
    if (!layer.tensors.has("codes") || !layer.tensors.has("scale"))
      return pluq::Choice::not_mine("no codes and scale");
    specs_of(layer);
    std::unique_ptr<pluq::LinearMethod> method = std::make_unique<Method>(layer);
    if (pluq::cuda::has_kernels(device.kind)) {
      method = std::make_unique<pluq::cuda::DeviceMethod>(
          std::move(method), std::make_unique<OnDevice>(layer, device), device.kind);
    }
    return pluq::Choice::use(std::move(method), 500);
  }
};

// The nearest power of two to v / scale, by value.
uint8_t code_of(float v, float scale) {
  const float magnitude = std::fabs(v) / scale;
  int e = 0;  // between 2^-e and 2^-(e + 1) the middle is 0.75 * 2^-e
  for (float power = 1; e < 7 && magnitude < 0.75F * power; power /= 2) ++e;
  return static_cast<uint8_t>(e | (v < 0 ? 8 : 0));
}

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
        std::vector<float> w(static_cast<size_t>((end - begin) * k)), scale;
        std::vector<uint8_t> codes(w.size() / 2);
        context.rows(i, begin, end, w.data(), k);
        for (size_t j = 0; j < w.size(); ++j) {
          if (j % static_cast<size_t>(k) == 0) {
            float largest = 0;
            for (int64_t c = 0; c < k; ++c)
              largest = std::max(largest, std::fabs(w[j + static_cast<size_t>(c)]));
            scale.push_back(largest);
          }
          const uint8_t code = scale.back() > 0 ? code_of(w[j], scale.back()) : 0;
          codes[j / 2] = static_cast<uint8_t>(codes[j / 2] | code << (j % 2 * 4));
        }
        context.emit(i, "codes", begin, end, codes.data(), codes.size());
        context.emit(i, "scale", begin, end, scale.data(), scale.size() * sizeof(float));
      });
    }
  }
};

class Format final : public pluq::Format {
 public:
  pluq::FormatInfo describe() const override {
    return {"cuda_log4", "", "signed powers of two, a scale per row", {}};
  }
  pluq::ProbeResult probe(const pluq::ProbeRequest& r) override {
    return r.quant_method == "cuda_log4" ? pluq::ProbeResult{900, "its own quant_method"}
                                         : pluq::ProbeResult{0, "another quant_method"};
  }
  std::unique_ptr<pluq::QuantizationConfig> create_config(const pluq::ConfigRequest&) override {
    return std::make_unique<Config>();
  }
  std::string algorithms() const override { return "rtn"; }
  std::unique_ptr<pluq::Quantizer> create_quantizer(pluq::QuantizeRequest r) override {
    return std::make_unique<Quantizer>(std::move(r));
  }
  std::string write_config(const pluq::QuantizeRequest&, const std::vector<std::string>&) override {
    return R"({"quant_method": "cuda_log4"})";
  }
};

}  // namespace

PLUQ_PLUGIN("example.cuda_log4", "1.0.0", "cuda_log4", Format)
