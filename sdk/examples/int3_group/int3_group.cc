// SPDX-License-Identifier: Apache-2.0
// A 3-bit format with a kernel of its own. On disk, per linear layer [N, K]:
//   planes  I32 [N, K/32, 3]  per group of 32 columns one word per bit: bit i of word b is bit b of
//                             column i's code
//   scales  F32 [N, K/32]     W[n, k] = scales[n, k/32] * (code - 4), code in 0..7
// In memory it is the same, copied into the aligned buffer that the host gives.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "kernel.h"
#include "pluq/plugin.hpp"
#include "pluq/shard.hpp"

namespace {

constexpr int64_t kGroup = 32;

std::vector<pluq::WeightSpec> specs_of(const pluq::LayerDesc& l) {
  const pluq::shard::Range n = pluq::shard::outputs(l), k = pluq::shard::inputs(l);
  if (l.in_features % kGroup != 0)
    throw pluq::unsupported("in_features of " + l.name + " is no multiple of 32");
  pluq::shard::need_multiple(l, k, l.in_features, kGroup, "columns");
  const pluq::shard::Range groups = pluq::shard::runs(k, kGroup);
  pluq::WeightSpec planes = pluq::shard::spec(
      "planes", PLUQ_DTYPE_I32, {l.out_features, l.in_features / kGroup, 3}, {n, groups, {0, 3}});
  planes.pack_elements = 32;
  planes.pack_words = 3;
  pluq::WeightSpec scales = pluq::shard::spec(
      "scales", PLUQ_DTYPE_F32, {l.out_features, l.in_features / kGroup}, {n, groups});
  scales.sample = pluq::Sample::real(1e-3, 1e-2);
  scales.group_size = kGroup;
  return {planes, scales};
}

class Method final : public pluq::LinearMethod {
 public:
  Method(const pluq::LayerDesc& layer, const pluq::Device& device)
      : LinearMethod(layer), avx2_(device.isa() >= pluq::Isa::kAvx2) {}

  pluq::MethodInfo describe() const override {
    pluq::MethodInfo info;
    info.scheme = "int3 g32";
    info.kernel = avx2_ ? "int3_avx2" : "int3_portable";
    info.error_bound = 1e-5;
    info.bits_per_weight = 3 + 32.0 / kGroup;
    return info;
  }
  std::vector<pluq::WeightSpec> create_weights() const override { return specs_of(layer()); }

  // The run-time layout: planes, then scales; the checkpoint's tensors are not needed any more.
  pluq::ProcessPlan process_plan(const pluq::Tensors& tensors) override {
    pluq::ProcessPlan plan;
    plan.keep_tensors = false;
    plan.buffer_bytes = tensors.at("planes").bytes() + tensors.at("scales").bytes();
    plan.cache_key = "int3_group 1";
    return plan;
  }
  void process_weights_after_loading(const pluq::Exec&, const pluq::Tensors& tensors,
                                     uint8_t* buffer) override {
    const pluq::Tensor &planes = tensors.at("planes"), &scales = tensors.at("scales");
    std::memcpy(buffer, planes.data(), planes.bytes());
    std::memcpy(buffer + planes.bytes(), scales.data(), scales.bytes());
    planes_ = reinterpret_cast<const uint32_t*>(buffer);
    scales_ = reinterpret_cast<const float*>(buffer + planes.bytes());
  }
  uint64_t workspace(int64_t, int) const override { return 0; }
  void apply(const pluq::Exec& exec, const pluq::Activation& x, const float* bias,
             const pluq::Output& y) const override {
    exec.region([&](int worker, int workers) {
      const pluq::Share mine = pluq::share(y.n, worker, workers);
      (avx2_ ? int3::run_avx2 : int3::run_portable)(
          {planes_, scales_, x.data, bias, y.data, x.m, x.k, x.ld, y.ld, mine.begin, mine.end});
    });
  }
  void dequantize(const pluq::Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    const pluq::Tensor &planes = tensors.at("planes"), &scales = tensors.at("scales");
    for (int64_t n = n_begin; n < n_end; ++n) {
      for (int64_t k = 0; k < layer().k(); ++k) {
        const int64_t group = (n * layer().k() + k) / kGroup;
        int code = 0;
        for (int b = 0; b < 3; ++b)
          code |= static_cast<int>(planes.load<uint32_t>(group * 3 + b) >> (k % kGroup) & 1) << b;
        out[(n - n_begin) * ld + k] = scales.real(group) * static_cast<float>(code - 4);
      }
    }
  }

 private:
  bool avx2_;
  const uint32_t* planes_ = nullptr;
  const float* scales_ = nullptr;
};

class Config final : public pluq::QuantizationConfig {
 public:
  pluq::Choice get_quant_method(const pluq::LayerDesc& layer, const pluq::Device& device) override {
    if (!layer.tensors.has("planes") || !layer.tensors.has("scales"))
      return pluq::Choice::not_mine("no planes and scales");
    specs_of(layer);
    return pluq::Choice::use(std::make_unique<Method>(layer, device), 500);
  }
};

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
        std::vector<float> scales(w.size() / kGroup);
        std::vector<uint32_t> planes(scales.size() * 3);
        context.rows(i, begin, end, w.data(), k);
        for (size_t g = 0; g < scales.size(); ++g) {
          const float* group = w.data() + g * kGroup;
          float largest = 0;
          for (int64_t c = 0; c < kGroup; ++c) largest = std::max(largest, std::fabs(group[c]));
          scales[g] = largest > 0 ? largest / 3.5F : 1;
          for (int64_t c = 0; c < kGroup; ++c) {
            const auto code = static_cast<uint32_t>(
                std::lround(std::clamp(group[c] / scales[g], -4.0F, 3.0F)) + 4);
            for (size_t b = 0; b < 3; ++b) planes[g * 3 + b] |= (code >> b & 1) << c;
          }
        }
        context.emit(i, "planes", begin, end, planes.data(), planes.size() * 4);
        context.emit(i, "scales", begin, end, scales.data(), scales.size() * 4);
      });
    }
  }
};

class Format final : public pluq::Format {
 public:
  pluq::FormatInfo describe() const override {
    return {"int3_group", "", "3 bits with a scale per 32 columns", {}};
  }
  pluq::ProbeResult probe(const pluq::ProbeRequest& r) override {
    return r.quant_method == "int3_group" ? pluq::ProbeResult{900, "its own quant_method"}
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
    return R"({"quant_method": "int3_group"})";
  }
};

}  // namespace

PLUQ_PLUGIN("example.int3_group", "1.0.0", "int3_group", Format)
