// SPDX-License-Identifier: Apache-2.0
// scale = max|w| / 448 over a row, a block or the tensor; code = e4m3(w / scale).
#include "fp8/quantizer.h"

#include <algorithm>
#include <cmath>

#include "pluq/float8.hpp"

namespace fp8 {
namespace {

using namespace pluq;
constexpr int64_t kBlock = 128;

std::string scheme_of(const QuantizeRequest& r) {
  return r.options.get("scheme").string_or("channel");
}

class Fp8Quantizer final : public Quantizer {
 public:
  explicit Fp8Quantizer(QuantizeRequest r)
      : Quantizer(std::move(r)), scheme_(scheme_of(request())) {}

  std::vector<WeightSpec> output_specs(size_t layer) const override {
    const QuantizeLayer& l = request().layers[layer];
    WeightSpec w, s;
    w.suffix = "weight";
    w.dtype_id = PLUQ_DTYPE_F8_E4M3;
    w.shape = {l.out_features, l.in_features};
    s.suffix = suffix();
    s.dtype_id = PLUQ_DTYPE_F32;
    if (scheme_ == "channel") s.shape = {l.out_features, 1};
    if (scheme_ == "block")
      s.shape = {(l.out_features + kBlock - 1) / kBlock, (l.in_features + kBlock - 1) / kBlock};
    return {w, s};
  }

  void solve(const QuantizeContext& context) override {
    for (size_t i = 0; i < request().layers.size(); ++i) solve_layer(context, i);
  }

 private:
  const char* suffix() const { return scheme_ == "block" ? "weight_scale_inv" : "weight_scale"; }

  void solve_layer(const QuantizeContext& context, size_t index) {
    const QuantizeLayer& l = request().layers[index];
    const int64_t k = l.in_features, n = l.out_features;
    float whole = 0;
    if (scheme_ == "tensor") {  // a first pass for the one scale
      std::vector<float> largest(static_cast<size_t>((n + kBlock - 1) / kBlock));
      context.parallel_rows(n, kBlock, [&](int64_t begin, int64_t end) {
        std::vector<float> rows(static_cast<size_t>((end - begin) * k));
        context.rows(index, begin, end, rows.data(), k);
        largest[static_cast<size_t>(begin / kBlock)] =
            max_abs(rows.data(), static_cast<int64_t>(rows.size()));
      });
      whole = scale_of(*std::max_element(largest.begin(), largest.end()));
      context.emit(index, suffix(), 0, 1, &whole, sizeof whole);
    }
    // Chunks of one block row, so that each scale is made once.
    context.parallel_rows(n, kBlock, [&](int64_t begin, int64_t end) {
      std::vector<float> rows(static_cast<size_t>((end - begin) * k));
      std::vector<uint8_t> codes(rows.size());
      context.rows(index, begin, end, rows.data(), k);
      std::vector<float> scales;
      if (scheme_ == "block") {
        for (int64_t from = 0; from < k; from += kBlock) {
          float largest = 0;
          const int64_t width = std::min(kBlock, k - from);
          for (int64_t r = 0; r < end - begin; ++r)
            largest = std::max(largest, max_abs(rows.data() + r * k + from, width));
          scales.push_back(scale_of(largest));
        }
      } else if (scheme_ == "channel") {
        for (int64_t r = 0; r < end - begin; ++r)
          scales.push_back(scale_of(max_abs(rows.data() + r * k, k)));
      }
      for (int64_t r = 0; r < end - begin; ++r) {
        for (int64_t i = 0; i < k; ++i) {
          const float scale =
              scheme_ == "tensor"
                  ? whole
                  : scales[static_cast<size_t>(scheme_ == "block" ? i / kBlock : r)];
          codes[static_cast<size_t>(r * k + i)] =
              float8::to_e4m3(rows[static_cast<size_t>(r * k + i)] / scale);
        }
      }
      context.emit(index, "weight", begin, end, codes.data(), codes.size());
      if (scheme_ == "channel")
        context.emit(index, suffix(), begin, end, scales.data(), scales.size() * 4);
      if (scheme_ == "block")
        context.emit(index, suffix(), begin / kBlock, begin / kBlock + 1, scales.data(),
                     scales.size() * 4);
    });
  }

  static float max_abs(const float* x, int64_t count) {
    float out = 0;
    for (int64_t i = 0; i < count; ++i) out = std::max(out, std::fabs(x[i]));
    return out;
  }
  static float scale_of(float largest) { return largest > 0 ? largest / 448.0F : 1.0F; }

  std::string scheme_;
};

}  // namespace

std::vector<Option> quantizer_options() {
  return {{"scheme", PLUQ_OPTION_STRING, "channel", 1, 0, "channel|block|tensor",
           "what shares a scale; block is 128 x 128"}};
}

std::unique_ptr<Quantizer> make_quantizer(QuantizeRequest request) {
  return std::make_unique<Fp8Quantizer>(std::move(request));
}

std::string quantizer_config(const QuantizeRequest& request,
                             const std::vector<std::string>& plain) {
  const std::string names = json_strings(plain);
  const std::string scheme = scheme_of(request);
  const std::string meta = R"("meta":{"quantizer":["pluq:0.9.0"]}})";
  if (scheme != "channel") {
    return std::string(R"({"quant_method":"fp8","activation_scheme":"dynamic","fmt":"e4m3",)") +
           (scheme == "block" ? R"("weight_block_size":[128,128],)" : "") +
           R"("ignored_layers":[)" + names + "]," + meta;
  }
  return R"({"quant_method":"compressed-tensors","format":"float-quantized","quantization_status":"compressed","ignore":[)" +
         names +
         R"(],"config_groups":{"group_0":{"format":"float-quantized","targets":["Linear"],)"
         R"("weights":{"num_bits":8,"type":"float","symmetric":true,"strategy":"channel","dynamic":false},)"
         R"("input_activations":{"num_bits":8,"type":"float","symmetric":true,"strategy":"token","dynamic":true}}},)" +
         meta;
}

}  // namespace fp8
