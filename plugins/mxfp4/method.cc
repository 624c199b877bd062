// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/method.h"

#include "pluq/cpu/float4_linear.hpp"
#include "pluq/cpu/tables.hpp"
#include "pluq/cuda/quantized/block_linear.hpp"

namespace mxfp4 {
namespace {

using namespace pluq;

class Mxfp4Method final : public cpu::Float4Linear {
 public:
  Mxfp4Method(const LayerDesc& layer, const Device& device)
      : Float4Linear(layer, device, cpu::int_tables(), "weight_packed", "weight_scale", kGroup) {}

  MethodInfo describe() const override {
    MethodInfo info;
    info.scheme = "mxfp4 g32";
    describe_arithmetic(&info);
    info.bits_per_weight = 4 + 8.0 / kGroup;
    return info;
  }

  // Refuses scales that are no numbers.
  void check_tensors(const Tensors& tensors) { settle(tensors); }

  std::vector<WeightSpec> create_weights() const override { return packed_specs(PLUQ_DTYPE_U8); }

  // Scales as real models have them, 2^-12 to 2^-5: never NaN.
  void fill(std::string_view, uint64_t seed, uint8_t* data, uint64_t bytes) override {
    for (uint64_t i = 0; i < bytes; ++i) {
      seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
      data[i] = static_cast<uint8_t>(115 + (seed >> 61));
    }
  }

 protected:
  void settle(const Tensors& tensors) override {
    const Tensor& s = tensors.at("weight_scale");
    for (int64_t i = 0; i < s.elements(); ++i) {
      if (s.data()[i] <= 252)
        continue;  // 6 * 2^125 is the largest product that is finite for every code
      throw invalid(
          format("layer %s: weight_scale[%lld, %lld] is the code %d, %s; 0 to 252 are accepted",
                 layer().name.c_str(), static_cast<long long>(i / num_groups_),
                 static_cast<long long>(i % num_groups_), s.data()[i],
                 s.data()[i] == 255 ? "which is no number" : "whose weights overflow"));
    }
  }
  // Half of it, see Float4Linear.
  float scale(const Tensors& tensors, int64_t n, int64_t g) const override {
    return float4::from_e8m0(scale_byte(tensors, n, g)) * 0.5F;
  }
};

// `method` outlives it.
class Mxfp4OnDevice final : public cuda::Float4Blocks {
 public:
  explicit Mxfp4OnDevice(Mxfp4Method* method)
      : Float4Blocks(method->layer(), "weight_packed", "weight_scale", kGroup), method_(method) {}
  ProcessPlan plan(const Tensors& tensors) override {
    method_->check_tensors(tensors);
    return {};
  }

 private:
  Mxfp4Method* method_;
};

}  // namespace

bool has_tensors(const LayerDesc& layer) {
  const Tensor* w = layer.tensors.find("weight_packed");
  const Tensor* s = layer.tensors.find("weight_scale");
  return w != nullptr && s != nullptr && w->dtype_id() == PLUQ_DTYPE_U8 &&
         s->dtype_id() == PLUQ_DTYPE_U8;
}

std::unique_ptr<LinearMethod> make_method(const LayerDesc& layer, const Device& device) {
  auto method = std::make_unique<Mxfp4Method>(layer, device);
  if (!device.is_cuda() || !cuda::has_ops(device.kind)) return method;
  auto on_device = std::make_unique<Mxfp4OnDevice>(method.get());
  return std::make_unique<cuda::DeviceMethod>(std::move(method), std::move(on_device), device.kind);
}

}  // namespace mxfp4
