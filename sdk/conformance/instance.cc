// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <exception>

#include "checkpoint/dtype.h"
#include "conformance/cases.h"
#include "device/device.h"
#include "device/exec.h"
#include "device/isa.h"
#include "plugin/call_args.h"
#include "plugin/tables.h"

namespace pluq::conformance {

std::string Setting::text() const {
  if (device) {
    return fmt::format("{} activations{}", dtype_name(activation_dtype),
                       std::string_view(kind) == "linear" ? "" : fmt::format(", {}", kind));
  }
  return fmt::format("{} {}{}", isa_name(best_isa(features)),
                     compute == PLUQ_COMPUTE_EXACT ? "exact" : "fast",
                     activations == PLUQ_ACTIVATIONS_FLOAT ? " float" : "");
}

Setting best_setting(int workers) {
  Setting s;
  s.features = allowed_features();
  s.workers = workers;
  return s;
}

std::vector<Setting> all_settings(int workers) {
  std::vector<Setting> out;
  const uint64_t have = allowed_features();
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (isa > best_isa(have)) continue;
    // AVX-512 without VNNI, VBMI and BF16 is a level of its own.
    std::vector<uint64_t> words{lower_features(have, isa)};
    if (isa == Isa::kAvx512) {
      const uint64_t plain =
          words[0] &
          ~(PLUQ_CPU_AVX512VNNI | PLUQ_CPU_AVX512VBMI | PLUQ_CPU_AVX512BF16 | PLUQ_CPU_AVX_VNNI |
            PLUQ_CPU_AMX_TILE | PLUQ_CPU_AMX_INT8 | PLUQ_CPU_AMX_BF16);
      if (plain != words[0]) words.push_back(plain);
    }
    for (const uint64_t features : words) {
      for (const uint32_t compute : {PLUQ_COMPUTE_EXACT, PLUQ_COMPUTE_FAST}) {
        for (const uint32_t activations : {PLUQ_ACTIVATIONS_CHECKPOINT, PLUQ_ACTIVATIONS_FLOAT}) {
          out.push_back({features, compute, activations, workers});
        }
      }
    }
  }
  return out;
}

namespace {

pluq_layer_desc describe(const Case& layer, const Setting& setting, const Shard* shard) {
  pluq_layer_desc d = whole_layer("layer", setting.kind, layer.k, layer.n, layer.tensors);
  d.compute = setting.compute;
  d.activations = setting.activations;
  d.activation_dtype = dtype_by_id(setting.activation_dtype);
  if (shard != nullptr) {
    d.in_begin = shard->k0;
    d.in_end = shard->k1;
    d.out_begin = shard->n0;
    d.out_end = shard->n1;
  }
  d.max_tokens = 512;
  d.max_workspace_bytes = uint64_t{1} << 30;
  return d;
}

}  // namespace

Instance::Instance(const Case& layer, const Setting& setting, const Shard* shard)
    : layer_(layer),
      setting_(setting),
      n_(shard == nullptr ? layer.n : shard->n1 - shard->n0),
      k_(shard == nullptr ? layer.k : shard->k1 - shard->k0) {
  step("create_config for {}", layer.label);
  pluq_config_request request{};
  request.struct_size = sizeof request;
  request.container = str_of(std::string_view(layer.container()));
  request.quantization = layer.quantization.is_null() ? nullptr : json_cursor(&layer.quantization);
  ok(layer.raw.api->create_config(layer.raw.self, &request, &config_),
     layer.label + ": create_config");
  if (const char* slot = missing_slot(config_.api))
    fail_test("{}: the config table is too short or has an empty slot: {}", layer.label, slot);
  const pluq_layer_desc desc = describe(layer, setting, shard);
  pluq_device device = describe_cpu(setting.workers);
  device.cpu_features = setting.features;
  if (setting.device) device = *setting.device;
  char reason[1024] = {};
  pluq_method_choice choice{};
  choice.struct_size = sizeof choice;
  choice.reason = {reason, sizeof reason, 0};
  step("get_quant_method for {}", text());
  pluq_status* status = config_.api->get_quant_method(config_.self, &desc, &device, &choice);
  const std::string why(reason, std::min(choice.reason.size, sizeof reason));
  if (status != nullptr || choice.verdict != PLUQ_VERDICT_USE) {
    const int32_t code =
        status == nullptr ? PLUQ_STATUS_UNSUPPORTED : host_table().status_code(status);
    const std::string words = status == nullptr ? why : take_text(status);
    config_.api->destroy(config_.self);
    const bool refuses = status != nullptr || choice.verdict == PLUQ_VERDICT_UNSUPPORTED;
    const bool may_decline = std::string_view(setting.kind) != "linear";  // as heads and embeddings
    if (((code == PLUQ_STATUS_UNSUPPORTED && refuses) || may_decline) && !words.empty()) {
      throw Skip(text() + ": " + words);
    }
    fail_test("{}: does not take its own layer (verdict {}): {}", text(), choice.verdict, words);
  }
  method_ = choice.method;
  expect(method_.api != nullptr, "{}: says USE but gives no method", text());
  if (const char* slot = missing_slot(method_.api))
    fail_test("{}: the method table is too short or has an empty slot: {}", text(), slot);
  info_.struct_size = sizeof info_;
  info_.activation_scheme.struct_size = sizeof info_.activation_scheme;
  if (shard == nullptr) {
    tensors_ = layer.tensors;
  } else {
    slice(specs());
  }
}

Instance::~Instance() {
  // After a failure the parent shall read what failed.
  if (std::uncaught_exceptions() == 0) step("destroying {}", text());
  if (method_.api != nullptr) method_.api->destroy(method_.self);
  if (config_.api != nullptr && method_.api != nullptr) config_.api->destroy(config_.self);
}

std::string Instance::text() const { return layer_.label + ", " + setting_.text(); }

const pluq_tensor* Instance::tensor(std::string_view suffix) const {
  for (const pluq_tensor& t : tensors_) {
    if (text_of(t.name) == suffix) return &t;
  }
  return nullptr;
}

std::vector<pluq_weight_spec> Instance::specs() const {
  step("create_weights of {}", text());
  size_t count = 0;
  ok(method_.api->create_weights(method_.self, nullptr, sizeof(pluq_weight_spec), &count),
     text() + ": create_weights");
  expect(count > 0 && count <= 1000, "{}: create_weights declares {} tensors", text(), count);
  std::vector<pluq_weight_spec> out(count);
  for (pluq_weight_spec& s : out) s.struct_size = sizeof s;
  size_t again = count;
  ok(method_.api->create_weights(method_.self, out.data(), sizeof(pluq_weight_spec), &again),
     text() + ": create_weights");
  expect(again == count, "{}: create_weights declares {} tensors, then {}", text(), count, again);
  return out;
}

// Copies each spec's box out of the whole tensor, as a host does.
void Instance::slice(const std::vector<pluq_weight_spec>& specs) {
  for (const pluq_weight_spec& s : specs) {
    const auto whole =
        std::find_if(layer_.tensors.begin(), layer_.tensors.end(),
                     [&](const pluq_tensor& t) { return text_of(t.name) == text_of(s.suffix); });
    if (whole == layer_.tensors.end()) continue;
    pluq_tensor part = *whole;
    int64_t elements = 1;
    for (uint32_t d = 0; d < s.rank; ++d) {
      expect(
          s.box_begin[d] >= 0 && s.box_begin[d] <= s.box_end[d] && s.box_end[d] <= whole->shape[d],
          "{}: the box of '{}' is {} to {} along dimension {} of {}", text(), text_of(s.suffix),
          s.box_begin[d], s.box_end[d], d, whole->shape[d]);
      part.shape[d] = s.box_end[d] - s.box_begin[d];
      elements *= part.shape[d];
    }
    const auto block = static_cast<int64_t>(std::max<uint32_t>(1, s.dtype.block_elements));
    const auto block_bytes = static_cast<size_t>(s.dtype.block_bytes);
    slices_.emplace_back(static_cast<size_t>(elements / block) * block_bytes,
                         block_bytes > 8 ? 1 : block_bytes);
    auto* to = slices_.back().data();
    const int64_t inner = s.rank == 0 ? 1 : part.shape[s.rank - 1];
    const int64_t rows = inner == 0 ? 0 : elements / inner;
    for (int64_t r = 0; r < rows; ++r) {
      int64_t left = r, offset = s.rank == 0 ? 0 : s.box_begin[s.rank - 1],
              stride = s.rank == 0 ? 1 : whole->shape[s.rank - 1];
      for (int d = static_cast<int>(s.rank) - 2; d >= 0; --d) {
        offset += (s.box_begin[d] + left % part.shape[d]) * stride;
        left /= part.shape[d];
        stride *= whole->shape[d];
      }
      const size_t bytes = static_cast<size_t>(inner / block) * block_bytes;
      std::memcpy(to,
                  static_cast<const std::byte*>(whole->data) +
                      static_cast<size_t>(offset / block) * block_bytes,
                  bytes);
      to += bytes;
    }
    slices_.back().read_only();
    part.data = slices_.back().data();
    part.data_bytes = slices_.back().size();
    tensors_.push_back(part);
  }
}

bool Instance::process(ThreadPool& pool, std::string* why) {
  char key[256] = {};
  pluq_process_plan plan{};
  plan.struct_size = sizeof plan;
  plan.cache_key = {key, sizeof key, 0};
  step("process_plan of {}", text());
  if (pluq_status* s = method_.api->process_plan(method_.self, tensors_.data(), sizeof(pluq_tensor),
                                                 tensors_.size(), &plan)) {
    *why = take_text(s);
    return false;
  }
  expect(plan.buffer_bytes <= uint64_t{1} << 30, "{}: asks for a run-time buffer of {} bytes",
         text(), plan.buffer_bytes);
  buffer_ = Guarded(plan.buffer_bytes, 64);
  const Guarded scratch(plan.scratch_bytes, 64);
  const HostExec exec(pool, -1, scratch.bytes(), &host_table());
  step("process_weights_after_loading of {}", text());
  if (pluq_status* s = method_.api->process_weights_after_loading(
          method_.self, exec.get(), tensors_.data(), sizeof(pluq_tensor), tensors_.size(),
          buffer_.data())) {
    *why = take_text(s);
    return false;
  }
  expect(buffer_.intact() && scratch.intact(),
         "{}: process_weights_after_loading writes outside its buffers", text());
  buffer_.read_only();
  if (plan.keep_tensors == 0 && !slices_.empty()) slices_.clear(), tensors_.clear();
  refresh();
  return true;
}

void Instance::refresh() {
  step("describe of {}", text());
  method_.api->describe(method_.self, &info_);
}

pluq_exec single_exec() {
  pluq_exec exec{};
  exec.struct_size = sizeof exec;
  exec.device_kind = PLUQ_DEVICE_CPU;
  exec.host = &host_table();
  exec.worker = -1;
  exec.n_workers = 1;
  return exec;
}

std::vector<float> Instance::dequantize() const {
  const Guarded out(static_cast<size_t>(n_ * k_) * sizeof(float), 4);
  const pluq_exec exec = single_exec();
  step("dequantize of {}", text());
  ok(method_.api->dequantize(method_.self, &exec, tensors_.data(), sizeof(pluq_tensor),
                             tensors_.size(), 0, n_, out.as<float>(), k_),
     text() + ": dequantize");
  return {out.as<float>(), out.as<float>() + n_ * k_};
}

pluq_status* Instance::apply(const pluq_exec* exec, const float* x, int64_t ldx, int64_t m,
                             const float* bias, float* y, int64_t ldy) const {
  const pluq_activation in = f32_rows(x, m, k_, ldx);
  const pluq_output out = f32_output(y, m, n_, ldy);
  return method_.api->apply(method_.self, exec, &in, bias, &out);
}

}  // namespace pluq::conformance
