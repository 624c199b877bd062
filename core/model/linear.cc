// SPDX-License-Identifier: Apache-2.0
#include "model/linear.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "device/exec.h"
#include "model/rounding.h"
#include "plugin/call_args.h"
#include "plugin/host_table.h"

namespace pluq {

LayerReport make_report(const LayerRequest& request, const ResolvedLayer& resolved) {
  const MethodDescription d = resolved.method.describe();
  LayerReport r;
  r.name = request.name;
  r.kind = request.kind;
  r.format = d.format;
  r.scheme = d.scheme;
  r.kernel = d.kernel;
  r.reason = resolved.reason.empty() ? d.reason
                                     : resolved.reason + (d.reason.empty() ? "" : "; " + d.reason);
  r.decided_by = resolved.decided_by;
  r.in_features = request.in_features;
  r.out_features = request.out_features;
  r.bits_per_weight = d.bits_per_weight;
  r.provisional = d.provisional;
  r.rounds_activations = d.arithmetic == PLUQ_ARITHMETIC_CHECKPOINT;
  for (const pluq_tensor& t : resolved.tensors) r.bytes += t.data_bytes;
  return r;
}

Linear Linear::load(const LayerRequest& request, ResolvedLayer resolved, std::vector<float> bias,
                    ThreadPool& pool) {
  Linear out;
  out.k_ = request.in_features;
  out.n_ = request.out_features;
  out.bias_ = std::move(bias);
  const Method::Plan plan = resolved.method.process_plan(resolved.tensors);
  out.buffer_ = Buffer(plan.buffer_bytes, fmt::format("the weights of layer {}", request.name));
  const Buffer scratch(plan.scratch_bytes, fmt::format("repacking layer {}", request.name));
  const HostExec exec(pool, -1, {scratch.data(), scratch.size()}, &host_table());
  resolved.method.process(exec.get(), resolved.tensors, out.buffer_.data());
  out.report_ = make_report(request, resolved);
  out.tensors_ = std::move(resolved.tensors);
  out.suffixes_ = std::move(resolved.suffixes);
  out.method_ = std::move(resolved.method);
  return out;
}

namespace {

// Rows of a layer at a time while it is dequantized.
constexpr int64_t kRowsAtOnce = 256;

}  // namespace

Linear Linear::load(const LayerRequest& request, ResolvedLayer resolved, std::vector<float> bias,
                    ThreadPool& pool, std::shared_ptr<DeviceRuntime> runtime, uint32_t dtype) {
  Linear out;
  out.k_ = request.in_features;
  out.n_ = request.out_features;
  out.runtime_ = runtime;
  out.dtype_ = dtype;
  if (!bias.empty()) {
    out.device_bias_ = DeviceBuffer(runtime, bias.size() * sizeof(float), request.name + ".bias");
    runtime->upload(out.device_bias_.data(), bias.data(), out.device_bias_.bytes());
    out.bias_ = std::move(bias);
  }
  const std::string what = fmt::format("the weights of layer {}", request.name);
  if (resolved.by_host) {
    out.plain_ = true;
    out.device_buffer_ = DeviceBuffer(runtime, static_cast<uint64_t>(out.n_ * out.k_) * 2, what);
    const HostExec exec(pool, -1, {}, &host_table());
    std::vector<float> rows;
    std::vector<std::byte> words;
    for (int64_t n = 0; n < out.n_; n += kRowsAtOnce) {
      const int64_t end = std::min(n + kRowsAtOnce, out.n_);
      const auto count = static_cast<size_t>((end - n) * out.k_);
      rows.resize(count);
      words.resize(count * 2);
      resolved.method.dequantize(exec.get(), resolved.tensors, n, end, rows.data(), out.k_);
      from_f32(dtype, rows, words.data());
      runtime->upload(out.device_buffer_.as<std::byte>() + n * out.k_ * 2, words.data(),
                      words.size());
    }
    runtime->synchronize();
    out.report_ = make_report(request, resolved);
    out.report_.kernel = dtype == PLUQ_DTYPE_BF16 ? "bf16 by the host" : "f16 by the host";
    out.report_.rounds_activations = false;
  } else {
    const Method::Plan plan = resolved.method.process_plan(resolved.tensors);
    out.device_buffer_ = DeviceBuffer(runtime, plan.buffer_bytes, what);
    if (plan.buffer_bytes > 0) runtime->zero(out.device_buffer_.data(), plan.buffer_bytes);
    const DeviceBuffer scratch(runtime, plan.scratch_bytes, "repacking " + request.name);
    std::vector<pluq_tensor> tensors = resolved.tensors;
    for (pluq_tensor& t : tensors) {
      DeviceBuffer& copy = out.uploaded_.emplace_back(runtime, t.data_bytes, what);
      runtime->upload(copy.data(), t.data, t.data_bytes);
      t.data = copy.data();
      t.device_kind = runtime->description().kind;
    }
    const DeviceExec exec(*runtime, scratch.data(), plan.scratch_bytes, &host_table());
    resolved.method.process(exec.get(), tensors, out.device_buffer_.data());
    runtime->synchronize();  // before what was only for repacking goes
    if (!plan.keep_tensors) out.uploaded_.clear();
    out.rounding_ = engine_rounding(resolved.method.describe(), resolved.tensors);
    out.report_ = make_report(request, resolved);
  }
  out.tensors_ = std::move(resolved.tensors);
  out.suffixes_ = std::move(resolved.suffixes);
  out.method_ = std::move(resolved.method);
  return out;
}

void Linear::apply_on_device(const pluq_exec* exec, const DeviceInput& x, int64_t m, void* y,
                             int64_t ldy, bool y_is_f32) const {
  const auto* bias = device_bias_.as<const float>();
  if (plain_) {
    pluq_gemm_args g{};
    g.struct_size = sizeof g;
    g.x_type = g.w_type = dtype_;
    g.y_type = y_is_f32 ? PLUQ_DTYPE_F32 : dtype_;
    g.m = m, g.n = n_, g.k = k_;
    g.x = x.data, g.ldx = x.ld;
    g.w = device_buffer_.data(), g.ldw = k_;
    g.bias = bias;
    g.y = y, g.ldy = ldy;
    if (!runtime_->ops(dtype_).gemm(g)) {
      fail(ErrorKind::kFailed, "layer {}: the device has no product for it", report_.name);
    }
    return;
  }
  const uint32_t kind = runtime_->description().kind;
  pluq_activation from = f32_rows(nullptr, m, k_, x.ld);
  from.device_kind = kind;
  from.dtype = dtype_by_id(dtype_);
  from.data = x.rounded == nullptr ? x.data : nullptr;
  pluq_quantized quantized{};
  if (x.rounded != nullptr) {
    quantized.struct_size = sizeof quantized;
    quantized.codes = x.rounded->codes;
    quantized.codes_ld = cuda::byte_pitch(k_);
    quantized.scales = x.rounded->scales;
    if (x.rounded->scheme.has_zeros()) quantized.zeros = x.rounded->zeros;
    from.quantized = &quantized;
  }
  pluq_output to = f32_output(nullptr, m, n_, ldy);
  to.device_kind = kind;
  to.dtype = dtype_by_id(y_is_f32 ? PLUQ_DTYPE_F32 : dtype_);
  to.data = y;
  method_.apply(exec, from, bias, to);
}

void Linear::gather_on_device(const pluq_exec* exec, const int32_t* ids, int64_t count,
                              uint16_t* y) const {
  if (plain_) {
    runtime_->ops(dtype_).gather(device_buffer_.as<const uint16_t>(), ids, count, k_, y);
    return;
  }
  pluq_output to = f32_output(nullptr, count, k_, k_);
  to.device_kind = runtime_->description().kind;
  to.dtype = dtype_by_id(dtype_);
  to.data = y;
  method_.gather(exec, {ids, static_cast<size_t>(count)}, to);
}

void Linear::apply(const pluq_exec* exec, const float* x, int64_t ldx, int64_t m, float* y,
                   int64_t ldy) const {
  method_.apply(exec, f32_rows(x, m, k_, ldx), bias_.empty() ? nullptr : bias_.data(),
                f32_output(y, m, n_, ldy));
}

void Linear::gather(const pluq_exec* exec, std::span<const int32_t> ids, float* y) const {
  method_.gather(exec, ids, f32_output(y, static_cast<int64_t>(ids.size()), k_, k_));
}

void Linear::dequantize(const pluq_exec* exec, int64_t n_begin, int64_t n_end, float* out) const {
  method_.dequantize(exec, tensors_, n_begin, n_end, out, k_);
}

}  // namespace pluq
