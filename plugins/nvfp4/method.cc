// SPDX-License-Identifier: Apache-2.0
#include "nvfp4/method.h"

#include <cmath>

#include "pluq/cpu/float4_linear.hpp"
#include "pluq/cpu/tables.hpp"
#include "pluq/cuda/quantized/block_linear.hpp"
#include "pluq/float8.hpp"

namespace nvfp4 {
namespace {

using namespace pluq;

// Whose names the tensors have.
bool is_modelopt(const LayerDesc& layer) { return layer.tensors.has("weight_scale_2"); }

class Nvfp4Method final : public cpu::Float4Linear {
 public:
  Nvfp4Method(const LayerDesc& layer, const Device& device)
      : Float4Linear(layer, device, cpu::int_tables(),
                     is_modelopt(layer) ? "weight" : "weight_packed", "weight_scale", kGroup),
        packed_(is_modelopt(layer) ? "weight" : "weight_packed"),
        global_(is_modelopt(layer) ? "weight_scale_2" : "weight_global_scale"),
        multiplies_(is_modelopt(layer)) {
    for (const char* name : {global_, multiplies_ ? "input_scale" : "input_global_scale"}) {
      const Tensor* t = layer.tensors.find(name);
      if (t == nullptr) continue;
      if (t->elements() != 1)
        throw unsupported("layer " + layer.name + ": " + name + " holds " + t->text() +
                          "; one value is built");
      WeightSpec s = shard::spec(name, t->dtype_id(), t->shape(), {});
      s.sample = multiplies_ ? Sample::real(2.5e-4, 1e-3) : Sample::real(1000, 4000);
      single_.push_back(s);
    }
  }

  MethodInfo describe() const override {
    MethodInfo info;
    info.scheme = "nvfp4 g16";
    describe_arithmetic(&info);
    info.bits_per_weight = 4 + 8.0 / kGroup;
    return info;
  }

  // Refuses scales that are no numbers.
  void check_tensors(const Tensors& tensors) { settle(tensors); }

  std::vector<WeightSpec> create_weights() const override {
    std::vector<WeightSpec> out = packed_specs(PLUQ_DTYPE_F8_E4M3);
    out.insert(out.end(), single_.begin(), single_.end());
    return out;
  }

  // Scales as real models have them, up to 448: never NaN, never negative.
  void fill(std::string_view, uint64_t seed, uint8_t* data, uint64_t bytes) override {
    for (uint64_t i = 0; i < bytes; ++i) {
      seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
      data[i] = static_cast<uint8_t>(0x58 + (seed >> 59));
    }
  }

  void dequantize(const Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    const uint8_t* packed = tensors.at(packed_).data();
    const int64_t k = layer().k();
    for (int64_t n = n_begin; n < n_end; ++n) {
      for (int64_t g = 0; g < num_groups_; ++g) {
        const float s = group_scale(tensors, n, g);
        for (int64_t i = g * kGroup; i < std::min((g + 1) * kGroup, k); ++i) {
          out[(n - n_begin) * ld + i] =
              float4::from_e2m1(packed[(n * k + i) / 2] >> (i % 2 * 4) & 15) * s;
        }
      }
    }
  }

  const char* packed_name() const { return packed_; }
  // What the scales of groups are divided by.
  float divisor(const Tensors& tensors) const {
    const float global = tensors.at(global_).real(0);
    return multiplies_ ? 1.0F / global : global;
  }

 protected:
  void settle(const Tensors& tensors) override {
    const float global = tensors.at(global_).real(0);
    if (!(global > 0) || !std::isfinite(global)) {
      throw invalid(format("layer %s: %s is %g, expected a number above 0", layer().name.c_str(),
                           global_, static_cast<double>(global)));
    }
    const Tensor& s = tensors.at("weight_scale");
    for (int64_t i = 0; i < s.elements(); ++i) {
      if ((s.data()[i] & 0x7f) != 0x7f) continue;
      throw invalid(
          format("layer %s: weight_scale[%lld, %lld] is the code 0x%02x, which is no number",
                 layer().name.c_str(), static_cast<long long>(i / num_groups_),
                 static_cast<long long>(i % num_groups_), s.data()[i]));
    }
  }
  // Half of it, see Float4Linear.
  float scale(const Tensors& tensors, int64_t n, int64_t g) const override {
    return group_scale(tensors, n, g) * 0.5F;
  }

 private:
  float group_scale(const Tensors& tensors, int64_t n, int64_t g) const {
    const float scale = float8::from_e4m3(scale_byte(tensors, n, g));
    const float global = tensors.at(global_).real(0);
    return multiplies_ ? scale * global : scale / global;
  }

  const char *packed_, *global_;
  bool multiplies_;  // the global scale; else it divides
  std::vector<WeightSpec> single_;
};

// `method` outlives it.
class Nvfp4OnDevice final : public cuda::Float4Blocks {
 public:
  explicit Nvfp4OnDevice(Nvfp4Method* method)
      : Float4Blocks(method->layer(), method->packed_name(), "weight_scale", kGroup),
        method_(method) {}
  ProcessPlan plan(const Tensors& tensors) override {
    method_->check_tensors(tensors);
    w_.divisor = method_->divisor(tensors);
    return {};
  }

 private:
  Nvfp4Method* method_;
};

}  // namespace

bool has_tensors(const LayerDesc& layer) {
  const bool modelopt = is_modelopt(layer);
  const Tensor* w = layer.tensors.find(modelopt ? "weight" : "weight_packed");
  const Tensor* s = layer.tensors.find("weight_scale");
  return w != nullptr && s != nullptr && w->dtype_id() == PLUQ_DTYPE_U8 &&
         s->dtype_id() == PLUQ_DTYPE_F8_E4M3 &&
         (modelopt || layer.tensors.has("weight_global_scale"));
}

std::unique_ptr<LinearMethod> make_method(const LayerDesc& layer, const Device& device) {
  auto method = std::make_unique<Nvfp4Method>(layer, device);
  if (!device.is_cuda() || !cuda::has_ops(device.kind)) return method;
  auto on_device = std::make_unique<Nvfp4OnDevice>(method.get());
  return std::make_unique<cuda::DeviceMethod>(std::move(method), std::move(on_device), device.kind);
}

}  // namespace nvfp4
