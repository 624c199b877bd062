// SPDX-License-Identifier: Apache-2.0
// Per row: scale = max|w| / 127.5 as compressed-tensors does, code = clamp(rne(w / scale), -128,
// 127). What activations will be rounded to is only said in the configuration.
#include "w8a8/quantizer.h"

#include <algorithm>
#include <cmath>

namespace w8a8 {
namespace {

using namespace pluq;

class W8a8Quantizer final : public Quantizer {
 public:
  explicit W8a8Quantizer(QuantizeRequest r) : Quantizer(std::move(r)) {
    scale_dtype_ =
        is_float_weight(request().model_dtype) ? request().model_dtype : uint32_t{PLUQ_DTYPE_F32};
  }

  std::vector<WeightSpec> output_specs(size_t layer) const override {
    const QuantizeLayer& l = request().layers[layer];
    WeightSpec w, s;
    w.suffix = "weight";
    w.dtype_id = PLUQ_DTYPE_I8;
    w.shape = {l.out_features, l.in_features};
    s.suffix = "weight_scale";
    s.dtype_id = scale_dtype_;
    s.shape = {l.out_features, 1};
    return {w, s};
  }

  void solve(const QuantizeContext& context) override {
    for (size_t i = 0; i < request().layers.size(); ++i) {
      const QuantizeLayer& l = request().layers[i];
      const int64_t k = l.in_features;
      context.parallel_rows(l.out_features, 32, [&](int64_t begin, int64_t end) {
        const auto rows = static_cast<size_t>(end - begin);
        std::vector<float> values(rows * static_cast<size_t>(k));
        std::vector<int8_t> codes(values.size());
        std::vector<uint8_t> scales;
        context.rows(i, begin, end, values.data(), k);
        for (size_t r = 0; r < rows; ++r) {
          const float* row = values.data() + r * static_cast<size_t>(k);
          float largest = 0;
          for (int64_t j = 0; j < k; ++j) largest = std::max(largest, std::fabs(row[j]));
          const float scale = store_scale(largest > 0 ? largest / 127.5F : 1.0F, &scales);
          for (int64_t j = 0; j < k; ++j) {
            codes[r * static_cast<size_t>(k) + static_cast<size_t>(j)] =
                static_cast<int8_t>(std::clamp(std::nearbyint(row[j] / scale), -128.0F, 127.0F));
          }
        }
        context.emit(i, "weight", begin, end, codes.data(), codes.size());
        context.emit(i, "weight_scale", begin, end, scales.data(), scales.size());
      });
    }
  }

 private:
  // Appends the scale in its stored type and returns what was stored.
  float store_scale(float scale, std::vector<uint8_t>* out) const {
    const size_t at = out->size();
    if (scale_dtype_ == PLUQ_DTYPE_F32) {
      out->resize(at + 4);
      std::memcpy(out->data() + at, &scale, 4);
      return scale;
    }
    const bool bf16 = scale_dtype_ == PLUQ_DTYPE_BF16;
    uint16_t bits = bf16 ? float_to_bfloat(scale) : float_to_half(scale);
    if ((bits & 0x7fff) == 0) bits = 1;
    out->resize(at + 2);
    std::memcpy(out->data() + at, &bits, 2);
    if (!bf16) return Tensor::half(bits);
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, 4);
    return value;
  }
  uint32_t scale_dtype_;
};

}  // namespace

std::vector<Option> quantizer_options() {
  return {{"activations", PLUQ_OPTION_STRING, "token", 1, 0, "token|token_asym|float",
           "how inputs are rounded: int8 per token, int8 with a zero point per token, not at all"}};
}

std::unique_ptr<Quantizer> make_quantizer(QuantizeRequest request) {
  return std::make_unique<W8a8Quantizer>(std::move(request));
}

std::string quantizer_config(const QuantizeRequest& request,
                             const std::vector<std::string>& plain) {
  const std::string names = json_strings(plain);
  const std::string inputs = request.options.get("activations").string_or("token");
  const std::string token = std::string(R"({"num_bits":8,"type":"int","symmetric":)") +
                            (inputs == "token" ? "true" : "false") +
                            R"(,"strategy":"token","dynamic":true})";
  return R"({"quant_method":"compressed-tensors","format":"int-quantized","quantization_status":"compressed","ignore":[)" +
         names +
         R"(],"config_groups":{"group_0":{"format":"int-quantized","targets":["Linear"],)"
         R"("weights":{"num_bits":8,"type":"int","symmetric":true,"strategy":"channel","dynamic":false},)"
         R"("input_activations":)" +
         (inputs == "float" ? "null" : token) + R"(}},"meta":{"quantizer":["pluq:0.9.0"]}})";
}

}  // namespace w8a8
