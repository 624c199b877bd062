// SPDX-License-Identifier: Apache-2.0
// From a CPU method and a launcher to a method for CUDA devices, for authors of formats:
//   return Choice::use(pluq::cuda::on_device(std::move(method), device, info, &launch), score);
// The kernel is the author's own, or the shared GEMV and GEMM over a decoder (linear.cuh). Where
// weights are repacked while loading or apply needs a workspace, derive from DeviceLinear.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "pluq/cuda/linear.h"
#include "pluq/ext/gemm.h"
#include "pluq/plugin.hpp"

namespace pluq {
namespace cuda {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  // Throws what a launcher answers, when it is an error.
  inline void check(const OpError& e) {
    if (e) throw PluginError{e.status, e.text};
  }

  // Whether this plugin holds kernels for a kind of device: always for the emulated one, for a GPU
  // when nvcc was there to build them.
  inline bool has_kernels(uint32_t device_kind) {
#if defined(PLUQ_HAS_CUDA) && PLUQ_HAS_CUDA
    if (device_kind == PLUQ_DEVICE_CUDA) return true;
#endif
    return device_kind == PLUQ_DEVICE_CUDA_EMULATED;
  }

  // F16, BF16 or F32; throws unsupported, naming `what`.
  inline Real real_type(const pluq_dtype& type, const char* what) {
    switch (type.id) {
      case PLUQ_DTYPE_F16:
        return Real::kF16;
      case PLUQ_DTYPE_BF16:
        return Real::kBf16;
      case PLUQ_DTYPE_F32:
        return Real::kF32;
      default:
        throw unsupported(std::string(what) + " is " + dtype_name(type.id) +
                          "; F16, BF16 and F32 are built");
    }
  }

  // The operands of apply_on_device.
  inline LinearIo linear_io(const pluq_activation& x, const float* bias, const pluq_output& y) {
    LinearIo io;
    io.m = x.m, io.x = x.data, io.ldx = x.ld, io.x_type = real_type(x.dtype, "x");
    io.bias = bias;
    io.y = y.data, io.ldy = y.ld, io.y_type = real_type(y.dtype, "y");
    return io;
  }

  // Refuses what the method did not say that it takes.
  inline void check_input(const LayerDesc& layer, const pluq_activation& x, bool takes_quantized) {
    if (x.rows != nullptr)
      throw unsupported("layer " + layer.name + ": ranges of rows are not built");
    if (x.quantized != nullptr && !takes_quantized) {
      throw unsupported("layer " + layer.name +
                        ": this method takes no rounded activations from the host");
    }
  }

  // A product by the host's library (pluq/ext/gemm.h). False when the host has none for these
  // arguments: use a kernel of the plugin's own then.
  inline bool host_gemm(const pluq_exec& exec, const pluq_gemm_args& args) {
    const auto* service = static_cast<const pluq_gemm*>(
        exec.host == nullptr ? nullptr : exec.host->get_extension(exec.host, PLUQ_GEMM));
    if (service == nullptr) return false;
    pluq_status* status = service->multiply(&exec, &args);
    if (status == nullptr) return true;
    if (host().status_code(status) != PLUQ_STATUS_UNSUPPORTED) pluq::check(status);
    host().status_free(&host(), status);
    return false;
  }

  // The part of a method that concerns kernels.
  class DeviceLinear {
   public:
    virtual ~DeviceLinear() = default;
    // Kernel, arithmetic, error bound, reason.
    virtual void describe(MethodInfo* info) const = 0;
    // Sees host tensors with their values.
    virtual ProcessPlan plan(const Tensors& tensors) = 0;
    // Sees the same tensors in device memory.
    virtual void load(const pluq_exec& exec, const Tensors& tensors, uint8_t* buffer) = 0;
    // Bytes of exec.workspace that apply needs; may not shrink when rows are added.
    virtual uint64_t workspace(int64_t max_tokens) const {
      (void)max_tokens;
      return 0;
    }
    // Whether apply uses x.quantized, whose layout abi.h says under DEVICES; x.data may be null
    // then. Asked after plan.
    virtual bool takes_quantized() const { return false; }
    // kept: the tensors in device memory, when the plan keeps them.
    virtual void apply(const pluq_exec& exec, const Tensors& kept, const pluq_activation& x,
                       const float* bias, const pluq_output& y) const = 0;
  };

  // From a format's CPU method what concerns the checkpoint (tensors, dequantize, description),
  // from a DeviceLinear what concerns kernels.
  class DeviceMethod final : public LinearMethod {
   public:
    // Takes both over; device_kind is the PLUQ_DEVICE_* that it runs on.
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
      info.takes_quantized = device_->takes_quantized();
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
      check_input(layer(), x, device_->takes_quantized());
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

  // Consecutive arrays in one buffer, each at a multiple of 256 bytes.
  class Arena {
   public:
    // Where the next array of so many bytes begins.
    uint64_t add(int64_t bytes) {
      const uint64_t at = bytes_;
      bytes_ += (static_cast<uint64_t>(bytes) + 255) / 256 * 256;
      return at;
    }
    uint64_t bytes() const { return bytes_; }  // of all arrays

   private:
    uint64_t bytes_ = 0;
  };

  // One call of apply on a device.
  struct DeviceCall {
    const pluq_exec* exec;   // the stream and the workspace
    const LayerDesc& layer;  // layer.n() rows and layer.k() columns of W
    const Tensors& tensors;  // those of the checkpoint, in device memory
    LinearIo io;             // x, bias and y

    // A tensor's data; throws not_found.
    template <class T>
    const T* array(std::string_view suffix) const {
      return reinterpret_cast<const T*>(tensors.at(suffix).data());
    }
  };
  // Starts the kernels of one call.
  using DeviceLauncher = OpError (*)(const DeviceCall&);

  // What the method says of itself on a device. error_bound: row-wise relative L2 against
  // dequantize; 1/64 where weights or y are rounded to bf16.
  struct DeviceKernel {
    std::string kernel;                          // "cuda_my_format"
    double error_bound = 1.0 / 64;               // of MethodInfo
    uint32_t arithmetic = PLUQ_ARITHMETIC_BF16;  // PLUQ_ARITHMETIC_*
  };

  // The kernels of a launcher over the tensors of the checkpoint; see on_device.
  class LaunchedLinear final : public DeviceLinear {
   public:
    // cpu must outlive this.
    LaunchedLinear(LinearMethod* cpu, DeviceKernel info, DeviceLauncher launcher)
        : cpu_(cpu), info_(std::move(info)), launcher_(launcher) {}
    void describe(MethodInfo* info) const override {
      info->kernel = info_.kernel;
      info->arithmetic = info_.arithmetic;
      info->activations = {};
      info->error_bound = info_.error_bound;
    }
    // The CPU's method looks at the values and refuses what it must. Its run-time layout is not
    // used: the tensors of the checkpoint stay.
    ProcessPlan plan(const Tensors& tensors) override {
      cpu_->process_plan(tensors);
      return {};
    }
    void load(const pluq_exec&, const Tensors&, uint8_t*) override {}
    void apply(const pluq_exec& exec, const Tensors& kept, const pluq_activation& x,
               const float* bias, const pluq_output& y) const override {
      check(launcher_(DeviceCall{&exec, cpu_->layer(), kept, linear_io(x, bias, y)}));
    }

   private:
    LinearMethod* cpu_;
    DeviceKernel info_;
    DeviceLauncher launcher_;
  };

  // `cpu` itself when the device is the CPU, or is one that this plugin has no kernels for (the
  // host then dequantizes the layer).
  inline std::unique_ptr<LinearMethod> on_device(std::unique_ptr<LinearMethod> cpu,
                                                 const Device& device, DeviceKernel info,
                                                 DeviceLauncher launcher) {
    if (!has_kernels(device.kind)) return cpu;
    auto linear = std::make_unique<LaunchedLinear>(cpu.get(), std::move(info), launcher);
    return std::make_unique<DeviceMethod>(std::move(cpu), std::move(linear), device.kind);
  }

}  // namespace )
}  // namespace cuda
}  // namespace pluq
