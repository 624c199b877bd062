// SPDX-License-Identifier: Apache-2.0
#include "dense/method.h"

#include <cstring>

#include "pluq/cpu/tables.hpp"

namespace dense {
namespace {

using namespace pluq;

class DenseMethod final : public cpu::FloatLinear {
 public:
  DenseMethod(const LayerDesc& layer, const Device& device)
      : FloatLinear(layer, device, cpu::float_tables()),
        dtype_id_(layer.tensors.at("weight").dtype_id()) {}

  MethodInfo describe() const override {
    MethodInfo info;
    info.scheme = dtype_id_ == PLUQ_DTYPE_F32   ? "f32"
                  : dtype_id_ == PLUQ_DTYPE_F16 ? "f16"
                                                : "bf16";
    info.kernel = layer().kind == "embedding" ? "gather" : kernel_name();
    info.arithmetic = PLUQ_ARITHMETIC_F32;
    info.bits_per_weight = dtype_id_ == PLUQ_DTYPE_F32 ? 32 : 16;
    return info;
  }

  std::vector<WeightSpec> create_weights() const override {
    WeightSpec w;
    w.suffix = "weight";
    w.dtype_id = dtype_id_;
    w.shape = {layer().out_features, layer().in_features};
    w.box_begin = {layer().out_begin, layer().in_begin};
    w.box_end = {layer().out_end, layer().in_end};
    w.sample = Sample::real(-0.05, 0.05);
    w.input_dim = 1;
    w.output_dim = 0;
    return {w};
  }

  void dequantize(const Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    const Tensor& w = tensors.at("weight");
    const int64_t k = layer().k();
    for (int64_t n = n_begin; n < n_end; ++n) {
      float* row = out + (n - n_begin) * ld;
      for (int64_t i = 0; i < k; ++i) row[i] = w.real(n * k + i);
    }
  }

 protected:
  void settle(const Tensors&) override {
    weights_.type = dtype_id_ == PLUQ_DTYPE_F32   ? cpu::FloatType::kF32
                    : dtype_id_ == PLUQ_DTYPE_F16 ? cpu::FloatType::kF16
                                                  : cpu::FloatType::kBf16;
  }

 private:
  uint32_t dtype_id_;
};

}  // namespace

std::unique_ptr<LinearMethod> make_method(const LayerDesc& layer, const Device& device) {
  return std::make_unique<DenseMethod>(layer, device);
}

std::vector<uint8_t> convert(const std::vector<float>& values, uint32_t dtype_id) {
  if (dtype_id == PLUQ_DTYPE_F32) {
    std::vector<uint8_t> out(values.size() * 4);
    std::memcpy(out.data(), values.data(), out.size());
    return out;
  }
  std::vector<uint8_t> out(values.size() * 2);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits =
        dtype_id == PLUQ_DTYPE_BF16 ? float_to_bfloat(values[i]) : float_to_half(values[i]);
    std::memcpy(out.data() + 2 * i, &bits, 2);
  }
  return out;
}

}  // namespace dense
