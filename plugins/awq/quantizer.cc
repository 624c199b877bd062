// SPDX-License-Identifier: Apache-2.0
// Per group of a row: scale = max(max - min, 1e-5) / 15, zero = clamp(-round(min / scale), 0, 15),
// code = clamp(round(w / scale) + zero, 0, 15). The range need not contain 0.
#include "awq/quantizer.h"

#include <algorithm>
#include <cmath>

#include "pluq/pack.hpp"

namespace awq {
namespace {

using namespace pluq;

int64_t group_option(const QuantizeRequest& r) { return r.options.get("group_size").int_or(128); }

class AwqQuantizer final : public Quantizer {
 public:
  explicit AwqQuantizer(QuantizeRequest r) : Quantizer(std::move(r)), option_(group_option(request())) {
    if (option_ == 0 || option_ < -1) throw invalid("group_size must be -1 or at least 1");
    for (const QuantizeLayer& l : request().layers) {
      if (l.in_features % size_of(l) != 0 || l.out_features % 8 != 0) {
        throw unsupported(format("K = %lld, N = %lld: AWQ needs K to be a multiple of the group size %lld and N of 8",
                                 static_cast<long long>(l.in_features), static_cast<long long>(l.out_features),
                                 static_cast<long long>(size_of(l))));
      }
    }
  }

  std::vector<WeightSpec> output_specs(size_t layer) const override {
    const QuantizeLayer& l = request().layers[layer];
    const int64_t groups = l.in_features / size_of(l);
    WeightSpec q, z, s;
    q.suffix = "qweight";
    q.dtype_id = PLUQ_DTYPE_I32;
    q.shape = {l.in_features, l.out_features / 8};
    z.suffix = "qzeros";
    z.dtype_id = PLUQ_DTYPE_I32;
    z.shape = {groups, l.out_features / 8};
    s.suffix = "scales";
    s.dtype_id = PLUQ_DTYPE_F16;
    s.shape = {groups, l.out_features};
    return {q, z, s};
  }

  void solve(const QuantizeContext& context) override {
    for (size_t i = 0; i < request().layers.size(); ++i) solve_layer(context, i);
  }

 private:
  int64_t size_of(const QuantizeLayer& l) const { return option_ < 0 ? l.in_features : option_; }

  void solve_layer(const QuantizeContext& context, size_t index) {
    const QuantizeLayer& l = request().layers[index];
    const int64_t k = l.in_features, n_count = l.out_features, size = size_of(l), groups = k / size, words = n_count / 8;
    std::vector<uint32_t> qweight(static_cast<size_t>(k * words)), qzeros(static_cast<size_t>(groups * words));
    std::vector<uint16_t> scales(static_cast<size_t>(groups * n_count));
    // Chunks of eight rows, so that no two workers share a word.
    context.parallel_rows(n_count, 8, [&](int64_t begin, int64_t end) {
      std::vector<float> rows(static_cast<size_t>((end - begin) * k));
      context.rows(index, begin, end, rows.data(), k);
      for (int64_t n = begin; n < end; ++n) {
        const float* row = rows.data() + (n - begin) * k;
        const int shift = 4 * pack::kAwqNibble[n % 8];
        for (int64_t g = 0; g < groups; ++g) {
          const auto [lo, hi] = std::minmax_element(row + g * size, row + (g + 1) * size);
          uint16_t bits = float_to_half(std::max(*hi - *lo, 1e-5F) / 15);
          if ((bits & 0x7fff) == 0) bits = 1;
          const float scale = Tensor::half(bits);
          const int zero = std::clamp(-static_cast<int>(std::nearbyint(*lo / scale)), 0, 15);
          scales[static_cast<size_t>(g * n_count + n)] = bits;
          qzeros[static_cast<size_t>(g * words + n / 8)] |= static_cast<uint32_t>(zero) << shift;
          for (int64_t i = g * size; i < (g + 1) * size; ++i) {
            const int code = std::clamp(static_cast<int>(std::nearbyint(row[i] / scale)) + zero, 0, 15);
            qweight[static_cast<size_t>(i * words + n / 8)] |= static_cast<uint32_t>(code) << shift;
          }
        }
      }
    });
    context.emit(index, "qweight", 0, k, qweight.data(), qweight.size() * 4);
    context.emit(index, "qzeros", 0, groups, qzeros.data(), qzeros.size() * 4);
    context.emit(index, "scales", 0, groups, scales.data(), scales.size() * 2);
  }

  int64_t option_;
};

}  // namespace

std::vector<Option> quantizer_options() {
  return {{"group_size", PLUQ_OPTION_INT, "128", -1, 1 << 20, "", "weights that share a scale; -1: a whole row"}};
}

std::unique_ptr<Quantizer> make_quantizer(QuantizeRequest request) {
  return std::make_unique<AwqQuantizer>(std::move(request));
}

std::string quantizer_config(const QuantizeRequest& request, const std::vector<std::string>& plain) {
  std::string names;
  for (const std::string& name : plain) names += (names.empty() ? "\"" : ",\"") + name + "\"";
  return format(R"({"quant_method":"awq","version":"gemm","bits":4,"group_size":%lld,"zero_point":true,)",
                static_cast<long long>(group_option(request))) +
         R"("modules_to_not_convert":[)" + names + R"(],"meta":{"quantizer":["pluq:0.9.0"]}})";
}

}  // namespace awq
