// SPDX-License-Identifier: Apache-2.0
// A linear method on a CUDA device, real or emulated: DeviceMethod takes from the format's CPU
// method what concerns the checkpoint (tensors, dequantize, description) and from a DeviceLinear
// what concerns kernels. Needs CUDA_KERNELS quantized in the plugin's CMakeLists.txt.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pluq/cuda/linear.hpp"
#include "pluq/cuda/quantized/ops.h"

namespace pluq {
namespace cuda {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  inline bool has_ops(uint32_t device_kind) { return has_kernels(device_kind); }
  inline const QuantizedOps& ops_for(const pluq_exec& exec) {
#if defined(PLUQ_HAS_CUDA) && PLUQ_HAS_CUDA
    if (exec.device_kind == PLUQ_DEVICE_CUDA) return quantized_ops_device();
#endif
    if (exec.device_kind != PLUQ_DEVICE_CUDA_EMULATED)
      throw unsupported("this plugin was built without kernels for the device asked for");
    return quantized_ops_emulated();
  }

  // Consecutive arrays in one buffer, each at a multiple of 256 bytes.
  class Arena {
   public:
    uint64_t add(int64_t bytes) {
      const uint64_t at = bytes_;
      bytes_ += (static_cast<uint64_t>(bytes) + 255) / 256 * 256;
      return at;
    }
    uint64_t bytes() const { return bytes_; }

   private:
    uint64_t bytes_ = 0;
  };

  // A vector of the host to `at`.
  template <class T>
  void upload(const pluq_exec& exec, const std::vector<T>& values, uint8_t* at) {
    check(ops_for(exec).upload(&exec, values.data(),
                               static_cast<int64_t>(values.size() * sizeof(T)), at));
  }

  class DeviceLinear {
   public:
    virtual ~DeviceLinear() = default;
    // Kernel, arithmetic, error bound, reason.
    virtual void describe(MethodInfo* info) const = 0;
    // Sees host tensors with their values.
    virtual ProcessPlan plan(const Tensors& tensors) = 0;
    // Sees the same tensors in device memory.
    virtual void load(const pluq_exec& exec, const Tensors& tensors, uint8_t* buffer) = 0;
    virtual uint64_t workspace(int64_t max_tokens) const {
      (void)max_tokens;
      return 0;
    }
    // kept: the tensors in device memory, when the plan keeps them.
    virtual void apply(const pluq_exec& exec, const Tensors& kept, const pluq_activation& x,
                       const float* bias, const pluq_output& y) const = 0;
  };

  class DeviceMethod final : public LinearMethod {
   public:
    DeviceMethod(std::unique_ptr<LinearMethod> cpu, std::unique_ptr<DeviceLinear> device,
                 uint32_t device_kind)
        : LinearMethod(cpu->layer()),
          cpu_(std::move(cpu)),
          device_(std::move(device)),
          device_kind_(device_kind) {}

    bool runs_on(uint32_t device_kind) const override { return device_kind == device_kind_; }
    MethodInfo describe() const override {
      MethodInfo info = cpu_->describe();
      info.reason.clear();
      device_->describe(&info);
      return info;
    }
    std::vector<WeightSpec> create_weights() const override { return cpu_->create_weights(); }
    ProcessPlan process_plan(const Tensors& tensors) override { return device_->plan(tensors); }
    void process_weights_after_loading(const Exec& exec, const Tensors& tensors,
                                       uint8_t* buffer) override {
      device_->load(*exec.raw(), tensors, buffer);
    }
    uint64_t workspace(int64_t max_tokens, int) const override {
      return device_->workspace(max_tokens);
    }
    void apply_on_device(const pluq_exec& exec, const pluq_activation& x, const float* bias,
                         const pluq_output& y) const override {
      plain_input(layer(), x);
      device_->apply(exec, kept(), x, bias, y);
    }
    void dequantize(const Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                    int64_t ld) const override {
      cpu_->dequantize(tensors, n_begin, n_end, out, ld);
    }
    void fill(std::string_view suffix, uint64_t seed, uint8_t* data, uint64_t bytes) override {
      cpu_->fill(suffix, seed, data, bytes);
    }

   private:
    std::unique_ptr<LinearMethod> cpu_;
    std::unique_ptr<DeviceLinear> device_;
    uint32_t device_kind_;
  };

}  // namespace )
}  // namespace cuda
}  // namespace pluq
