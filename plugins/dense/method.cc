// SPDX-License-Identifier: Apache-2.0
#include "dense/method.h"

#include <cstring>

#include "pluq/cpu/tables.hpp"
#include "pluq/ext/gemm.h"

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

// On a GPU: the stored tensor, multiplied by the host's library.
class DenseDeviceMethod final : public LinearMethod {
 public:
  DenseDeviceMethod(const LayerDesc& layer, const Device& device)
      : LinearMethod(layer), cpu_(layer, Device{}), device_kind_(device.kind) {}

  bool runs_on(uint32_t device_kind) const override { return device_kind == device_kind_; }
  MethodInfo describe() const override {
    MethodInfo info = cpu_.describe();
    info.kernel = "gemm of the host";
    info.reason.clear();
    info.arithmetic = type() == PLUQ_DTYPE_BF16 ? PLUQ_ARITHMETIC_BF16 : PLUQ_ARITHMETIC_F16;
    info.error_bound = 1.0 / 128;  // y is stored in 16 bits
    return info;
  }
  std::vector<WeightSpec> create_weights() const override { return cpu_.create_weights(); }
  ProcessPlan process_plan(const Tensors&) override {
    ProcessPlan plan;
    plan.keep_tensors = true;
    return plan;
  }
  void apply_on_device(const pluq_exec& exec, const pluq_activation& x, const float* bias,
                       const pluq_output& y) const override {
    if (x.rows != nullptr || x.quantized != nullptr || x.dtype.id != type()) {
      throw unsupported("layer " + layer().name + ": x is not all rows of " + dtype_name(type()));
    }
    const void* table = exec.host->get_extension(exec.host, PLUQ_GEMM);
    if (table == nullptr) throw unsupported("the host lacks " PLUQ_GEMM);
    pluq_gemm_args g{};
    g.struct_size = sizeof g;
    g.x_type = g.w_type = type();
    g.y_type = y.dtype.id;
    g.m = x.m, g.n = layer().n(), g.k = layer().k();
    g.x = x.data, g.ldx = x.ld;
    g.w = kept().at("weight").data(), g.ldw = layer().k();
    g.bias = bias;
    g.y = y.data, g.ldy = y.ld;
    check(static_cast<const pluq_gemm*>(table)->multiply(&exec, &g));
  }
  void dequantize(const Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    cpu_.dequantize(tensors, n_begin, n_end, out, ld);
  }

 private:
  uint32_t type() const { return layer().activation_dtype_id; }

  DenseMethod cpu_;
  uint32_t device_kind_;
};

}  // namespace

std::unique_ptr<LinearMethod> make_method(const LayerDesc& layer, const Device& device) {
  // Weights of another type than the activations, and rows of embeddings, are the host's to
  // convert.
  if (device.is_cuda() && layer.kind != "embedding" &&
      layer.tensors.at("weight").dtype_id() == layer.activation_dtype_id) {
    return std::make_unique<DenseDeviceMethod>(layer, device);
  }
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
