// SPDX-License-Identifier: Apache-2.0
#include "cli/random_layer.h"

#include <algorithm>
#include <random>
#include <utility>

#include "base/error.h"
#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "device/device.h"
#include "device/exec.h"
#include "plugin/call_args.h"
#include "plugin/host_table.h"

namespace pluq::cli {
namespace {

constexpr size_t kMaxCopies = 64;

pluq_layer_desc describe_layer(const RandomLayerOptions& o,
                               const std::vector<pluq_tensor>& tensors) {
  pluq_layer_desc desc = whole_layer("layer", "linear", o.k, o.n, tensors);
  desc.compute = o.compute;
  desc.activations = o.activations;
  desc.max_tokens = o.max_m;
  desc.max_workspace_bytes = uint64_t{1} << 30;
  return desc;
}

void random_row(int64_t row, float* out, int64_t k) {
  std::minstd_rand random(static_cast<uint32_t>(row + 1));
  for (int64_t i = 0; i < k; ++i)
    out[i] = (static_cast<float>(random() & 0xffff) / 32768.0F - 1.0F) * 0.05F;
}

}  // namespace

RandomLayer::RandomLayer(const FormatHandle& format, const RandomLayerOptions& options,
                         ThreadPool& pool)
    : options_(options), pool_(pool) {
  if (!format.can_quantize())
    fail_usage("format '{}' cannot quantize, so no random layer can be made", format.id());
  const boost::json::value settings = format.parse_options(options.settings, "--set");
  const QuantizeTarget target{"layer", "linear", options.k, options.n};
  const auto bf16 = dtype_by_id(PLUQ_DTYPE_BF16);
  quantize(*format.begin_quantize("rtn", settings, bf16, {&target, 1}));

  const FormatConfig config = format.create_config(
      "safetensors", format.quantization_config("rtn", settings, bf16, {&target, 1}, {}), nullptr,
      "");
  const pluq_layer_desc desc = describe_layer(options_, tensors_);
  bool keeps_tensors =
      false;  // then tensors are shared by all copies, and another would be the same memory
  uint64_t total = 0;
  do {
    copies_.push_back(load(config, desc, &keeps_tensors));
    total += bytes_;
  } while (!keeps_tensors && total < options.rotate_bytes && copies_.size() < kMaxCopies);
  workspace_ = Buffer(copies_[0].method.workspace(options.max_m, pool.size()), "the workspace");
}

void RandomLayer::quantize(const QuantizeJob& job) {
  const std::vector<WeightSpecInfo> specs = job.output_specs(0);
  for (const WeightSpecInfo& s : specs) {
    names_.push_back(s.suffix);
    data_.emplace_back(tensor_bytes(s.dtype, s.shape, s.suffix));
  }
  QuantizeJob::Callbacks callbacks;
  callbacks.rows = [&](size_t, int64_t begin, int64_t end, float* rows, int64_t ld) {
    for (int64_t r = begin; r < end; ++r) random_row(r, rows + (r - begin) * ld, options_.k);
  };
  callbacks.emit = [&](size_t, std::string_view suffix, int64_t begin, int64_t,
                       std::span<const std::byte> bytes) {
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].suffix != suffix) continue;
      const size_t rows = specs[i].shape.empty() ? 1 : static_cast<size_t>(specs[i].shape[0]);
      std::copy(bytes.begin(), bytes.end(),
                data_[i].begin() + static_cast<int64_t>(data_[i].size() / rows) * begin);
    }
  };
  const HostExec exec(pool_, -1, {}, &host_table());
  job.solve(exec.get(), callbacks);
  for (size_t i = 0; i < specs.size(); ++i) {
    pluq_tensor t{};
    t.struct_size = sizeof t;
    t.rank = static_cast<uint32_t>(specs[i].shape.size());
    t.name = str_of(names_[i]);
    t.dtype = specs[i].dtype;
    t.device_kind = PLUQ_DEVICE_CPU;
    std::copy(specs[i].shape.begin(), specs[i].shape.end(), t.shape);
    t.data = data_[i].data();
    t.data_bytes = data_[i].size();
    tensors_.push_back(t);
  }
}

RandomLayer::Copy RandomLayer::load(const FormatConfig& config, const pluq_layer_desc& desc,
                                    bool* keeps_tensors) {
  MethodChoice choice = config.get_quant_method(desc, describe_cpu(pool_.size()));
  if (choice.verdict != PLUQ_VERDICT_USE)
    fail_plugin("the format does not take its own layer: {}", choice.reason);
  Copy copy{std::move(choice.method), {}};
  const Method::Plan plan = copy.method.process_plan(tensors_);
  copy.buffer = Buffer(plan.buffer_bytes, "the weights");
  const Buffer scratch(plan.scratch_bytes, "repacking");
  const HostExec exec(pool_, -1, {scratch.data(), scratch.size()}, &host_table());
  copy.method.process(exec.get(), tensors_, copy.buffer.data());
  info_ = copy.method.describe();
  *keeps_tensors = plan.keep_tensors;
  uint64_t tensor_total = 0;
  for (const auto& d : data_) tensor_total += d.size();
  bytes_ = std::max<uint64_t>(plan.buffer_bytes, plan.keep_tensors ? tensor_total : 0);
  return copy;
}

void RandomLayer::apply(const float* x, int64_t m, float* y) {
  const HostExec exec(pool_, -1, {workspace_.data(), workspace_.size()}, &host_table());
  copies_[next_++ % copies_.size()].method.apply(exec.get(), f32_rows(x, m, options_.k, options_.k),
                                                 nullptr, f32_output(y, m, options_.n, options_.n));
}

}  // namespace pluq::cli
