// SPDX-License-Identifier: Apache-2.0
// A codebook format that nobody ships: two neighbouring weights are one byte, an index into the
// layer's 256 learnt pairs.
//   codes      U8 [N, K/2]
//   codebook   F32 [256, 2]   found by Lloyd's algorithm over a sample of the layer's own pairs
//   row_scale  F32 [N]        W[n, 2j + i] = row_scale[n] * codebook[codes[n, j]][i]
// No kernel: the SDK's apply is correct, and slow. Option `rounds`: rounds of Lloyd's algorithm.
#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "pluq/plugin.hpp"
#include "pluq/shard.hpp"

namespace {

constexpr size_t kEntries = 256;
using Pair = std::array<float, 2>;
using Codebook = std::vector<Pair>;

std::vector<pluq::WeightSpec> specs_of(const pluq::LayerDesc& l) {
  const pluq::shard::Range n = pluq::shard::outputs(l), k = pluq::shard::inputs(l);
  if (l.in_features % 2 != 0) throw pluq::unsupported("in_features of " + l.name + " is odd");
  pluq::shard::need_multiple(l, k, l.in_features, 2, "columns");
  pluq::WeightSpec codes = pluq::shard::spec(
      "codes", PLUQ_DTYPE_U8, {l.out_features, l.in_features / 2}, {n, {k.begin / 2, k.end / 2}});
  pluq::WeightSpec codebook =
      pluq::shard::spec("codebook", PLUQ_DTYPE_F32, {static_cast<int64_t>(kEntries), 2},
                        {{0, static_cast<int64_t>(kEntries)}, {0, 2}});
  pluq::WeightSpec scale = pluq::shard::spec("row_scale", PLUQ_DTYPE_F32, {l.out_features}, {n});
  codebook.sample = pluq::Sample::real(-1, 1);
  scale.sample = pluq::Sample::real(1e-2, 1e-1);
  return {codes, codebook, scale};
}

size_t nearest(const Codebook& book, const Pair& p) {
  size_t best = 0;
  float distance = HUGE_VALF;
  for (size_t i = 0; i < book.size(); ++i) {
    const float a = book[i][0] - p[0], b = book[i][1] - p[1], d = a * a + b * b;
    if (d < distance) {
      distance = d;
      best = i;
    }
  }
  return best;
}

// Lloyd's algorithm, from entries spread evenly over the sample; the same sample gives the same
// book.
Codebook learn(const std::vector<Pair>& sample, int64_t rounds) {
  Codebook book(kEntries, Pair{0, 0});
  for (size_t i = 0; i < kEntries && !sample.empty(); ++i)
    book[i] = sample[i * sample.size() / kEntries];
  for (int64_t round = 0; round < rounds; ++round) {
    std::vector<std::array<double, 3>> sums(kEntries, {0, 0, 0});
    for (const Pair& p : sample) {
      auto& s = sums[nearest(book, p)];
      s[0] += static_cast<double>(p[0]);
      s[1] += static_cast<double>(p[1]);
      s[2] += 1;
    }
    for (size_t i = 0; i < kEntries; ++i) {
      if (sums[i][2] > 0)
        book[i] = {static_cast<float>(sums[i][0] / sums[i][2]),
                   static_cast<float>(sums[i][1] / sums[i][2])};
    }
  }
  return book;
}

float scale_of(const float* row, int64_t k) {
  float largest = 0;
  for (int64_t j = 0; j < k; ++j) largest = std::max(largest, std::fabs(row[j]));
  return largest > 0 ? largest : 1;
}

class Method final : public pluq::LinearMethod {
 public:
  using LinearMethod::LinearMethod;
  pluq::MethodInfo describe() const override {
    pluq::MethodInfo info;
    info.scheme = "pairs 256";
    info.kernel = "dequantize";
    const auto k = static_cast<double>(layer().in_features),
               n = static_cast<double>(layer().out_features);
    info.bits_per_weight = 4 + 32 / k + 64.0 * kEntries / (n * k);
    return info;
  }
  std::vector<pluq::WeightSpec> create_weights() const override { return specs_of(layer()); }
  void dequantize(const pluq::Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    const pluq::Tensor &codes = tensors.at("codes"), &book = tensors.at("codebook"),
                       &scale = tensors.at("row_scale");
    const int64_t pairs = layer().k() / 2;
    for (int64_t n = n_begin; n < n_end; ++n) {
      float* row = out + (n - n_begin) * ld;
      for (int64_t j = 0; j < pairs; ++j) {
        const int64_t entry = codes.load<uint8_t>(n * pairs + j);
        row[2 * j] = scale.real(n) * book.real(2 * entry);
        row[2 * j + 1] = scale.real(n) * book.real(2 * entry + 1);
      }
    }
  }
};

class Config final : public pluq::QuantizationConfig {
 public:
  pluq::Choice get_quant_method(const pluq::LayerDesc& layer, const pluq::Device&) override {
    if (!layer.tensors.has("codes") || !layer.tensors.has("codebook"))
      return pluq::Choice::not_mine("no codes and codebook");
    specs_of(layer);
    return pluq::Choice::use(std::make_unique<Method>(layer), 500);
  }
};

class Quantizer final : public pluq::Quantizer {
 public:
  explicit Quantizer(pluq::QuantizeRequest r)
      : pluq::Quantizer(std::move(r)), rounds_(request().options.get("rounds").int_or(8)) {
    for (size_t i = 0; i < request().layers.size(); ++i) output_specs(i);
  }
  std::vector<pluq::WeightSpec> output_specs(size_t i) const override {
    return specs_of(whole_layer(i));
  }
  void solve(const pluq::QuantizeContext& context) override {
    for (size_t i = 0; i < request().layers.size(); ++i) solve_layer(context, i);
  }

 private:
  void solve_layer(const pluq::QuantizeContext& context, size_t i) const {
    const int64_t n = request().layers[i].out_features, k = request().layers[i].in_features;
    // At most 16384 pairs, from rows spread over the layer.
    const int64_t rows = std::clamp<int64_t>(16384 * 2 / k, 1, n);
    std::vector<Pair> sample;
    std::vector<float> row(static_cast<size_t>(k));
    for (int64_t r = 0; r < rows; ++r) {
      context.rows(i, r * n / rows, r * n / rows + 1, row.data(), k);
      const float scale = scale_of(row.data(), k);
      for (size_t j = 0; j + 1 < row.size(); j += 2)
        sample.push_back({row[j] / scale, row[j + 1] / scale});
    }
    const Codebook book = learn(sample, rounds_);
    context.emit(i, "codebook", 0, static_cast<int64_t>(kEntries), book.data(),
                 kEntries * sizeof(Pair));
    context.parallel_rows(n, 16, [&](int64_t begin, int64_t end) {
      std::vector<float> w(static_cast<size_t>((end - begin) * k)), scales;
      std::vector<uint8_t> codes;
      context.rows(i, begin, end, w.data(), k);
      for (int64_t r = 0; r < end - begin; ++r) {
        const float* at = w.data() + r * k;
        scales.push_back(scale_of(at, k));
        for (int64_t j = 0; j < k; j += 2)
          codes.push_back(static_cast<uint8_t>(
              nearest(book, {at[j] / scales.back(), at[j + 1] / scales.back()})));
      }
      context.emit(i, "codes", begin, end, codes.data(), codes.size());
      context.emit(i, "row_scale", begin, end, scales.data(), scales.size() * sizeof(float));
    });
  }
  int64_t rounds_;
};

class Format final : public pluq::Format {
 public:
  pluq::FormatInfo describe() const override {
    return {"codebook_pairs",
            "",
            "pairs of weights from a learnt codebook of 256",
            {{"rounds", PLUQ_OPTION_INT, "8", 1, 100, "", "rounds of Lloyd's algorithm"}}};
  }
  pluq::ProbeResult probe(const pluq::ProbeRequest& r) override {
    return r.quant_method == "codebook_pairs" ? pluq::ProbeResult{900, "its own quant_method"}
                                              : pluq::ProbeResult{0, "another quant_method"};
  }
  std::unique_ptr<pluq::QuantizationConfig> create_config(const pluq::ConfigRequest&) override {
    return std::make_unique<Config>();
  }
  std::string algorithms() const override { return "lloyd"; }
  std::unique_ptr<pluq::Quantizer> create_quantizer(pluq::QuantizeRequest r) override {
    return std::make_unique<Quantizer>(std::move(r));
  }
  std::string write_config(const pluq::QuantizeRequest&, const std::vector<std::string>&) override {
    return R"({"quant_method": "codebook_pairs"})";
  }
};

}  // namespace

PLUQ_PLUGIN("example.codebook_pairs", "1.0.0", "codebook_pairs", Format)
