// SPDX-License-Identifier: Apache-2.0
// Per group of a row: sym: scale = 2 max|w| / (2^b - 1), zero = 2^(b-1); asym: scale = (max - min)
// / (2^b - 1) with 0 in the range, zero = round(-min / scale). code = clamp(round(w / scale) +
// zero).
#include "gptq/quantizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "pluq/pack.hpp"

namespace gptq {
namespace {

using namespace pluq;

struct Grid {
  int bits = 4;
  int64_t group_size = 128;
  bool sym = true;
  uint32_t scale_dtype = PLUQ_DTYPE_F16;
};

Grid read_grid(const QuantizeRequest& request) {
  Grid g;
  g.bits = static_cast<int>(request.options.get("bits").int_or(4));
  g.group_size = request.options.get("group_size").int_or(128);
  g.sym = request.options.get("sym").bool_or(true);
  return g;
}

class GptqQuantizer final : public Quantizer {
 public:
  explicit GptqQuantizer(QuantizeRequest r) : Quantizer(std::move(r)), grid_(read_grid(request())) {
    if (grid_.group_size == 0 || grid_.group_size < -1)
      throw invalid("group_size must be -1 or at least 1");
    for (const QuantizeLayer& l : request().layers) {
      if (l.in_features % 32 != 0 || l.out_features % 32 != 0) {
        throw unsupported(format("K = %lld and N = %lld: the GPTQ layout needs multiples of 32",
                                 static_cast<long long>(l.in_features),
                                 static_cast<long long>(l.out_features)));
      }
    }
  }

  std::vector<WeightSpec> output_specs(size_t layer) const override {
    const QuantizeLayer& l = request().layers[layer];
    const int64_t groups = num_groups(l);
    const auto spec = [](const char* suffix, uint32_t dtype, std::vector<int64_t> shape) {
      WeightSpec s;
      s.suffix = suffix;
      s.dtype_id = dtype;
      s.shape = std::move(shape);
      return s;
    };
    return {
        spec("qweight", PLUQ_DTYPE_I32,
             {pack::stream_words(l.in_features, grid_.bits), l.out_features}),
        spec("qzeros", PLUQ_DTYPE_I32, {groups, pack::stream_words(l.out_features, grid_.bits)}),
        spec("scales", grid_.scale_dtype, {groups, l.out_features}),
        spec("g_idx", PLUQ_DTYPE_I32, {l.in_features})};
  }

  void solve(const QuantizeContext& context) override {
    for (size_t i = 0; i < request().layers.size(); ++i) solve_layer(context, i);
  }

 private:
  int64_t size_of(const QuantizeLayer& l) const {
    return grid_.group_size < 0 ? l.in_features : grid_.group_size;
  }
  int64_t num_groups(const QuantizeLayer& l) const {
    return (l.in_features + size_of(l) - 1) / size_of(l);
  }

  // The tensors have K as their outer dimension, so a layer's codes are gathered whole (b bits
  // each) and emitted once.
  void solve_layer(const QuantizeContext& context, size_t index) {
    const QuantizeLayer& l = request().layers[index];
    const int64_t k = l.in_features, n_count = l.out_features, groups = num_groups(l),
                  size = size_of(l);
    const int64_t words = pack::stream_words(k, grid_.bits),
                  zero_words = pack::stream_words(n_count, grid_.bits);
    std::vector<uint32_t> qweight(static_cast<size_t>(words * n_count)),
        qzeros(static_cast<size_t>(groups * zero_words));
    std::vector<uint16_t> scales(static_cast<size_t>(groups * n_count));
    std::vector<uint8_t> zeros(scales.size());
    context.parallel_rows(n_count, 32, [&](int64_t begin, int64_t end) {
      std::vector<float> rows(static_cast<size_t>((end - begin) * k));
      context.rows(index, begin, end, rows.data(), k);
      for (int64_t n = begin; n < end; ++n) {
        const float* row = rows.data() + (n - begin) * k;
        for (int64_t g = 0; g < groups; ++g) {
          const int64_t from = g * size, to = std::min(from + size, k);
          const auto at = static_cast<size_t>(g * n_count + n);
          round_group(row, from, to, &scales[at], &zeros[at], qweight.data() + n, n_count);
        }
      }
    });
    const int levels = (1 << grid_.bits) - 1;
    for (int64_t g = 0; g < groups; ++g) {
      for (int64_t n = 0; n < n_count; ++n) {
        // Version 1 stores zero - 1; in asym grids zero is at least 1 (see round_group).
        const auto stored = static_cast<uint32_t>(zeros[static_cast<size_t>(g * n_count + n)] - 1) &
                            static_cast<uint32_t>(levels);
        pack::put_stream_code(qzeros.data() + g * zero_words, 1, grid_.bits, n, stored);
      }
    }
    std::vector<int32_t> g_idx(static_cast<size_t>(k));
    for (int64_t i = 0; i < k; ++i) g_idx[static_cast<size_t>(i)] = static_cast<int32_t>(i / size);
    context.emit(index, "qweight", 0, words, qweight.data(), qweight.size() * 4);
    context.emit(index, "qzeros", 0, groups, qzeros.data(), qzeros.size() * 4);
    context.emit(index, "scales", 0, groups, scales.data(), scales.size() * 2);
    context.emit(index, "g_idx", 0, k, g_idx.data(), g_idx.size() * 4);
  }

  // Codes go down the column of one output row; scales are rounded to f16 first, so that codes fit
  // what is stored.
  void round_group(const float* row, int64_t from, int64_t to, uint16_t* scale_bits,
                   uint8_t* zero_out, uint32_t* column, int64_t stride) const {
    const int levels = (1 << grid_.bits) - 1;
    float lo = 0, hi = 0;
    for (int64_t i = from; i < to; ++i) {
      lo = std::min(lo, row[i]);
      hi = std::max(hi, row[i]);
    }
    if (grid_.sym) {
      hi = std::max(hi, -lo);
      lo = -hi;
    }
    if (lo == hi) {
      lo = -1;
      hi = 1;
    }
    float scale = (hi - lo) / static_cast<float>(levels);
    *scale_bits = float_to_half(scale);
    if ((*scale_bits & 0x7fff) == 0) *scale_bits = 1;  // below f16: the smallest step there is
    if ((*scale_bits & 0x7c00) == 0x7c00) *scale_bits = 0x7bff;
    scale = Tensor::half(*scale_bits);
    int zero = 1 << (grid_.bits - 1);
    if (!grid_.sym) {
      // A stored zero - 1 must not borrow from its neighbour: a zero point of 0 becomes 1, half a
      // step off at most.
      zero = std::clamp(static_cast<int>(std::lround(-lo / scale)), 1, levels);
    }
    *zero_out = static_cast<uint8_t>(zero);
    for (int64_t i = from; i < to; ++i) {
      const int code =
          std::clamp(static_cast<int>(std::nearbyint(row[i] / scale)) + zero, 0, levels);
      pack::put_stream_code(column, stride, grid_.bits, i, static_cast<uint32_t>(code));
    }
  }

  Grid grid_;
};

}  // namespace

std::vector<Option> quantizer_options() {
  return {{"bits", PLUQ_OPTION_INT, "4", 1, 0, "2|3|4|8", "bits of a weight"},
          {"group_size", PLUQ_OPTION_INT, "128", -1, 1 << 20, "",
           "weights that share a scale; -1: a whole row"},
          {"sym", PLUQ_OPTION_BOOL, "true", 1, 0, "", "no zero points"}};
}

std::unique_ptr<Quantizer> make_quantizer(QuantizeRequest request) {
  return std::make_unique<GptqQuantizer>(std::move(request));
}

std::string quantizer_config(const QuantizeRequest& request) {
  const Grid g = read_grid(request);
  return format(
      R"({"quant_method":"gptq","checkpoint_format":"gptq","bits":%d,"group_size":%lld,"sym":%s,"desc_act":false,)"
      R"("lm_head":false,"pack_dtype":"int32","meta":{"quantizer":["pluq:0.9.0"]}})",
      g.bits, static_cast<long long>(g.group_size), g.sym ? "true" : "false");
}

}  // namespace gptq
