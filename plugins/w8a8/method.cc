// SPDX-License-Identifier: Apache-2.0
#include "w8a8/method.h"

#include <cmath>

#include "pluq/cpu/tables.hpp"

namespace w8a8 {
namespace {

using namespace pluq;

enum class Inputs { kFloat, kToken, kTokenAsym, kStatic };

class Int8Method final : public cpu::IntLinear {
 public:
  Int8Method(const LayerDesc& layer, const Device& device, Inputs inputs)
      : IntLinear(layer, device, cpu::int_tables()), inputs_(inputs), scale_dtype_(layer.tensors.at("weight_scale").dtype_id()),
        scale_shape_(layer.tensors.at("weight_scale").shape()) {
    if (!layer.whole()) throw unsupported("layer " + layer.name + ": split layers are not built yet");
    bits_ = 8;
    num_groups_ = 1;
    group_size_ = -1;
    zero_constant_ = 128;
    const Tensor* zero = layer.tensors.find("input_zero_point");
    has_zero_ = zero != nullptr;
    if (has_zero_) zero_shape_ = zero->shape();
    if (const Tensor* s = layer.tensors.find("input_scale")) {
      input_dtype_ = s->dtype_id();
      input_shape_ = s->shape();
    } else if (inputs == Inputs::kStatic) {
      throw invalid("layer " + layer.name + ": activations are static, but tensor 'input_scale' is missing");
    }
    if (layer.float_activations || inputs == Inputs::kFloat) {
      // Nothing says how to round: exact digits, or int8 per 128 columns when speed is asked for.
      const bool fast = !layer.exact && !layer.float_activations;
      activation_ = fast ? cpu::IntActivation::kGroup : cpu::IntActivation::kExact;
    } else {
      activation_ = inputs == Inputs::kToken       ? cpu::IntActivation::kToken
                    : inputs == Inputs::kTokenAsym ? cpu::IntActivation::kTokenAsym
                                                   : cpu::IntActivation::kStatic;
      sums_ = inputs == Inputs::kTokenAsym || (inputs == Inputs::kStatic && has_zero_);
    }
  }

  MethodInfo describe() const override {
    static const char* const names[] = {"", " a8 token", " a8 token asym", " a8 static"};
    MethodInfo info;
    info.scheme = std::string("int8 ") + (per_tensor() ? "tensor" : "channel") + names[static_cast<int>(inputs_)];
    info.kernel = kernel_name();
    ActivationScheme& a = info.activations;
    switch (activation_) {
      case cpu::IntActivation::kExact: info.arithmetic = PLUQ_ARITHMETIC_F32; break;
      case cpu::IntActivation::kGroup: info.arithmetic = PLUQ_ARITHMETIC_INT8; break;
      default:
        info.arithmetic = PLUQ_ARITHMETIC_CHECKPOINT;
        a.strategy = inputs_ == Inputs::kStatic ? PLUQ_STRATEGY_TENSOR : PLUQ_STRATEGY_TOKEN;
        a.dtype_id = PLUQ_DTYPE_I8;
        a.dynamic = inputs_ != Inputs::kStatic;
        a.symmetric = !sums_;
        a.divisor = inputs_ == Inputs::kTokenAsym ? 255 : 127;
        if (inputs_ == Inputs::kStatic) a.static_scale_suffix = "input_scale";
    }
    info.error_bound = activation_ == cpu::IntActivation::kGroup ? 1.5e-2 : 1e-5;
    info.bits_per_weight = 8 + 16.0 / static_cast<double>(layer().k());
    return info;
  }

  std::vector<WeightSpec> create_weights() const override {
    WeightSpec w, s;
    w.suffix = "weight";
    w.dtype_id = PLUQ_DTYPE_I8;
    w.shape = {layer().out_features, layer().in_features};
    w.input_dim = 1;
    w.output_dim = 0;
    s.suffix = "weight_scale";
    s.dtype_id = scale_dtype_;
    s.shape = per_tensor() ? scale_shape_ : std::vector<int64_t>{layer().out_features, 1};
    if (scale_shape_.size() == 1 && !per_tensor()) s.shape = {layer().out_features};
    s.sample = Sample::real(1e-3, 1e-2);
    s.output_dim = per_tensor() ? -1 : 0;
    std::vector<WeightSpec> out{w, s};
    if (input_dtype_ != PLUQ_DTYPE_UNKNOWN) {
      WeightSpec i;
      i.suffix = "input_scale";
      i.dtype_id = input_dtype_;
      i.shape = input_shape_;
      i.sample = Sample::real(0.01, 0.02);
      out.push_back(i);
    }
    if (has_zero_) {
      WeightSpec z;
      z.suffix = "input_zero_point";
      z.dtype_id = PLUQ_DTYPE_I8;
      z.shape = zero_shape_;
      out.push_back(z);
    }
    return out;
  }

 protected:
  void settle(const Tensors& tensors) override {
    const Tensor& s = tensors.at("weight_scale");
    scale_type_ = narrow(s.dtype_id());
    for (int64_t i = 0; i < s.elements(); ++i) {
      if (!std::isfinite(s.real(i))) throw invalid(format("layer %s: weight_scale holds a value that is not finite at %lld", layer().name.c_str(), static_cast<long long>(i)));
    }
    if (activation_ == cpu::IntActivation::kStatic) {
      static_scale_ = tensors.at("input_scale").real(0);
      if (!(static_scale_ > 0) || !std::isfinite(static_scale_)) {
        throw invalid(format("layer %s: input_scale is %g, expected a number above 0", layer().name.c_str(), static_cast<double>(static_scale_)));
      }
      if (has_zero_) static_zero_ = tensors.at("input_zero_point").load<int8_t>(0);
    }
  }
  void codes(const Tensors& tensors, int64_t n, uint8_t* out) const override {
    const Tensor& w = tensors.at("weight");
    for (int64_t k = 0; k < layer().in_features; ++k) {
      out[k] = static_cast<uint8_t>(w.load<int8_t>(n * layer().in_features + k) + 128);
    }
  }
  float scale(const Tensors& tensors, int64_t n, int64_t) const override {
    return tensors.at("weight_scale").real(per_tensor() ? 0 : n);
  }
  int zero(const Tensors&, int64_t, int64_t) const override { return 128; }
  std::vector<int32_t> column_groups(const Tensors&) const override { return natural_groups(-1); }

 private:
  bool per_tensor() const {
    int64_t n = 1;
    for (const int64_t d : scale_shape_) n *= d;
    return n == 1 && layer().out_features != 1;
  }
  Inputs inputs_;
  uint32_t scale_dtype_, input_dtype_ = PLUQ_DTYPE_UNKNOWN;
  std::vector<int64_t> scale_shape_, input_shape_, zero_shape_;
  bool has_zero_ = false;
};

}  // namespace

bool has_tensors(const LayerDesc& layer) {
  const Tensor* w = layer.tensors.find("weight");
  return w != nullptr && w->dtype_id() == PLUQ_DTYPE_I8 && layer.tensors.has("weight_scale");
}

std::unique_ptr<LinearMethod> make_method(const LayerDesc& layer, const Device& device, const ct::QuantArgs& weights,
                                          const ct::QuantArgs* inputs) {
  if (weights.bits != 8 || weights.is_float) throw unsupported("weights of " + std::to_string(weights.bits) + " bits are not w8a8's");
  if (!weights.symmetric) throw unsupported("asymmetric int8 weights are not built");
  if (weights.strategy != ct::Strategy::kTensor && weights.strategy != ct::Strategy::kChannel) {
    throw unsupported("strategy '" + weights.strategy_text + "' of int8 weights is not built; tensor and channel are");
  }
  Inputs in = Inputs::kFloat;
  if (inputs != nullptr) {
    if (inputs->bits != 8 || inputs->is_float) throw unsupported("int8 weights with other than int8 activations are not built");
    if (inputs->dynamic) {
      if (inputs->strategy != ct::Strategy::kToken) throw unsupported("dynamic activations of strategy '" + inputs->strategy_text + "' are not built; token is");
      in = inputs->symmetric ? Inputs::kToken : Inputs::kTokenAsym;
    } else {
      if (inputs->strategy != ct::Strategy::kTensor) throw unsupported("static activations of strategy '" + inputs->strategy_text + "' are not built; tensor is");
      in = Inputs::kStatic;
    }
  }
  return std::make_unique<Int8Method>(layer, device, in);
}

}  // namespace w8a8
