// SPDX-License-Identifier: Apache-2.0
#include "awq/method.h"

#include <cmath>

#include "pluq/cpu/tables.hpp"
#include "pluq/pack.hpp"

namespace awq {
namespace {

using namespace pluq;

class AwqMethod final : public cpu::IntLinear {
 public:
  AwqMethod(const LayerDesc& layer, const Device& device, int64_t group_size)
      : IntLinear(layer, device, cpu::int_tables()), scales_dtype_(layer.tensors.at("scales").dtype_id()) {
    if (!layer.whole()) throw unsupported("layer " + layer.name + ": split layers are not built yet");
    const int64_t size = group_size < 0 ? layer.k() : group_size;
    if (layer.out_features % 8 != 0) throw invalid(format("layer %s: N = %lld is not a multiple of 8", layer.name.c_str(), static_cast<long long>(layer.out_features)));
    bits_ = 4;
    group_size_ = size;
    num_groups_ = (layer.k() + size - 1) / size;
    zero_kind_ = cpu::IntZeroKind::kInteger;
    activation_ = layer.exact || layer.float_activations ? cpu::IntActivation::kExact : cpu::IntActivation::kGroup;
  }

  MethodInfo describe() const override {
    MethodInfo info;
    info.scheme = "int4 g" + std::to_string(group_size_) + " asym";
    info.kernel = kernel_name();
    const bool exact = activation_ == cpu::IntActivation::kExact;
    info.arithmetic = exact ? PLUQ_ARITHMETIC_F32 : PLUQ_ARITHMETIC_INT8;
    info.error_bound = exact ? 1e-5 : 1.5e-2;
    info.bits_per_weight = 4 + 20.0 / static_cast<double>(group_size_);
    return info;
  }

  std::vector<WeightSpec> create_weights() const override {
    const int64_t k = layer().in_features, n = layer().out_features;
    const auto spec = [&](const char* suffix, uint32_t dtype, std::vector<int64_t> shape) {
      WeightSpec s;
      s.suffix = suffix;
      s.dtype_id = dtype;
      s.shape = std::move(shape);
      s.input_dim = 0;
      s.output_dim = 1;
      s.group_size = group_size_;
      return s;
    };
    std::vector<WeightSpec> out{spec("qweight", PLUQ_DTYPE_I32, {k, n / 8}), spec("qzeros", PLUQ_DTYPE_I32, {num_groups_, n / 8}),
                                spec("scales", scales_dtype_, {num_groups_, n})};
    for (int i = 0; i < 2; ++i) {
      out[static_cast<size_t>(i)].packed_dim = 1;
      out[static_cast<size_t>(i)].pack_elements = 8;
      out[static_cast<size_t>(i)].pack_words = 1;
    }
    out[2].sample = Sample::real(1e-3, 1e-2);
    return out;
  }

 protected:
  void settle(const Tensors& tensors) override {
    const Tensor& s = tensors.at("scales");
    scale_type_ = narrow(s.dtype_id());
    for (int64_t i = 0; i < s.elements(); ++i) {
      if (!std::isfinite(s.real(i))) throw invalid(format("layer %s: scales holds a value that is not finite at %lld", layer().name.c_str(), static_cast<long long>(i)));
    }
  }
  void codes(const Tensors& tensors, int64_t n, uint8_t* out) const override {
    const Tensor& q = tensors.at("qweight");
    for (int64_t k = 0; k < layer().in_features; ++k) out[k] = static_cast<uint8_t>(pack::awq_code(q.data(), q.dim(1), k, n));
  }
  float scale(const Tensors& tensors, int64_t n, int64_t g) const override {
    return tensors.at("scales").real(g * layer().out_features + n);
  }
  int zero(const Tensors& tensors, int64_t n, int64_t g) const override {
    const Tensor& z = tensors.at("qzeros");
    return static_cast<int>(pack::awq_code(z.data(), z.dim(1), g, n));
  }
  std::vector<int32_t> column_groups(const Tensors&) const override { return natural_groups(group_size_); }

 private:
  uint32_t scales_dtype_;
};

}  // namespace

bool has_gemm_tensors(const LayerDesc& layer) {
  const Tensor *q = layer.tensors.find("qweight"), *s = layer.tensors.find("scales");
  return q != nullptr && s != nullptr && q->rank() == 2 && q->dtype_id() == PLUQ_DTYPE_I32 && q->dim(0) == layer.in_features &&
         q->dim(1) * 8 == layer.out_features;
}

std::unique_ptr<LinearMethod> make_method(const LayerDesc& layer, const Device& device, int64_t group_size) {
  return std::make_unique<AwqMethod>(layer, device, group_size);
}

}  // namespace awq
