// SPDX-License-Identifier: Apache-2.0
// absmax = max|w| over a block of the flattened matrix, code = the table's value nearest to w /
// absmax. Nested statistics: the mean of all absmax is taken off, then blocks of 256 of them are
// rounded to dynamic_map() of their own largest.
#include "nf4/quantizer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "nf4/tables.h"

namespace nf4 {
namespace {

using namespace pluq;
constexpr int64_t kNestedBlock = 256;
constexpr size_t kStateBytes =
    320;  // the quant state, padded with spaces: its length must be known before its numbers

// The code of each interval between the midpoints of a table's sorted values.
class Rounder {
 public:
  explicit Rounder(const std::array<float, 16>& table) {
    std::array<uint8_t, 16> order{};
    std::iota(order.begin(), order.end(), uint8_t{0});
    // fp4 has two zeros; what is not below zero takes the positive one.
    std::sort(order.begin(), order.end(), [&](uint8_t a, uint8_t b) {
      return table[a] < table[b] || (table[a] == table[b] && a > b);
    });
    for (size_t i = 0; i < 16; ++i) {
      codes_[i] = order[i];
      if (i == 0) continue;
      bounds_[i - 1] = static_cast<float>(
          (static_cast<double>(table[order[i - 1]]) + static_cast<double>(table[order[i]])) / 2);
      if (table[order[i - 1]] == 0 && table[order[i]] == 0)
        bounds_[i - 1] = -std::numeric_limits<float>::denorm_min();
    }
  }
  uint8_t code(float x) const {
    return codes_[static_cast<size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), x) -
                                      bounds_.begin())];
  }

 private:
  std::array<float, 15> bounds_{};
  std::array<uint8_t, 16> codes_{};
};

class Nf4Quantizer final : public Quantizer {
 public:
  explicit Nf4Quantizer(QuantizeRequest r)
      : Quantizer(std::move(r)),
        type_(request().options.get("type").string_or("nf4")),
        block_(request().options.get("block_size").int_or(64)),
        nested_(request().options.get("double_quant").bool_or(false)) {
    for (const QuantizeLayer& l : request().layers) {
      if (l.in_features % 2 != 0) {
        throw unsupported(format("layer %s: in_features is %lld; nf4 needs an even number",
                                 l.name.c_str(), static_cast<long long>(l.in_features)));
      }
    }
  }

  std::vector<WeightSpec> output_specs(size_t layer) const override {
    const int64_t n = request().layers[layer].out_features * request().layers[layer].in_features,
                  b = blocks(n);
    std::vector<WeightSpec> out{
        spec("weight", PLUQ_DTYPE_U8, {n / 2, 1}),
        spec("weight.absmax", nested_ ? PLUQ_DTYPE_U8 : PLUQ_DTYPE_F32, {b}),
        spec("weight.quant_map", PLUQ_DTYPE_F32, {16}),
        spec(state_name(), PLUQ_DTYPE_U8, {static_cast<int64_t>(kStateBytes)})};
    if (nested_) {
      out.push_back(
          spec("weight.nested_absmax", PLUQ_DTYPE_F32, {(b + kNestedBlock - 1) / kNestedBlock}));
      out.push_back(spec("weight.nested_quant_map", PLUQ_DTYPE_F32, {256}));
    }
    return out;
  }

  void solve(const QuantizeContext& context) override {
    for (size_t i = 0; i < request().layers.size(); ++i) {
      const std::vector<float> absmax = emit_codes(context, i);
      const auto count = static_cast<int64_t>(absmax.size());
      context.emit(i, "weight.quant_map", 0, 16, table().data(), 16 * sizeof(float));
      float offset = 0;
      if (nested_) {
        offset = emit_nested(context, i, absmax);
      } else {
        context.emit(i, "weight.absmax", 0, count, absmax.data(), absmax.size() * sizeof(float));
      }
      emit_state(context, i, offset);
    }
  }

 private:
  static WeightSpec spec(std::string suffix, uint32_t dtype_id, std::vector<int64_t> shape) {
    WeightSpec s;
    s.suffix = std::move(suffix);
    s.dtype_id = dtype_id;
    s.shape = std::move(shape);
    return s;
  }
  std::string state_name() const { return "weight.quant_state.bitsandbytes__" + type_; }
  const std::array<float, 16>& table() const { return type_ == "fp4" ? kFp4 : kNf4; }
  int64_t blocks(int64_t elements) const { return (elements + block_ - 1) / block_; }

  // Emits the packed codes of a layer and returns the largest magnitude of every block.
  std::vector<float> emit_codes(const QuantizeContext& context, size_t index) const {
    const QuantizeLayer& l = request().layers[index];
    const int64_t k = l.in_features;
    const Rounder rounder(table());
    std::vector<float> absmax(static_cast<size_t>(blocks(k * l.out_features)));
    // Chunks of rows that hold whole blocks.
    const int64_t unit = block_ / std::gcd(block_, k), rows = (32 + unit - 1) / unit * unit;
    context.parallel_rows(l.out_features, rows, [&](int64_t begin, int64_t end) {
      const int64_t count = (end - begin) * k;
      std::vector<float> values(static_cast<size_t>(count));
      std::vector<uint8_t> packed(static_cast<size_t>(count / 2));
      context.rows(index, begin, end, values.data(), k);
      for (int64_t from = 0; from < count; from += block_) {
        const int64_t to = std::min(from + block_, count);
        float largest = 0;
        for (int64_t j = from; j < to; ++j)
          largest = std::max(largest, std::fabs(values[static_cast<size_t>(j)]));
        absmax[static_cast<size_t>((begin * k + from) / block_)] = largest;
        const float inverse = largest > 0 ? 1.0F / largest : 0.0F;
        for (int64_t j = from; j < to; ++j) {
          const uint8_t code = rounder.code(values[static_cast<size_t>(j)] * inverse);
          uint8_t& byte = packed[static_cast<size_t>(j / 2)];
          byte = static_cast<uint8_t>(byte | (j % 2 == 0 ? code << 4 : code));
        }
      }
      context.emit(index, "weight", begin * k / 2, end * k / 2, packed.data(), packed.size());
    });
    return absmax;
  }

  // Emits the rounded statistics; returns their offset.
  float emit_nested(const QuantizeContext& context, size_t index,
                    const std::vector<float>& absmax) const {
    double sum = 0;
    for (const float a : absmax) sum += static_cast<double>(a);
    const auto offset =
        static_cast<float>(sum / static_cast<double>(std::max<size_t>(absmax.size(), 1)));
    const std::vector<float> map = dynamic_map();
    std::vector<uint8_t> codes;
    std::vector<float> scales;
    for (size_t from = 0; from < absmax.size(); from += kNestedBlock) {
      const size_t to = std::min(from + static_cast<size_t>(kNestedBlock), absmax.size());
      float largest = 0;
      for (size_t j = from; j < to; ++j) largest = std::max(largest, std::fabs(absmax[j] - offset));
      scales.push_back(largest);
      for (size_t j = from; j < to; ++j) {
        codes.push_back(static_cast<uint8_t>(
            nearest(map, largest > 0 ? (absmax[j] - offset) / largest : 0.0F)));
      }
    }
    context.emit(index, "weight.absmax", 0, static_cast<int64_t>(codes.size()), codes.data(),
                 codes.size());
    context.emit(index, "weight.nested_absmax", 0, static_cast<int64_t>(scales.size()),
                 scales.data(), scales.size() * sizeof(float));
    context.emit(index, "weight.nested_quant_map", 0, 256, map.data(), map.size() * sizeof(float));
    return offset;
  }

  void emit_state(const QuantizeContext& context, size_t index, float offset) const {
    const QuantizeLayer& l = request().layers[index];
    const char* const dtype = request().model_dtype == PLUQ_DTYPE_F16   ? "float16"
                              : request().model_dtype == PLUQ_DTYPE_F32 ? "float32"
                                                                        : "bfloat16";
    std::string text = format(
        "{\"quant_type\": \"%s\", \"blocksize\": %lld, \"dtype\": \"%s\", \"shape\": [%lld, %lld]",
        type_.c_str(), static_cast<long long>(block_), dtype,
        static_cast<long long>(l.out_features), static_cast<long long>(l.in_features));
    if (nested_) {
      text += format(
          ", \"nested_blocksize\": %lld, \"nested_dtype\": \"float32\", \"nested_offset\": %.9g",
          static_cast<long long>(kNestedBlock), static_cast<double>(offset));
    }
    text += "}";
    text.resize(kStateBytes, ' ');
    context.emit(index, state_name(), 0, static_cast<int64_t>(text.size()), text.data(),
                 text.size());
  }

  std::string type_;
  int64_t block_;
  bool nested_;
};

}  // namespace

std::vector<Option> quantizer_options() {
  return {{"type", PLUQ_OPTION_STRING, "nf4", 1, 0, "nf4|fp4", "the table of 16 values"},
          {"block_size", PLUQ_OPTION_INT, "64", 1, 0, "64|128|256|512|1024|2048|4096",
           "weights that share a scale"},
          {"double_quant", PLUQ_OPTION_BOOL, "false", 1, 0, "", "round the scales to 8 bits too"}};
}

std::unique_ptr<Quantizer> make_quantizer(QuantizeRequest request) {
  return std::make_unique<Nf4Quantizer>(std::move(request));
}

std::string quantizer_config(const QuantizeRequest& request,
                             const std::vector<std::string>& plain) {
  const std::string names = json_strings(plain);
  const bool nested = request.options.get("double_quant").bool_or(false);
  return R"({"quant_method":"bitsandbytes","load_in_4bit":true,"load_in_8bit":false,"bnb_4bit_compute_dtype":"bfloat16",)"
         R"("bnb_4bit_quant_storage":"uint8","bnb_4bit_quant_type":")" +
         request.options.get("type").string_or("nf4") + R"(","bnb_4bit_use_double_quant":)" +
         (nested ? "true" : "false") + R"(,"llm_int8_threshold":6.0,"llm_int8_skip_modules":[)" +
         names + R"(],"meta":{"quantizer":["pluq:0.9.0"]}})";
}

}  // namespace nf4
