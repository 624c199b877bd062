// SPDX-License-Identifier: Apache-2.0
// A working format, int8 with a scale per row, that breaks one rule when fault.c says so. Compiled
// once, linked with one fault per plugin.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pluq/plugin.hpp"
#include "zoo/fault.h"

namespace {

bool has(const char* fault) { return std::string(zoo_fault) == fault; }

// One call in flight is enough for these.
volatile int sink_value = 0;

class ZooMethod final : public pluq::LinearMethod {
 public:
  explicit ZooMethod(const pluq::LayerDesc& layer) : LinearMethod(layer) {
    if (has("leaks")) lost_ = new char[4096];
    if (has("leaks_descriptors")) sink_value = ::open("/dev/null", O_RDONLY);
    if (has("leaks_maps"))
      sink_value = ::mmap(nullptr, 4096, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != nullptr;
    if (has("keeps_threads"))
      std::thread([] { std::this_thread::sleep_for(std::chrono::seconds(30)); }).detach();
  }
  ~ZooMethod() override {
    if (has("destroy_segfaults")) *reinterpret_cast<volatile int*>(uintptr_t{16}) = 1;
    while (has("destroy_hangs")) sink_value = sink_value + 1;
  }
  pluq::MethodInfo describe() const override {
    pluq::MethodInfo info;
    info.scheme = "int8 row";
    info.kernel = "zoo";
    info.error_bound = has("no_error_bound") ? 1e9 : 1e-5;
    info.bits_per_weight = 8;
    return info;
  }
  static std::vector<pluq::WeightSpec> specs(int64_t n, int64_t k) {
    pluq::WeightSpec codes, scale;
    codes.suffix = "codes";
    codes.dtype_id = PLUQ_DTYPE_I8;
    codes.shape = {n, k};
    scale.suffix = "scale";
    scale.dtype_id = PLUQ_DTYPE_F32;
    scale.shape = {n};
    scale.sample = pluq::Sample::real(1e-3, 1e-2);
    return {codes, scale};
  }
  std::vector<pluq::WeightSpec> create_weights() const override {
    std::vector<pluq::WeightSpec> out = specs(layer().out_features, layer().in_features);
    if (has("lies_about_shapes")) out[0].shape[1] *= 2;
    if (has("box_outside"))
      out[0].box_begin = {0, 0}, out[0].box_end = {layer().out_features + 1, layer().in_features};
    if (has("declares_nothing")) out.clear();
    return out;
  }
  pluq::ProcessPlan process_plan(const pluq::Tensors&) override {
    pluq::ProcessPlan plan;
    if (has("refuses_itself")) throw pluq::unsupported("not today");
    plan.buffer_bytes = has("huge_buffer") ? uint64_t{1} << 60 : 64;
    return plan;
  }
  void process_weights_after_loading(const pluq::Exec&, const pluq::Tensors& tensors,
                                     uint8_t* buffer) override {
    if (has("writes_to_weights")) *const_cast<uint8_t*>(tensors.at("codes").data()) = 1;
    if (has("writes_past_buffer")) buffer[64] = 1;
    buffer_ = buffer;
  }
  uint64_t workspace(int64_t, int n_workers) const override {
    return has("lies_about_workspace") ? 64 : 4096 * static_cast<uint64_t>(n_workers);
  }
  void apply(const pluq::Exec& exec, const pluq::Activation& x, const float* bias,
             const pluq::Output& y) const override {
    misbehave(exec, x, y);
    const pluq::Tensor &codes = kept().at("codes"), &scale = kept().at("scale");
    for (int64_t m = 0; m < y.m; ++m) {
      for (int64_t n = 0; n < y.n; ++n) {
        double sum = 0;
        for (int64_t k = 0; k < x.k; ++k)
          sum += static_cast<double>(x.data[m * x.ld + k]) * codes.load<int8_t>(n * x.k + k);
        y.data[m * y.ld + n] = static_cast<float>(sum * static_cast<double>(scale.real(n))) +
                               (bias == nullptr ? 0 : bias[n]);
      }
    }
    static int calls = 0;
    if (has("not_deterministic")) y.data[0] *= 1.0F + 1e-6F * static_cast<float>(++calls);
    if (has("wrong_result")) y.data[y.n - 1] += 1;
    if (has("gives_nan")) y.data[0] = std::nanf("");
  }
  void dequantize(const pluq::Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    const pluq::Tensor &codes = tensors.at("codes"), &scale = tensors.at("scale");
    for (int64_t n = n_begin; n < n_end; ++n) {
      for (int64_t k = 0; k < layer().k(); ++k)
        out[(n - n_begin) * ld + k] = scale.real(n) * codes.load<int8_t>(n * layer().k() + k);
    }
    if (has("dequantize_writes_past")) out[(n_end - n_begin) * ld] = 1;
  }

 private:
  void misbehave(const pluq::Exec& exec, const pluq::Activation& x, const pluq::Output& y) const {
    if (has("apply_segfaults")) *reinterpret_cast<volatile int*>(uintptr_t{16}) = 1;
    if (has("apply_aborts")) std::abort();
    if (has("apply_exits")) ::_exit(0);
    while (has("apply_hangs")) sink_value = sink_value + 1;
    if (has("apply_throws")) throw 42;
    if (has("apply_recurses")) misbehave(exec, x, y);
    if (has("writes_past_output")) y.data[(y.m - 1) * y.ld + y.n] = 0;
    if (has("reads_past_input")) sink_value = static_cast<int>(x.data[(x.m - 1) * x.ld + x.k]);
    if (has("writes_past_workspace")) exec.workspace()[exec.workspace_bytes()] = 1;
    if (has("lies_about_workspace")) exec.workspace()[4096] = 1;
    if (has("writes_to_buffer_in_apply")) buffer_[0] = 1;
    if (has("writes_to_input")) const_cast<float*>(x.data)[0] = 0;
  }
  uint8_t* buffer_ = nullptr;
  char* lost_ = nullptr;
};

class ZooConfig final : public pluq::QuantizationConfig {
 public:
  pluq::Choice get_quant_method(const pluq::LayerDesc& layer, const pluq::Device&) override {
    if (has("use_without_method")) return pluq::Choice::use(nullptr, 500);
    if (!layer.tensors.has("codes")) return pluq::Choice::not_mine("no codes");
    return pluq::Choice::use(std::make_unique<ZooMethod>(layer), 500);
  }
};

class ZooFormat final : public pluq::Format {
 public:
  pluq::FormatInfo describe() const override {
    return {"zoo_layer", "", "int8 with a scale per row", {}};
  }
  pluq::ProbeResult probe(const pluq::ProbeRequest&) override {
    if (has("probe_segfaults")) *reinterpret_cast<volatile int*>(uintptr_t{16}) = 1;
    return {0, "nothing is mine"};
  }
  std::unique_ptr<pluq::QuantizationConfig> create_config(const pluq::ConfigRequest&) override {
    if (has("config_aborts")) std::abort();
    return std::make_unique<ZooConfig>();
  }
  std::vector<pluq::SampleLayer> samples(int64_t n, int64_t k) const override {
    return {{"row", "", ZooMethod::specs(n, k)}};
  }
};

// Tables as no plugin of the SDK has them: copies of the SDK's, spoilt.
pluq_format_api format_api;
pluq_config_api config_api;
pluq_method_api method_api;
const pluq_config_api* real_config = nullptr;
const pluq_format_api* real_format = nullptr;

pluq_status* get_quant_method(void* config, const pluq_layer_desc* layer, const pluq_device* device,
                              pluq_method_choice* choice) {
  pluq_status* status = real_config->get_quant_method(config, layer, device, choice);
  if (status != nullptr || choice->method.api == nullptr) return status;
  method_api = *choice->method.api;
  if (has("short_method_table")) method_api.struct_size = offsetof(pluq_method_api, apply);
  if (has("null_method_slot")) method_api.workspace = nullptr;
  if (has("raw_apply_throws"))
    method_api.apply = [](void*, const pluq_exec*, const pluq_activation*, const float*,
                          const pluq_output*) -> pluq_status* {
      throw std::runtime_error("apply threw");
    };
  choice->method.api = &method_api;
  return nullptr;
}

pluq_status* create_config(void* format, const pluq_config_request* request, pluq_config* config) {
  pluq_status* status = real_format->create_config(format, request, config);
  if (status != nullptr) return status;
  real_config = config->api;
  config_api = *config->api;
  config_api.get_quant_method = get_quant_method;
  if (has("short_config_table")) config_api.struct_size = offsetof(pluq_config_api, destroy);
  if (has("null_config_slot")) config_api.get_quant_method = nullptr;
  config->api = &config_api;
  return nullptr;
}

struct Forward {  // stands in for the host's registrar
  const pluq_handshake* host;
};
pluq_status* register_spoilt(pluq_registrar* registrar, const pluq_format* format) {
  const auto* forward = reinterpret_cast<const Forward*>(registrar);
  real_format = format->api;
  format_api = *format->api;
  format_api.create_config = create_config;
  const pluq_format spoilt{&format_api, format->self};
  return forward->host->register_format(forward->host->registrar, &spoilt);
}

__attribute__((section(".note.pluq"), used, aligned(4))) constexpr pluq::detail::Note note = {
    5,
    sizeof(pluq_manifest),
    PLUQ_NOTE_TYPE,
    PLUQ_NOTE_NAME,
    {PLUQ_MANIFEST_MAGIC,
     sizeof(pluq_manifest),
     PLUQ_ABI_MAJOR,
     PLUQ_ABI_MIN_MINOR,
     PLUQ_ABI_MINOR,
     62,
     0,
     {0},
     "test.zoo_layer",
     "1.0.0",
     "zoo_layer"}};

}  // namespace

extern "C" __attribute__((visibility("default"))) pluq_status* PLUQ_PLUGIN_ENTRY(
    const pluq_host* host, const pluq_handshake* handshake, pluq_plugin_info* info) {
  while (has("entry_hangs")) sink_value = sink_value + 1;
  Forward forward{handshake};
  pluq_handshake to_plugin = *handshake;
  to_plugin.registrar = reinterpret_cast<pluq_registrar*>(&forward);
  to_plugin.register_format = register_spoilt;
  return pluq::detail::entry<ZooFormat>(host, &to_plugin, info, &note.manifest);
}
