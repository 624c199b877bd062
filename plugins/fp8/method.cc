// SPDX-License-Identifier: Apache-2.0
#include "fp8/method.h"

#include <cmath>
#include <numeric>

#include "pluq/cpu/tables.hpp"
#include "pluq/cuda/quantized/byte_linear.hpp"
#include "pluq/float8.hpp"
#include "pluq/scale_table.hpp"

namespace fp8 {
namespace {

using namespace pluq;

const Tensor& find_scales(const LayerDesc& layer) {
  for (const char* name : {"weight_scale", "weight_scale_inv", "scale"}) {
    if (const Tensor* t = layer.tensors.find(name)) return *t;
  }
  throw invalid(
      "layer " + layer.name +
      ": an 8-bit float weight without 'weight_scale' or 'weight_scale_inv'; the layer holds " +
      layer.tensors_text());
}

class Fp8Method final : public cpu::FloatLinear {
 public:
  Fp8Method(const LayerDesc& layer, const Device& device, const Settings& settings)
      : FloatLinear(layer, device, cpu::float_tables()),
        settings_(settings),
        weight_dtype_(layer.tensors.at("weight").dtype_id()),
        scale_name_(find_scales(layer).name()),
        table_(layer, find_scales(layer), settings.block_n, settings.block_k) {
    if (const Tensor* i = layer.tensors.find("input_scale")) {
      const int64_t count = i->elements();
      if (count != 1 && count != static_cast<int64_t>(layer.output_parts.size())) {
        throw invalid("layer " + layer.name + ": input_scale is " + i->text() +
                      ", expected one scale, or one for each part of a fused weight");
      }
      has_input_scale_ = true;
      input_spec_ = shard::spec("input_scale", i->dtype_id(), i->shape(), {});
      input_spec_.sample = Sample::real(0.01, 0.02);
    } else if (settings.rounding == Rounding::kStatic) {
      throw invalid("layer " + layer.name +
                    ": activations are static, but tensor 'input_scale' is missing");
    }
    choose_rounding();
  }

  MethodInfo describe() const override {
    MethodInfo info;
    static const char* const rounding[] = {"", " a8 token", " a8 group", " a8 static"};
    info.scheme = std::string(weight_dtype_ == PLUQ_DTYPE_F8_E4M3 ? "e4m3 " : "e5m2 ") +
                  table_.text() + rounding[static_cast<int>(settings_.rounding)];
    info.kernel = kernel_name();
    ActivationScheme& a = info.activations;
    info.arithmetic = PLUQ_ARITHMETIC_F32;
    if (input_.round != cpu::FloatRound::kNone) {
      info.arithmetic = PLUQ_ARITHMETIC_CHECKPOINT;
      a.strategy = input_.round == cpu::FloatRound::kToken   ? PLUQ_STRATEGY_TOKEN
                   : input_.round == cpu::FloatRound::kGroup ? PLUQ_STRATEGY_GROUP
                                                             : PLUQ_STRATEGY_TENSOR;
      a.dtype_id = PLUQ_DTYPE_F8_E4M3;
      a.group_size = input_.group_size;
      a.dynamic = input_.round != cpu::FloatRound::kStatic;
      a.divisor = 448;
      if (!a.dynamic) a.static_scale_suffix = "input_scale";
    }
    info.error_bound = 1e-5;
    info.bits_per_weight = 8 + 32.0 * static_cast<double>(table_.count()) /
                                   static_cast<double>(layer().in_features * layer().out_features);
    return info;
  }

  std::vector<WeightSpec> create_weights() const override {
    std::vector<WeightSpec> out{
        shard::spec("weight", weight_dtype_, {layer().out_features, layer().in_features},
                    {shard::outputs(layer()), shard::inputs(layer())}),
        table_.spec(layer())};
    out[0].sample = Sample::bytes();
    out[0].input_dim = 1;
    out[0].output_dim = 0;
    if (has_input_scale_) out.push_back(input_spec_);
    return out;
  }

  void dequantize(const Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    const Tensor &w = tensors.at("weight"), &s = tensors.at(scale_name_);
    const int64_t k = layer().k();
    for (int64_t n = n_begin; n < n_end; ++n) {
      for (int64_t i = 0; i < k; ++i) {
        const uint8_t code = w.data()[n * k + i];
        const float value =
            weight_dtype_ == PLUQ_DTYPE_F8_E4M3 ? float8::from_e4m3(code) : float8::from_e5m2(code);
        out[(n - n_begin) * ld + i] = value * multiplier(s, table_.index(layer(), s, n, i));
      }
    }
  }

  // Whether the 8-bit CUDA kernels fit the runs of columns that share a scale.
  bool fits_cuda() const {
    const int64_t group = table_.kind() == ScaleTable::Kind::kBlock
                              ? std::gcd(table_.block_k(), layer().in_begin)
                              : 0;
    const int64_t round = input_.round == cpu::FloatRound::kGroup ? input_.group_size : 0;
    return cuda::byte_groups_fit(layer().k(), group, round);
  }
  bool e5m2() const { return weight_dtype_ == PLUQ_DTYPE_F8_E5M2; }
  bool rounds() const { return input_.round != cpu::FloatRound::kNone; }

  void fill(std::string_view, uint64_t seed, uint8_t* data, uint64_t bytes) override {
    for (uint64_t i = 0; i < bytes; ++i) {  // every code but NaN and infinity
      seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
      data[i] = static_cast<uint8_t>(seed >> 56) & 0xf7;
      if (weight_dtype_ == PLUQ_DTYPE_F8_E5M2) data[i] &= 0xbf;
    }
  }

 protected:
  void settle(const Tensors& tensors) override {
    weights_.type =
        weight_dtype_ == PLUQ_DTYPE_F8_E4M3 ? cpu::FloatType::kE4m3 : cpu::FloatType::kE5m2;
    check_codes(tensors.at("weight"));
    const Tensor& s = tensors.at(scale_name_);
    check_scales(s);
    // The kernel counts blocks from the shard's own first row and column. Where the shard begins
    // inside a block, blocks as long as the distance's common divisor fit both.
    const bool blocks = table_.kind() == ScaleTable::Kind::kBlock;
    weights_.scale = blocks ? cpu::FloatScale::kBlock : cpu::FloatScale::kRow;
    weights_.block_n = blocks ? std::gcd(table_.block_n(), layer().out_begin) : 1;
    weights_.block_k = blocks ? std::gcd(table_.block_k(), layer().in_begin) : layer().k();
    scales_.clear();
    for (int64_t n = 0; n < layer().n(); n += weights_.block_n) {
      for (int64_t k = 0; k < layer().k(); k += weights_.block_k)
        scales_.push_back(multiplier(s, table_.index(layer(), s, n, k)));
    }
    if (input_.round == cpu::FloatRound::kStatic) settle_input_scale(tensors.at("input_scale"));
  }

 private:
  void choose_rounding() {
    if (layer().float_activations) return;
    const LayerDesc& l = layer();
    switch (settings_.rounding) {
      case Rounding::kNone:
        return;
      case Rounding::kToken:
        if (shard::splits_inputs(l)) {
          throw unsupported(
              "layer " + l.name +
              ": activations are rounded per token over all of K, so K cannot be split");
        }
        input_.round = cpu::FloatRound::kToken;
        input_bound_ = settings_.bound;
        return;
      case Rounding::kGroup:
        shard::need_multiple(l, shard::inputs(l), l.in_features, settings_.group_size,
                             "columns whose activations are rounded in groups");
        input_.round = cpu::FloatRound::kGroup;
        input_.group_size = settings_.group_size;
        return;
      case Rounding::kStatic:
        input_.round = cpu::FloatRound::kStatic;
        return;
    }
  }

  float multiplier(const Tensor& s, int64_t i) const {
    const float value = scale_value(s, i);
    return settings_.inverse ? 1.0F / value : value;
  }

  void check_codes(const Tensor& w) const {
    for (int64_t i = 0; i < w.elements(); ++i) {
      const uint8_t low = w.data()[i] & 0x7f;
      const bool bad = weight_dtype_ == PLUQ_DTYPE_F8_E4M3 ? low == 0x7f : low >= 0x7c;
      if (bad) {
        throw invalid(format("layer %s: weight[%lld, %lld] is the code 0x%02x, which is no number",
                             layer().name.c_str(), static_cast<long long>(i / layer().k()),
                             static_cast<long long>(i % layer().k()), w.data()[i]));
      }
    }
  }

  // All must be finite numbers, and of a size that weights can have: those of real models are far
  // below 448, so a multiplier is small and its inverse large.
  void check_scales(const Tensor& s) const {
    double mean = 0;
    for (int64_t i = 0; i < s.elements(); ++i) {
      const float scale = multiplier(s, i);
      if (!std::isfinite(scale)) {
        throw invalid(format("layer %s: %s holds %g at %lld, which gives no finite scale",
                             layer().name.c_str(), scale_name_.c_str(),
                             static_cast<double>(scale_value(s, i)), static_cast<long long>(i)));
      }
      mean += std::fabs(static_cast<double>(scale)) / static_cast<double>(s.elements());
    }
    if (mean <= 4) return;
    log(PLUQ_LOG_WARNING, format("layer %s: %s scales the weights by %g on average, which no real "
                                 "model has; perhaps the config's "
                                 "weight_scale_semantics '%s' is wrong",
                                 layer().name.c_str(), scale_name_.c_str(), mean,
                                 settings_.inverse ? "inverse" : "multiplier"));
  }

  void settle_input_scale(const Tensor& t) {
    input_.static_scale = 0;
    for (int64_t i = 0; i < t.elements(); ++i) {
      const float s = t.real(i);
      if (!(s > 0) || !std::isfinite(s)) {
        throw invalid(format("layer %s: input_scale is %g, expected a number above 0",
                             layer().name.c_str(), static_cast<double>(s)));
      }
      input_.static_scale = std::max(input_.static_scale, s);
    }
  }

  Settings settings_;
  uint32_t weight_dtype_;
  std::string scale_name_;
  ScaleTable table_;
  bool has_input_scale_ = false;
  WeightSpec input_spec_;
};

// The same layer on a CUDA device; `method` outlives it.
class Fp8OnDevice final : public cuda::ByteLinear {
 public:
  Fp8OnDevice(Fp8Method* method, const Device& device)
      : ByteLinear(method->layer(), device), method_(method) {
    name_kernel(method->e5m2() ? cuda::ByteType::kE5m2 : cuda::ByteType::kE4m3, method->rounds());
  }

 protected:
  cuda::ByteFacts facts(const Tensors& tensors) override {
    const cpu::FloatLinear::Facts f = method_->facts(tensors);
    cuda::ByteFacts out;
    out.type = method_->e5m2() ? cuda::ByteType::kE5m2 : cuda::ByteType::kE4m3;
    out.scales = f.scales;
    out.scale_rows = f.weights.block_n;
    out.group = f.weights.scale == cpu::FloatScale::kBlock ? f.weights.block_k : 0;
    out.rounds = method_->rounds();
    out.mode = f.input.round == cpu::FloatRound::kToken   ? cuda::RoundMode::kFp8Token
               : f.input.round == cpu::FloatRound::kGroup ? cuda::RoundMode::kFp8Group
                                                          : cuda::RoundMode::kFp8Static;
    out.round_group = f.input.group_size;
    out.static_scale = f.input.static_scale;
    out.bound = f.input_bound;
    return out;
  }

 private:
  Fp8Method* method_;
};

}  // namespace

bool has_tensors(const LayerDesc& layer) {
  const Tensor* w = layer.tensors.find("weight");
  return w != nullptr &&
         (w->dtype_id() == PLUQ_DTYPE_F8_E4M3 || w->dtype_id() == PLUQ_DTYPE_F8_E5M2);
}

std::unique_ptr<LinearMethod> make_method(const LayerDesc& layer, const Device& device,
                                          const Settings& settings) {
  auto method = std::make_unique<Fp8Method>(layer, device, settings);
  if (!device.is_cuda() || !cuda::has_ops(device.kind) || !method->fits_cuda()) return method;
  auto on_device = std::make_unique<Fp8OnDevice>(method.get(), device);
  return std::make_unique<cuda::DeviceMethod>(std::move(method), std::move(on_device), device.kind);
}

}  // namespace fp8
