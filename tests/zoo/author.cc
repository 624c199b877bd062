// SPDX-License-Identifier: Apache-2.0
// The format that `pluq sdk new` writes, with an apply of its own, and the mistakes that authors
// make: each only when fault.c names it. Compiled once, linked with one mistake per plugin.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pluq/plugin.hpp"
#include "pluq/shard.hpp"
#include "zoo/fault.h"

namespace {

constexpr int64_t kGroup = 32;  // columns that share a scale
constexpr int64_t kRows = 8;    // of x at a time

bool has(const char* mistake) { return std::strcmp(zoo_fault, mistake) == 0; }

std::vector<pluq::WeightSpec> specs_of(const pluq::LayerDesc& l) {
  const pluq::shard::Range n = pluq::shard::outputs(l), k = pluq::shard::inputs(l);
  if (l.in_features % kGroup != 0)
    throw pluq::unsupported("in_features of " + l.name + " is no multiple of 32");
  pluq::shard::need_multiple(l, k, l.in_features, kGroup, "columns");
  pluq::shard::Range bytes{k.begin / 2, k.end / 2}, groups = pluq::shard::runs(k, kGroup);
  if (has("shard_ends_early") && k.end < l.in_features) --bytes.end;
  if (has("shard_begins_late") && k.begin > 0) ++bytes.begin, ++bytes.end;
  if (has("shard_forgets_its_scales")) groups = {0, groups.size()};
  pluq::WeightSpec codes =
      pluq::shard::spec("codes", PLUQ_DTYPE_U8, {l.out_features, l.in_features / 2}, {n, bytes});
  pluq::WeightSpec scales = pluq::shard::spec(
      "scales", PLUQ_DTYPE_F32, {l.out_features, l.in_features / kGroup}, {n, groups});
  scales.sample = pluq::Sample::real(1e-3, 1e-2);
  return {codes, scales};
}

class Method final : public pluq::LinearMethod {
 public:
  // wide: by a kernel that only CPUs with AVX2 have, or so it says.
  Method(const pluq::LayerDesc& layer, bool wide) : LinearMethod(layer), wide_(wide) {}

  pluq::MethodInfo describe() const override {
    pluq::MethodInfo info;
    info.scheme = "int4 g32";
    info.kernel = wide_ ? "author wide" : "author";
    info.bits_per_weight = 4 + 32.0 / kGroup;
    return info;
  }
  std::vector<pluq::WeightSpec> create_weights() const override { return specs_of(layer()); }
  void dequantize(const pluq::Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    const float factor = has("dequantize_wrong_scale") ? 0.5F : 1.0F;
    for (int64_t n = n_begin; n < n_end; ++n) {
      for (int64_t k = 0; k < layer().k(); ++k) {
        const bool across = has("dequantize_transposed");
        const int64_t at = across ? k * layer().n() + n : n * layer().k() + k;
        out[(n - n_begin) * ld + k] = factor * weight(tensors, at, at / kGroup);
      }
    }
  }
  uint64_t workspace(int64_t, int) const override { return 0; }
  void apply(const pluq::Exec& exec, const pluq::Activation& x, const float* bias,
             const pluq::Output& y) const override {
    exec.region([&](int worker, int workers) {
      const pluq::Share mine = pluq::share(y.n, worker, workers);
      const int64_t ldx = has("ignores_ld_of_x") ? x.k : x.ld,
                    ldy = has("ignores_ld_of_y") ? y.n : y.ld;
      for (int64_t n = mine.begin; n < mine.end; ++n) {
        double first = bias == nullptr || has("forgets_bias") ? 0 : bias[n];
        if (has("adds_first_bias") && bias != nullptr) first = bias[0];
        for (int64_t m0 = 0; m0 < y.m; m0 += kRows) {
          const int64_t rows = std::min(kRows, y.m - m0);
          double sum[kRows];
          std::fill_n(sum, kRows, first);
          for (int64_t k = 0; k < x.k; ++k) {
            const double w = used(n, k, x.k, y.n, y.m);
            for (int64_t m = 0; m < rows; ++m)
              sum[m] += static_cast<double>(input(x.data[(m0 + m) * ldx + k])) * w;
          }
          for (int64_t m = 0; m < rows; ++m)
            y.data[(m0 + m) * ldy + n] = static_cast<float>(sum[m]);
        }
      }
    });
  }

 private:
  static float weight(const pluq::Tensors& t, int64_t at, int64_t scale_at) {
    const int c = t.at("codes").load<uint8_t>(at / 2) >> (at % 2 * 4) & 15;
    return t.at("scales").real(scale_at) * static_cast<float>(c - 8);
  }
  float input(float x) const { return rounds_x_ ? std::nearbyint(x * 64) / 64 : x; }
  const bool wide_;
  // Asked for each weight.
  const bool transposed_ = has("transposed"), swaps_halves_of_bytes_ = has("swaps_halves_of_bytes"),
             scales_of_next_row_ = has("scales_of_next_row"), rounds_x_ = has("rounds_x"),
             wrong_from_8_rows_ = has("wrong_from_8_rows"), wrong_scale_ = has("wrong_scale"),
             wrong_when_wide_ = has("wrong_when_wide"),
             zero_point_off_by_one_ = has("zero_point_off_by_one");

  // The weight that apply uses.
  double used(int64_t n, int64_t k, int64_t columns, int64_t rows, int64_t m) const {
    int64_t at = transposed_ ? k * rows + n : n * columns + k;
    if (swaps_halves_of_bytes_) at ^= 1;
    const int64_t groups = columns / kGroup;
    int64_t scale_at = at / kGroup;
    if (scales_of_next_row_) scale_at = (scale_at + groups) % (groups * rows);
    if (wrong_from_8_rows_ && m >= 8 && n == rows - 1) return 0;
    double w = static_cast<double>(weight(kept(), at, scale_at));
    if (wrong_scale_ || (wide_ && wrong_when_wide_)) w *= 2;
    if (zero_point_off_by_one_) w += static_cast<double>(kept().at("scales").real(scale_at));
    return w;
  }
};

class Config final : public pluq::QuantizationConfig {
 public:
  pluq::Choice get_quant_method(const pluq::LayerDesc& layer, const pluq::Device& device) override {
    if (!layer.tensors.has("codes") || !layer.tensors.has("scales"))
      return pluq::Choice::not_mine("no codes and scales");
    specs_of(layer);  // refuses shapes and shards that cannot be
    return pluq::Choice::use(std::make_unique<Method>(layer, device.has(PLUQ_CPU_AVX2)), 500);
  }
};

// Round to nearest.
class Quantizer final : public pluq::Quantizer {
 public:
  explicit Quantizer(pluq::QuantizeRequest r) : pluq::Quantizer(std::move(r)) {}
  std::vector<pluq::WeightSpec> output_specs(size_t i) const override {
    pluq::LayerDesc l;
    l.name = request().layers[i].name;
    l.in_features = l.in_end = request().layers[i].in_features;
    l.out_features = l.out_end = request().layers[i].out_features;
    return specs_of(l);
  }
  void solve(const pluq::QuantizeContext& context) override {
    for (size_t i = 0; i < request().layers.size(); ++i) {
      const int64_t k = request().layers[i].in_features;
      context.parallel_rows(request().layers[i].out_features, 16, [&](int64_t begin, int64_t end) {
        std::vector<float> w(static_cast<size_t>((end - begin) * k)), scales(w.size() / kGroup);
        std::vector<uint8_t> codes(w.size() / 2);
        context.rows(i, begin, end, w.data(), k);
        for (size_t j = 0; j < w.size(); ++j) {
          float& scale = scales[j / kGroup];
          if (j % kGroup == 0) {
            for (size_t g = j; g < j + kGroup; ++g) scale = std::max(scale, std::fabs(w[g]) / 7);
            if (scale == 0) scale = 1;
          }
          const auto c = static_cast<int>(std::lround(std::clamp(w[j] / scale, -8.0F, 7.0F))) + 8;
          codes[j / 2] = static_cast<uint8_t>(codes[j / 2] | c << (j % 2 * 4));
        }
        context.emit(i, "codes", begin, end, codes.data(), codes.size());
        context.emit(i, "scales", begin, end, scales.data(), scales.size() * sizeof(float));
      });
    }
  }
};

class Format final : public pluq::Format {
 public:
  pluq::FormatInfo describe() const override {
    return {"zoo_author", "", "4 bits with a scale per 32 columns", {}};
  }
  pluq::ProbeResult probe(const pluq::ProbeRequest& r) override {
    if (r.quant_method == "zoo_author") return {900, "its own quant_method"};
    return {0, "quant_method is '" + r.quant_method + "'"};
  }
  std::unique_ptr<pluq::QuantizationConfig> create_config(const pluq::ConfigRequest&) override {
    return std::make_unique<Config>();
  }
  std::string algorithms() const override { return "rtn"; }
  std::unique_ptr<pluq::Quantizer> create_quantizer(pluq::QuantizeRequest r) override {
    return std::make_unique<Quantizer>(std::move(r));
  }
  std::string write_config(const pluq::QuantizeRequest&, const std::vector<std::string>&) override {
    return R"({"quant_method": "zoo_author"})";
  }
};

}  // namespace

PLUQ_PLUGIN("test.zoo_author", "1.0.0", "zoo_author", Format)
