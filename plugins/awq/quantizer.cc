// SPDX-License-Identifier: Apache-2.0
// Per group of a row: scale = max(max - min, 1e-5) / 15, zero = clamp(-round(min / scale), 0, 15),
// code = clamp(round(w / scale) + zero, 0, 15). The range need not contain 0.
#include "awq/quantizer.h"

#include <algorithm>
#include <cmath>

#include "awq/method.h"
#include "pluq/pack.hpp"

namespace awq {
namespace {

using namespace pluq;

int64_t group_option(const QuantizeRequest& r) { return r.options.get("group_size").int_or(128); }
Layout layout_option(const QuantizeRequest& r) {
  const std::string name = r.options.get("layout").string_or("gemm");
  if (name == "gemm") return Layout::kGemm;
  if (name == "gemv") return Layout::kGemv;
  if (name == "gemv_fast") return Layout::kTiles;
  throw invalid("layout is '" + name + "'; accepted are gemm, gemv and gemv_fast");
}

class AwqQuantizer final : public Quantizer {
 public:
  explicit AwqQuantizer(QuantizeRequest r)
      : Quantizer(std::move(r)),
        option_(group_option(request())),
        layout_(layout_option(request())) {
    if (option_ == 0 || option_ < -1) throw invalid("group_size must be -1 or at least 1");
    for (const QuantizeLayer& l : request().layers) check_shape(l);
  }

  std::vector<WeightSpec> output_specs(size_t layer) const override {
    const QuantizeLayer& l = request().layers[layer];
    const int64_t k = l.in_features, n = l.out_features, groups = k / size_of(l),
                  padded = 8 * zero_words(k, size_of(l));
    switch (layout_) {
      case Layout::kGemv:
        return {spec("qweight", PLUQ_DTYPE_I32, {n, k / 8}),
                spec("qzeros", PLUQ_DTYPE_I32, {n, padded / 8}),
                spec("scales", PLUQ_DTYPE_F16, {n, padded})};
      case Layout::kTiles:
        return {spec("qweight", PLUQ_DTYPE_I16, {n / 4, k}),
                spec("qzeros", PLUQ_DTYPE_F16, {padded, n}),
                spec("scales", PLUQ_DTYPE_F16, {padded, n})};
      case Layout::kGemm:
        break;
    }
    return {spec("qweight", PLUQ_DTYPE_I32, {k, n / 8}),
            spec("qzeros", PLUQ_DTYPE_I32, {groups, n / 8}),
            spec("scales", PLUQ_DTYPE_F16, {groups, n})};
  }

  void solve(const QuantizeContext& context) override {
    for (size_t i = 0; i < request().layers.size(); ++i) solve_layer(context, i);
  }

 private:
  // A layer's tensors as they are made.
  struct Tables {
    std::vector<uint32_t> qweight, qzeros;  // gemm, gemv
    std::vector<uint16_t> tiles, offsets;   // gemv_fast
    std::vector<uint16_t> scales;
  };

  int64_t size_of(const QuantizeLayer& l) const { return option_ < 0 ? l.in_features : option_; }

  static WeightSpec spec(const char* suffix, uint32_t dtype_id, std::vector<int64_t> shape) {
    WeightSpec s;
    s.suffix = suffix;
    s.dtype_id = dtype_id;
    s.shape = std::move(shape);
    return s;
  }

  void check_shape(const QuantizeLayer& l) const {
    const int64_t k_unit = layout_ == Layout::kGemm ? 1 : layout_ == Layout::kGemv ? 8 : 64;
    const int64_t n_unit = layout_ == Layout::kGemm ? 8 : layout_ == Layout::kGemv ? 1 : 4;
    const int64_t size = size_of(l);
    if (l.in_features % size != 0 || l.in_features % k_unit != 0 || l.out_features % n_unit != 0) {
      throw unsupported(
          format("K = %lld, N = %lld: AWQ's %s layout needs K to be a multiple of the group size "
                 "%lld and of %lld, N of %lld",
                 static_cast<long long>(l.in_features), static_cast<long long>(l.out_features),
                 layout_name(layout_), static_cast<long long>(size), static_cast<long long>(k_unit),
                 static_cast<long long>(n_unit)));
    }
    if (layout_ != Layout::kGemm && size != 32 && size != 64 && size < 128) {
      throw unsupported(format("group_size is %lld; AWQ's %s layout has 32, 64 and from 128 on",
                               static_cast<long long>(size), layout_name(layout_)));
    }
  }

  Tables make_tables(const QuantizeLayer& l) const {
    const int64_t k = l.in_features, n = l.out_features, groups = k / size_of(l),
                  padded = 8 * zero_words(k, size_of(l));
    Tables t;
    if (layout_ == Layout::kTiles) {
      t.tiles.resize(static_cast<size_t>(n / 4 * k));
      t.offsets.resize(static_cast<size_t>(padded * n));
    } else {
      t.qweight.resize(static_cast<size_t>(n * k / 8));
      t.qzeros.resize(
          static_cast<size_t>(layout_ == Layout::kGemm ? groups * n / 8 : n * padded / 8));
    }
    t.scales.resize(static_cast<size_t>((layout_ == Layout::kGemm ? groups : padded) * n));
    return t;
  }

  void put_group(const QuantizeLayer& l, int64_t n, int64_t g, uint16_t scale, int zero,
                 Tables* t) const {
    const int64_t width = l.out_features, padded = 8 * zero_words(l.in_features, size_of(l));
    const auto code = static_cast<uint32_t>(zero);
    if (layout_ == Layout::kGemv) {
      t->scales[static_cast<size_t>(n * padded + g)] = scale;
      pack::put_stream_code(t->qzeros.data() + n * padded / 8, 1, 4, g, code);
      return;
    }
    t->scales[static_cast<size_t>(g * width + n)] = scale;
    if (layout_ == Layout::kGemm) {
      pack::put_awq_code(t->qzeros.data(), width / 8, g, n, code);
    } else {
      t->offsets[static_cast<size_t>(g * width + n)] =
          float_to_half(-Tensor::half(scale) * static_cast<float>(zero));
    }
  }
  void put_code(const QuantizeLayer& l, int64_t n, int64_t k, int code, Tables* t) const {
    const auto c = static_cast<uint32_t>(code);
    switch (layout_) {
      case Layout::kGemm:
        pack::put_awq_code(t->qweight.data(), l.out_features / 8, k, n, c);
        break;
      case Layout::kGemv:
        pack::put_stream_code(t->qweight.data() + n * l.in_features / 8, 1, 4, k, c);
        break;
      case Layout::kTiles:
        pack::put_awq_tile_code(t->tiles.data(), l.in_features, n, k, c);
        break;
    }
  }

  void solve_layer(const QuantizeContext& context, size_t index) {
    const QuantizeLayer& l = request().layers[index];
    const int64_t k = l.in_features, size = size_of(l), groups = k / size;
    Tables t = make_tables(l);
    // Chunks of eight rows, so that no two workers share a word.
    context.parallel_rows(l.out_features, 8, [&](int64_t begin, int64_t end) {
      std::vector<float> rows(static_cast<size_t>((end - begin) * k));
      context.rows(index, begin, end, rows.data(), k);
      for (int64_t n = begin; n < end; ++n) {
        const float* row = rows.data() + (n - begin) * k;
        for (int64_t g = 0; g < groups; ++g) {
          const auto [lo, hi] = std::minmax_element(row + g * size, row + (g + 1) * size);
          uint16_t bits = float_to_half(std::max(*hi - *lo, 1e-5F) / 15);
          if ((bits & 0x7fff) == 0) bits = 1;
          const float scale = Tensor::half(bits);
          const int zero = static_cast<int>(std::clamp(-std::nearbyint(*lo / scale), 0.0F, 15.0F));
          put_group(l, n, g, bits, zero, &t);
          for (int64_t i = g * size; i < (g + 1) * size; ++i) {
            const float code =
                std::clamp(std::nearbyint(row[i] / scale) + static_cast<float>(zero), 0.0F, 15.0F);
            put_code(l, n, i, static_cast<int>(code), &t);
          }
        }
      }
    });
    emit(context, index, t);
  }

  void emit(const QuantizeContext& context, size_t index, const Tables& t) const {
    const std::vector<WeightSpec> specs = output_specs(index);
    const bool tiles = layout_ == Layout::kTiles;
    const void* const data[] = {
        tiles ? static_cast<const void*>(t.tiles.data()) : t.qweight.data(),
        tiles ? static_cast<const void*>(t.offsets.data()) : t.qzeros.data(), t.scales.data()};
    for (size_t i = 0; i < 3; ++i) {
      const auto count = static_cast<uint64_t>(specs[i].shape[0] * specs[i].shape[1]);
      context.emit(index, specs[i].suffix, 0, specs[i].shape[0], data[i],
                   count * dtype(specs[i].dtype_id).block_bytes);
    }
  }

  int64_t option_;
  Layout layout_;
};

}  // namespace

std::vector<Option> quantizer_options() {
  return {{"group_size", PLUQ_OPTION_INT, "128", -1, 1 << 20, "",
           "weights that share a scale; -1: a whole row"},
          {"layout", PLUQ_OPTION_STRING, "gemm", 1, 0, "gemm|gemv|gemv_fast",
           "how the codes lie in the file"}};
}

std::unique_ptr<Quantizer> make_quantizer(QuantizeRequest request) {
  return std::make_unique<AwqQuantizer>(std::move(request));
}

std::string quantizer_config(const QuantizeRequest& request,
                             const std::vector<std::string>& plain) {
  const std::string names = json_strings(plain);
  return format(
             R"({"quant_method":"awq","version":"%s","bits":4,"group_size":%lld,"zero_point":true,)",
             layout_name(layout_option(request)), static_cast<long long>(group_option(request))) +
         R"("modules_to_not_convert":[)" + names + R"(],"meta":{"quantizer":["pluq:0.9.0"]}})";
}

}  // namespace awq
