// SPDX-License-Identifier: Apache-2.0
#include "model/linear.h"

#include <utility>

#include "base/error.h"
#include "device/exec.h"
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
