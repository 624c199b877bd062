// SPDX-License-Identifier: Apache-2.0
// One linear layer or embedding of the model: a method object of some format, its run-time memory
// and its bias.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "device/memory.h"
#include "device/runtime.h"
#include "device/thread_pool.h"
#include "plugin/layer_resolver.h"

namespace pluq {

// What inspect and the start-up log say of a layer.
struct LayerReport {
  std::string name, kind, format, scheme, kernel, reason, decided_by;
  int64_t in_features = 0, out_features = 0;
  double bits_per_weight = 0;
  uint64_t bytes = 0;  // of its tensors in the checkpoint
  bool provisional = false;
  bool rounds_activations = false;    // as the checkpoint says
  std::vector<FormatAnswer> answers;  // of every loaded format; from inspect_model alone
};

// Rows of activations on a device, as a layer reads them.
struct DeviceInput {
  const uint16_t* data = nullptr;  // [m, K] of the 16-bit type; null when rounded ones serve
  int64_t ld = 0;
  const RoundedRows* rounded = nullptr;  // by the layer's rounding(), or null
};

LayerReport make_report(const LayerRequest& request, const ResolvedLayer& resolved);

class Linear {
 public:
  Linear() = default;

  // Binds the resolved tensors and repacks them. bias: [N] or empty. The checkpoint's maps must
  // outlive it when the method keeps its tensors. Throws Error naming the layer.
  static Linear load(const LayerRequest& request, ResolvedLayer resolved, std::vector<float> bias,
                     ThreadPool& pool);

  // The same on a device: tensors are uploaded and repacked there. A layer that its format has no
  // kernels for is dequantized by the host into 16-bit weights of `dtype` (F16 or BF16), the type
  // of activations on the device.
  static Linear load(const LayerRequest& request, ResolvedLayer resolved, std::vector<float> bias,
                     ThreadPool& pool, std::shared_ptr<DeviceRuntime> runtime, uint32_t dtype);

  // y [m, N] = x [m, K] W^T + bias; rows ldx and ldy apart. exec as in the ABI: outside a region or
  // by all workers.
  void apply(const pluq_exec* exec, const float* x, int64_t ldx, int64_t m, float* y,
             int64_t ldy) const;
  // On the device: y of its 16-bit type, or f32.
  void apply_on_device(const pluq_exec* exec, const DeviceInput& x, int64_t m, void* y, int64_t ldy,
                       bool y_is_f32) const;
  // On the device: how the engine may round x for this layer.
  const std::optional<RoundScheme>& rounding() const { return rounding_; }
  // ids: memory of the device.
  void gather_on_device(const pluq_exec* exec, const int32_t* ids, int64_t count,
                        uint16_t* y) const;
  // y [ids, K] = rows of W.
  void gather(const pluq_exec* exec, std::span<const int32_t> ids, float* y) const;
  // Rows [n_begin, n_end) of W as f32, ld = K.
  void dequantize(const pluq_exec* exec, int64_t n_begin, int64_t n_end, float* out) const;
  uint64_t workspace(int64_t max_tokens, int workers) const {
    return plain_ ? 0 : method_.workspace(max_tokens, workers);
  }

  // Applies the kernel to a few rows of zeros and ones and compares some columns with dequantize.
  // What is wrong, or empty; empty also for layers that are too large for that.
  std::string check(ThreadPool& pool) const;

  int64_t in_features() const { return k_; }
  int64_t out_features() const { return n_; }
  const LayerReport& report() const { return report_; }

 private:
  std::vector<float> apply_once(ThreadPool& pool, const std::vector<float>& x, int64_t m) const;
  std::string compare(ThreadPool& pool, const std::vector<float>& x, int64_t m,
                      const std::vector<float>& y, double allowed) const;

  Method method_;
  std::vector<pluq_tensor> tensors_;
  std::vector<std::shared_ptr<std::string>> suffixes_;
  Buffer buffer_;
  std::vector<float> bias_;
  int64_t k_ = 0, n_ = 0;
  LayerReport report_;

  // On a device.
  std::shared_ptr<DeviceRuntime> runtime_;
  uint32_t dtype_ = 0;                  // of activations there
  std::vector<DeviceBuffer> uploaded_;  // tensors that the method keeps
  DeviceBuffer device_buffer_;          // the method's, or 16-bit weights [N, K]
  DeviceBuffer device_bias_;            // f32 [N]
  bool plain_ = false;                  // 16-bit weights, multiplied by the engine itself
  std::optional<RoundScheme> rounding_;
};

}  // namespace pluq
