// SPDX-License-Identifier: Apache-2.0
#include "fp8/method.h"

#include <cmath>

#include "pluq/cpu/tables.hpp"
#include "pluq/float8.hpp"

namespace fp8 {
namespace {

using namespace pluq;

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

class Fp8Method final : public cpu::FloatLinear {
 public:
  Fp8Method(const LayerDesc& layer, const Device& device, const Settings& settings)
      : FloatLinear(layer, device, cpu::float_tables()), settings_(settings), weight_dtype_(layer.tensors.at("weight").dtype_id()) {
    if (!layer.whole()) throw unsupported("layer " + layer.name + ": split layers are not built yet");
    const Tensor* s = layer.tensors.find("weight_scale");
    scale_name_ = s != nullptr ? "weight_scale" : "weight_scale_inv";
    if (s == nullptr) s = layer.tensors.find("weight_scale_inv");
    if (s == nullptr) throw invalid("layer " + layer.name + ": an 8-bit float weight without 'weight_scale' or 'weight_scale_inv'");
    scale_dtype_ = s->dtype_id();
    scale_shape_ = s->shape();
    classify();
    if (const Tensor* i = layer.tensors.find("input_scale")) {
      input_dtype_ = i->dtype_id();
      input_shape_ = i->shape();
    } else if (settings.rounding == Rounding::kStatic) {
      throw invalid("layer " + layer.name + ": activations are static, but tensor 'input_scale' is missing");
    }
    if (!layer.float_activations) {
      input_.round = settings.rounding == Rounding::kToken   ? cpu::FloatRound::kToken
                     : settings.rounding == Rounding::kGroup ? cpu::FloatRound::kGroup
                     : settings.rounding == Rounding::kStatic ? cpu::FloatRound::kStatic
                                                              : cpu::FloatRound::kNone;
    }
    input_.group_size = settings.group_size;
  }

  MethodInfo describe() const override {
    MethodInfo info;
    const char* const types = weight_dtype_ == PLUQ_DTYPE_F8_E4M3 ? "e4m3" : "e5m2";
    const std::string scales = kind_ == Kind::kTensor ? "tensor"
                               : kind_ == Kind::kRow  ? "channel"
                                                      : "block " + std::to_string(settings_.block_n) + "x" + std::to_string(settings_.block_k);
    static const char* const rounding[] = {"", " a8 token", " a8 group", " a8 static"};
    info.scheme = std::string(types) + " " + scales + rounding[static_cast<int>(settings_.rounding)];
    info.kernel = kernel_name();
    ActivationScheme& a = info.activations;
    info.arithmetic = PLUQ_ARITHMETIC_F32;
    if (input_.round != cpu::FloatRound::kNone) {
      info.arithmetic = PLUQ_ARITHMETIC_CHECKPOINT;
      a.strategy = input_.round == cpu::FloatRound::kToken ? PLUQ_STRATEGY_TOKEN
                   : input_.round == cpu::FloatRound::kGroup ? PLUQ_STRATEGY_GROUP
                                                             : PLUQ_STRATEGY_TENSOR;
      a.dtype_id = PLUQ_DTYPE_F8_E4M3;
      a.group_size = input_.group_size;
      a.dynamic = input_.round != cpu::FloatRound::kStatic;
      a.divisor = 448;
      if (!a.dynamic) a.static_scale_suffix = "input_scale";
    }
    info.error_bound = 1e-5;
    info.bits_per_weight = 8 + 32.0 * static_cast<double>(count(scale_shape_)) / static_cast<double>(layer().k() * layer().n());
    return info;
  }

  std::vector<WeightSpec> create_weights() const override {
    WeightSpec w, s;
    w.suffix = "weight";
    w.dtype_id = weight_dtype_;
    w.shape = {layer().out_features, layer().in_features};
    w.sample = Sample::bytes();
    w.input_dim = 1;
    w.output_dim = 0;
    s.suffix = scale_name_;
    s.dtype_id = scale_dtype_;
    s.shape = scale_shape_;
    s.sample = Sample::real(1e-3, 2e-3);
    std::vector<WeightSpec> out{w, s};
    if (input_dtype_ != PLUQ_DTYPE_UNKNOWN) {
      WeightSpec i;
      i.suffix = "input_scale";
      i.dtype_id = input_dtype_;
      i.shape = input_shape_;
      i.sample = Sample::real(0.01, 0.02);
      out.push_back(i);
    }
    return out;
  }

  void dequantize(const Tensors& tensors, int64_t n_begin, int64_t n_end, float* out, int64_t ld) const override {
    const Tensor &w = tensors.at("weight"), &s = tensors.at(scale_name_);
    const int64_t k = layer().k();
    for (int64_t n = n_begin; n < n_end; ++n) {
      for (int64_t i = 0; i < k; ++i) {
        const uint8_t code = w.data()[n * k + i];
        const float value = weight_dtype_ == PLUQ_DTYPE_F8_E4M3 ? float8::from_e4m3(code) : float8::from_e5m2(code);
        const float scale = s.real(scale_index(n, i));
        out[(n - n_begin) * ld + i] = settings_.inverse ? value * (1.0F / scale) : value * scale;
      }
    }
  }

  void fill(std::string_view, uint64_t seed, uint8_t* data, uint64_t bytes) override {
    for (uint64_t i = 0; i < bytes; ++i) {  // every code but NaN and infinity
      seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
      data[i] = static_cast<uint8_t>(seed >> 56) & 0xf7;
      if (weight_dtype_ == PLUQ_DTYPE_F8_E5M2) data[i] &= 0xbf;
    }
  }

 protected:
  void settle(const Tensors& tensors) override {
    weights_.type = weight_dtype_ == PLUQ_DTYPE_F8_E4M3 ? cpu::FloatType::kE4m3 : cpu::FloatType::kE5m2;
    const Tensor &w = tensors.at("weight"), &s = tensors.at(scale_name_);
    for (int64_t i = 0; i < w.elements(); ++i) {
      const uint8_t low = w.data()[i] & 0x7f;
      const bool bad = weight_dtype_ == PLUQ_DTYPE_F8_E4M3 ? low == 0x7f : low >= 0x7c;
      if (bad) {
        throw invalid(format("layer %s: weight[%lld, %lld] is the code 0x%02x, which is no number", layer().name.c_str(),
                             static_cast<long long>(i / layer().k()), static_cast<long long>(i % layer().k()), w.data()[i]));
      }
    }
    weights_.scale = kind_ == Kind::kBlock ? cpu::FloatScale::kBlock : cpu::FloatScale::kRow;
    weights_.block_n = settings_.block_n;
    weights_.block_k = settings_.block_k;
    scales_.clear();
    const int64_t table = kind_ == Kind::kBlock ? count(scale_shape_) : layer().n();
    double mean = 0;
    for (int64_t i = 0; i < table; ++i) {
      float scale = s.real(kind_ == Kind::kTensor ? 0 : i);
      if (settings_.inverse) scale = 1.0F / scale;
      if (!std::isfinite(scale)) {
        throw invalid(format("layer %s: %s holds a value that is not a finite scale at %lld", layer().name.c_str(), scale_name_.c_str(), static_cast<long long>(i)));
      }
      mean += std::fabs(scale) / static_cast<double>(table);
      scales_.push_back(scale);
    }
    // Weights of real models are far below 448: a multiplier is small, its inverse large.
    if (mean > 4) {
      log(PLUQ_LOG_WARNING, format("layer %s: the mean of %s is %g, implausible for a multiplier; if the weights are code / scale, the "
                                   "config lacks weight_scale_semantics: inverse", layer().name.c_str(), scale_name_.c_str(), mean));
    }
    if (input_.round == cpu::FloatRound::kStatic) {
      input_.static_scale = tensors.at("input_scale").real(0);
      if (!(input_.static_scale > 0) || !std::isfinite(input_.static_scale)) {
        throw invalid(format("layer %s: input_scale is %g, expected a number above 0", layer().name.c_str(), static_cast<double>(input_.static_scale)));
      }
    }
  }

 private:
  enum class Kind { kTensor, kRow, kBlock };
  static int64_t count(const std::vector<int64_t>& shape) {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
  }

  void classify() {
    const int64_t n = layer().out_features, k = layer().in_features;
    if (settings_.block_n > 0) {
      const std::vector<int64_t> grid{(n + settings_.block_n - 1) / settings_.block_n, (k + settings_.block_k - 1) / settings_.block_k};
      if (scale_shape_ != grid) {
        throw invalid("layer " + layer().name + ": " + scale_name_ + " has shape " + shape_text(scale_shape_) + ", blocks of " +
                      std::to_string(settings_.block_n) + "x" + std::to_string(settings_.block_k) + " need " + shape_text(grid));
      }
      kind_ = Kind::kBlock;
    } else if (count(scale_shape_) == 1) {
      kind_ = Kind::kTensor;
    } else if (scale_shape_ == std::vector<int64_t>{n} || scale_shape_ == std::vector<int64_t>{n, 1}) {
      kind_ = Kind::kRow;
    } else {
      throw invalid("layer " + layer().name + ": " + scale_name_ + " has shape " + shape_text(scale_shape_) +
                    ", expected one scale, [N] or [N, 1] with N = " + std::to_string(n) + ", or blocks named by the config");
    }
  }

  int64_t scale_index(int64_t n, int64_t k) const {
    switch (kind_) {
      case Kind::kRow: return n;
      case Kind::kBlock: return n / settings_.block_n * scale_shape_[1] + k / settings_.block_k;
      case Kind::kTensor: break;
    }
    return 0;
  }

  Settings settings_;
  uint32_t weight_dtype_, scale_dtype_ = 0, input_dtype_ = PLUQ_DTYPE_UNKNOWN;
  std::string scale_name_;
  std::vector<int64_t> scale_shape_, input_shape_;
  Kind kind_ = Kind::kTensor;
};

}  // namespace

bool has_tensors(const LayerDesc& layer) {
  const Tensor* w = layer.tensors.find("weight");
  return w != nullptr && (w->dtype_id() == PLUQ_DTYPE_F8_E4M3 || w->dtype_id() == PLUQ_DTYPE_F8_E5M2);
}

std::unique_ptr<LinearMethod> make_method(const LayerDesc& layer, const Device& device, const Settings& settings) {
  return std::make_unique<Fp8Method>(layer, device, settings);
}

}  // namespace fp8
