// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/quantizer.h"

#include <algorithm>
#include <cmath>

#include "mxfp4/method.h"
#include "pluq/float4.hpp"

namespace mxfp4 {
namespace {

using namespace pluq;
constexpr int64_t kRows = 32;  // rows per chunk of work

class Mxfp4Quantizer final : public Quantizer {
 public:
  explicit Mxfp4Quantizer(QuantizeRequest r) : Quantizer(std::move(r)) {
    for (const QuantizeLayer& l : request().layers) {
      if (l.in_features % 2 != 0) {
        throw unsupported(format("layer %s: in_features is %lld; mxfp4 needs an even number",
                                 l.name.c_str(), static_cast<long long>(l.in_features)));
      }
    }
  }

  std::vector<WeightSpec> output_specs(size_t layer) const override {
    const QuantizeLayer& l = request().layers[layer];
    WeightSpec w, s;
    w.suffix = "weight_packed";
    w.dtype_id = s.dtype_id = PLUQ_DTYPE_U8;
    w.shape = {l.out_features, l.in_features / 2};
    s.suffix = "weight_scale";
    s.shape = {l.out_features, (l.in_features + kGroup - 1) / kGroup};
    return {w, s};
  }

  void solve(const QuantizeContext& context) override {
    for (size_t i = 0; i < request().layers.size(); ++i) {
      const QuantizeLayer& l = request().layers[i];
      const int64_t k = l.in_features;
      context.parallel_rows(l.out_features, kRows, [&](int64_t begin, int64_t end) {
        std::vector<float> values(static_cast<size_t>((end - begin) * k));
        context.rows(i, begin, end, values.data(), k);
        std::vector<uint8_t> packed, scales;
        for (int64_t r = 0; r < end - begin; ++r)
          quantize_row(values.data() + r * k, k, &packed, &scales);
        context.emit(i, "weight_packed", begin, end, packed.data(), packed.size());
        context.emit(i, "weight_scale", begin, end, scales.data(), scales.size());
      });
    }
  }

 private:
  static void quantize_row(const float* row, int64_t k, std::vector<uint8_t>* packed,
                           std::vector<uint8_t>* scales) {
    for (int64_t from = 0; from < k; from += kGroup) {
      const int64_t to = std::min(from + kGroup, k);
      float largest = 0;
      for (int64_t j = from; j < to; ++j) largest = std::max(largest, std::fabs(row[j]));
      scales->push_back(scale_code(largest));
      const float scale = float4::from_e8m0(scales->back());
      for (int64_t j = from; j < to; j += 2) {
        packed->push_back(static_cast<uint8_t>(float4::to_e2m1(row[j] / scale) |
                                               float4::to_e2m1(row[j + 1] / scale) << 4));
      }
    }
  }
};

}  // namespace

uint8_t scale_code(float largest) {
  const uint16_t bits = float_to_bfloat(largest);
  const int exponent =
      (bits + 32) >> 7 & 0xff;  // 32: half of the last bit that one mantissa bit leaves
  return static_cast<uint8_t>(std::clamp(exponent - 2, 0, 252));
}

std::unique_ptr<Quantizer> make_quantizer(QuantizeRequest request) {
  return std::make_unique<Mxfp4Quantizer>(std::move(request));
}

std::string quantizer_config(const std::vector<std::string>& plain) {
  const std::string names = json_strings(plain);
  return R"({"quant_method":"compressed-tensors","format":"mxfp4-pack-quantized","quantization_status":"compressed","ignore":[)" +
         names +
         R"(],"config_groups":{"group_0":{"format":"mxfp4-pack-quantized","targets":["Linear"],)"
         R"("weights":{"num_bits":4,"type":"float","symmetric":true,"strategy":"group","group_size":32,"dynamic":false,)"
         R"("scale_dtype":"torch.uint8"}}},"meta":{"quantizer":["pluq:0.9.0"]}})";
}

}  // namespace mxfp4
