// SPDX-License-Identifier: Apache-2.0
// weight_global_scale = 448 * 6 / max|w| over the layers of the group; weight_scale = e4m3(global *
// (max|w| / 6)) over 16 columns; code = e2m1(w / (weight_scale / global)). compressed-tensors
// computes the global scale and max|w| / 6 in the model's own type, so they are rounded to it here:
// then its bytes come out.
#include "nvfp4/quantizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "nvfp4/method.h"
#include "pluq/float4.hpp"
#include "pluq/float8.hpp"

namespace nvfp4 {
namespace {

using namespace pluq;
constexpr int64_t kRows = 32;  // rows per chunk of work
constexpr uint8_t kZeroScale =
    0x20;  // 0.125: the scale of a group of zeros, or of one too small for e4m3

float max_abs(const float* x, int64_t count) {
  float out = 0;
  for (int64_t i = 0; i < count; ++i) out = std::max(out, std::fabs(x[i]));
  return out;
}

class Nvfp4Quantizer final : public Quantizer {
 public:
  explicit Nvfp4Quantizer(QuantizeRequest r) : Quantizer(std::move(r)) {
    for (const QuantizeLayer& l : request().layers) {
      if (l.in_features % 2 != 0) {
        throw unsupported(format("layer %s: in_features is %lld; nvfp4 needs an even number",
                                 l.name.c_str(), static_cast<long long>(l.in_features)));
      }
    }
  }

  std::vector<WeightSpec> output_specs(size_t layer) const override {
    const QuantizeLayer& l = request().layers[layer];
    WeightSpec w, s, g;
    w.suffix = "weight_packed";
    w.dtype_id = PLUQ_DTYPE_U8;
    w.shape = {l.out_features, l.in_features / 2};
    s.suffix = "weight_scale";
    s.dtype_id = PLUQ_DTYPE_F8_E4M3;
    s.shape = {l.out_features, (l.in_features + kGroup - 1) / kGroup};
    g.suffix = "weight_global_scale";
    g.dtype_id = PLUQ_DTYPE_F32;
    g.shape = {1};
    return {w, s, g};
  }

  void solve(const QuantizeContext& context) override {
    float largest = 0;
    for (size_t i = 0; i < request().layers.size(); ++i)
      largest = std::max(largest, largest_weight(context, i));
    const float exact = largest > 0 ? 448.0F * 6.0F / largest : 1.0F,
                rounded = round_to_model(exact);
    const float global = std::isfinite(rounded) ? rounded : exact;  // a half ends at 65504
    if (!std::isfinite(global)) {
      throw invalid(format("layer %s: the largest weight is %g, too small for nvfp4's global scale",
                           request().layers[0].name.c_str(), static_cast<double>(largest)));
    }
    for (size_t i = 0; i < request().layers.size(); ++i) {
      context.emit(i, "weight_global_scale", 0, 1, &global, sizeof global);
      solve_layer(context, i, global);
    }
  }

 private:
  float largest_weight(const QuantizeContext& context, size_t index) const {
    const QuantizeLayer& l = request().layers[index];
    std::vector<float> largest(static_cast<size_t>((l.out_features + kRows - 1) / kRows));
    context.parallel_rows(l.out_features, kRows, [&](int64_t begin, int64_t end) {
      std::vector<float> values(static_cast<size_t>((end - begin) * l.in_features));
      context.rows(index, begin, end, values.data(), l.in_features);
      largest[static_cast<size_t>(begin / kRows)] =
          max_abs(values.data(), static_cast<int64_t>(values.size()));
    });
    return largest.empty() ? 0 : *std::max_element(largest.begin(), largest.end());
  }

  void solve_layer(const QuantizeContext& context, size_t index, float global) const {
    const QuantizeLayer& l = request().layers[index];
    const int64_t k = l.in_features;
    context.parallel_rows(l.out_features, kRows, [&](int64_t begin, int64_t end) {
      std::vector<float> values(static_cast<size_t>((end - begin) * k));
      context.rows(index, begin, end, values.data(), k);
      std::vector<uint8_t> packed, scales;
      for (int64_t r = 0; r < end - begin; ++r)
        quantize_row(values.data() + r * k, k, global, &packed, &scales);
      context.emit(index, "weight_packed", begin, end, packed.data(), packed.size());
      context.emit(index, "weight_scale", begin, end, scales.data(), scales.size());
    });
  }

  float round_to_model(float value) const {
    if (request().model_dtype == PLUQ_DTYPE_F16) return Tensor::half(float_to_half(value));
    if (request().model_dtype != PLUQ_DTYPE_BF16) return value;
    const uint32_t bits = static_cast<uint32_t>(float_to_bfloat(value)) << 16;
    float out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
  }

  void quantize_row(const float* row, int64_t k, float global, std::vector<uint8_t>* packed,
                    std::vector<uint8_t>* scales) const {
    for (int64_t from = 0; from < k; from += kGroup) {
      const int64_t to = std::min(from + kGroup, k);
      uint8_t code =
          float8::to_e4m3(global * round_to_model(max_abs(row + from, to - from) / 6.0F));
      if (code == 0) code = kZeroScale;
      scales->push_back(code);
      const float scale = float8::from_e4m3(code) / global;
      for (int64_t j = from; j < to; j += 2) {
        packed->push_back(static_cast<uint8_t>(float4::to_e2m1(row[j] / scale) |
                                               float4::to_e2m1(row[j + 1] / scale) << 4));
      }
    }
  }
};

}  // namespace

std::unique_ptr<Quantizer> make_quantizer(QuantizeRequest request) {
  return std::make_unique<Nvfp4Quantizer>(std::move(request));
}

std::string quantizer_config(const std::vector<std::string>& plain) {
  const std::string names = json_strings(plain);
  return R"({"quant_method":"compressed-tensors","format":"nvfp4-pack-quantized","quantization_status":"compressed","ignore":[)" +
         names +
         R"(],"config_groups":{"group_0":{"format":"nvfp4-pack-quantized","targets":["Linear"],)"
         R"("weights":{"num_bits":4,"type":"float","symmetric":true,"strategy":"tensor_group","group_size":16,"dynamic":false,)"
         R"("scale_dtype":"torch.float8_e4m3fn"}}},"meta":{"quantizer":["pluq:0.9.0"]}})";
}

}  // namespace nvfp4
