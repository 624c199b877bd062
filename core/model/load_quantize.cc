// SPDX-License-Identifier: Apache-2.0
#include "model/load_quantize.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "device/exec.h"
#include "plugin/host_table.h"

namespace pluq {

ResolvedLayer quantize_while_loading(LayerResolver& resolver, const LayerRequest& request,
                                     ResolvedLayer plain, ThreadPool& pool,
                                     std::vector<std::shared_ptr<OwnedTensors>>* owned) {
  const FormatHandle& format = *plain.quantize_with;
  const pluq_tensor weight = plain.tensors.at(0);
  const std::vector<QuantizeTarget> targets{
      {request.name, request.kind, request.in_features, request.out_features}};
  const auto job = format.begin_quantize("rtn", plain.quantize_options, weight.dtype, targets);

  auto made = std::make_shared<OwnedTensors>();
  std::vector<pluq_tensor> tensors;
  const std::vector<WeightSpecInfo> specs = job->output_specs(0);
  made->names.reserve(specs.size());
  for (const WeightSpecInfo& spec : specs) {
    const uint64_t bytes = tensor_bytes(spec.dtype, spec.shape, spec.suffix);
    made->names.push_back(spec.suffix);
    made->data.emplace_back(bytes);
    pluq_tensor t{};
    t.struct_size = sizeof t;
    t.rank = static_cast<uint32_t>(spec.shape.size());
    t.name = str_of(made->names.back());
    t.dtype = spec.dtype;
    t.device_kind = PLUQ_DEVICE_CPU;
    std::copy(spec.shape.begin(), spec.shape.end(), t.shape);
    t.data_bytes = bytes;
    tensors.push_back(t);
  }
  for (size_t i = 0; i < tensors.size(); ++i) tensors[i].data = made->data[i].data();

  const auto* source = static_cast<const std::byte*>(weight.data);
  const auto row_bytes = static_cast<size_t>(request.in_features) * weight.dtype.block_bytes;
  QuantizeJob::Callbacks callbacks;
  callbacks.rows = [&](size_t, int64_t begin, int64_t end, float* out, int64_t ld) {
    for (int64_t n = begin; n < end; ++n) {
      to_f32(weight.dtype.id, {source + static_cast<size_t>(n) * row_bytes, row_bytes},
             out + (n - begin) * ld);
    }
  };
  callbacks.emit = [&](size_t, std::string_view suffix, int64_t begin, int64_t end,
                       std::span<const std::byte> data) {
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].suffix != suffix) continue;
      const int64_t rows = specs[i].shape.empty() ? 1 : specs[i].shape[0];
      const size_t per_row = rows == 0 ? 0 : made->data[i].size() / static_cast<size_t>(rows);
      if (begin < 0 || end < begin || end > rows ||
          data.size() != per_row * static_cast<size_t>(end - begin)) {
        fail_plugin("format '{}': emits rows [{}, {}) with {} bytes for tensor '{}' {}",
                    format.id(), begin, end, data.size(), suffix, shape_text(specs[i].shape));
      }
      std::memcpy(made->data[i].data() + per_row * static_cast<size_t>(begin), data.data(),
                  data.size());
      return;
    }
    fail_plugin("format '{}': emits tensor '{}', which it did not declare", format.id(),
                printable(suffix));
  };
  const HostExec exec(pool, -1, {}, &host_table());
  job->solve(exec.get(), callbacks);

  const boost::json::value config =
      format.quantization_config("rtn", plain.quantize_options, weight.dtype, targets, {});
  ResolvedLayer out =
      resolver.resolve_quantized(request, format, config, std::move(tensors), plain.decided_by);
  owned->push_back(std::move(made));
  return out;
}

}  // namespace pluq
