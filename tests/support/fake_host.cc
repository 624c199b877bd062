// SPDX-License-Identifier: Apache-2.0
// Loading a plugin, its configurations and its quantizer.
#include "support/fake_host.h"

#include <dlfcn.h>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>

#include "support/fake_parts.h"

struct pluq_registrar {
  std::vector<pluq_format> formats;
};

namespace pluq::test {

namespace json = boost::json;

namespace {

uint64_t features_of(const std::string& isa) {
  uint64_t f = PLUQ_CPU_X86_64_V2;
  if (isa == "portable") return f;
  f |= PLUQ_CPU_AVX2 | PLUQ_CPU_FMA | PLUQ_CPU_F16C | PLUQ_CPU_BMI2;
  if (isa == "avx2") return f;
  f |= PLUQ_CPU_AVX512F | PLUQ_CPU_AVX512BW | PLUQ_CPU_AVX512VL | PLUQ_CPU_AVX512DQ;
  if (__builtin_cpu_supports("avx512vnni")) f |= PLUQ_CPU_AVX512VNNI;
  return f;
}

// ------------------------------------------------------------------ quantizing

struct Job {
  const std::vector<float>* w;
  int64_t k;
  std::vector<FileTensor>* out;
  std::mutex mutex;
};

pluq_status* job_rows(const pluq_quantize_context* c, size_t, int64_t begin, int64_t end,
                      float* out, int64_t ld) {
  const auto* job = static_cast<const Job*>(c->user);
  for (int64_t n = begin; n < end; ++n)
    std::copy_n(job->w->data() + n * job->k, job->k, out + (n - begin) * ld);
  return nullptr;
}
pluq_status* job_emit(const pluq_quantize_context* c, size_t, pluq_str suffix, int64_t begin,
                      int64_t end, const void* data, uint64_t bytes) {
  auto* job = static_cast<Job*>(c->user);
  const std::lock_guard lock(job->mutex);
  for (FileTensor& t : *job->out) {
    if (t.name != text_of(suffix)) continue;
    const int64_t rows = t.shape.empty() ? 1 : t.shape[0];
    const uint64_t row = t.bytes.size() / static_cast<uint64_t>(rows);
    if (bytes != row * static_cast<uint64_t>(end - begin))
      return fake_table().status_new(&fake_table(), PLUQ_STATUS_INVALID, "emit: wrong size", 16);
    std::memcpy(t.bytes.data() + row * static_cast<uint64_t>(begin), data, bytes);
    return nullptr;
  }
  return fake_table().status_new(&fake_table(), PLUQ_STATUS_NOT_FOUND, "emit: unknown tensor", 20);
}

pluq_status* register_format(pluq_registrar* registrar, const pluq_format* format) {
  registrar->formats.push_back(*format);
  return nullptr;
}

}  // namespace

std::vector<std::string> isas() {
  std::vector<std::string> out{"portable"};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) out.emplace_back("avx2");
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
    out.emplace_back("avx512");
  }
  return out;
}

// ------------------------------------------------------------------ FakeFormat, FakeConfig

const FakeFormat& FakeFormat::get(const std::string& id) {
  static std::map<std::string, FakeFormat> loaded;
  if (const auto it = loaded.find(id); it != loaded.end()) return it->second;
  const std::string path = std::string(PLUQ_BINARY_DIR) + "/lib/pluq/plugins/" + id + ".so";
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(::dlerror());
  const auto entry = reinterpret_cast<pluq_plugin_entry_fn>(::dlsym(library, PLUQ_ENTRY_SYMBOL));
  if (entry == nullptr) throw std::runtime_error(path + " has no " PLUQ_ENTRY_SYMBOL);
  pluq_registrar registrar;
  const pluq_handshake handshake{sizeof handshake, PLUQ_ABI_MAJOR, PLUQ_ABI_MINOR,
                                 PLUQ_ABI_MINOR,   &registrar,     register_format};
  pluq_plugin_info info{};
  info.struct_size = sizeof info;
  check(entry(&fake_table(), &handshake, &info));
  for (const pluq_format& f : registrar.formats) {
    pluq_format_info about{};
    about.struct_size = sizeof about;
    f.api->describe(f.self, &about);
    FakeFormat& format = loaded[text_of(about.id)];
    format.id_ = text_of(about.id);
    format.format_ = f;
  }
  return loaded.at(id);
}

int32_t FakeFormat::probe(const std::string& quantization, std::string* reason) const {
  const json::value q = quantization.empty() ? json::value() : json::parse(quantization);
  pluq_probe_request request{};
  request.struct_size = sizeof request;
  request.container = str_of("safetensors");
  request.quantization = q.is_null() ? nullptr : cursor(&q);
  if (q.is_object()) {
    if (const json::value* m = q.get_object().if_contains("quant_method");
        m != nullptr && m->is_string()) {
      request.quant_method = {m->get_string().data(), m->get_string().size()};
    }
  }
  char text[512];
  pluq_probe_result result{sizeof result, 0, {text, sizeof text, 0}};
  check(format_.api->probe(format_.self, &request, &result));
  if (reason != nullptr) *reason = std::string(text, result.reason.size);
  return result.score;
}

std::unique_ptr<FakeConfig> FakeFormat::config(const std::string& quantization) const {
  const json::value q = quantization.empty() ? json::value() : json::parse(quantization);
  pluq_config_request request{};
  request.struct_size = sizeof request;
  request.container = str_of("safetensors");
  request.quantization = q.is_null() ? nullptr : cursor(&q);
  pluq_config out{};
  check(format_.api->create_config(format_.self, &request, &out));
  return std::make_unique<FakeConfig>(out, id_);
}

std::vector<FileTensor> FakeFormat::quantize(const std::vector<float>& w, int64_t n, int64_t k,
                                             const std::string& options,
                                             std::string* config) const {
  const auto* api =
      static_cast<const pluq_quantizer*>(format_.api->get_extension(format_.self, PLUQ_QUANTIZER));
  if (api == nullptr) throw std::runtime_error(id_ + " cannot quantize");
  const json::value o = json::parse(options);
  pluq_quantize_layer layer{sizeof layer, 0, str_of("layer"), str_of("linear"), k, n};
  pluq_quantize_request request{};
  request.struct_size = sizeof request;
  request.algorithm = str_of("rtn");
  request.options = cursor(&o);
  request.model_dtype = scalar_dtype(PLUQ_DTYPE_BF16);
  request.layers = &layer;
  request.layer_stride = sizeof layer;
  request.layer_count = 1;
  uint32_t statistics = 0;
  void* job = nullptr;
  check(api->begin(format_.self, &request, &statistics, &job));
  const std::unique_ptr<void, void (*)(void*)> ended(job, api->end);
  std::vector<FileTensor> out;
  for (const BoxSpec& s : ask_specs([&](pluq_weight_spec*at, size_t*count) {
         return api->output_specs(job, 0, at, sizeof *at, count);
       })) {
    int64_t elements = 1;
    for (const int64_t d : s.shape) elements *= d;
    out.push_back(
        {s.suffix, s.dtype_id, s.shape,
         std::vector<uint8_t>(static_cast<uint64_t>(elements) * element_bytes(s.dtype_id))});
  }
  Threads threads;
  prepare(&threads, 2, nullptr, 0);
  Job state{&w, k, &out, {}};
  pluq_quantize_context context{};
  context.struct_size = sizeof context;
  context.host = &fake_table();
  context.exec = &threads.exec;
  context.user = &state;
  context.rows = job_rows;
  context.emit = job_emit;
  check(api->solve(job, &context));
  const pluq_text_sink sink{sizeof sink, 0, config, [](void* user, const char* text, size_t size) {
                              static_cast<std::string*>(user)->append(text, size);
                            }};
  check(api->write_config(format_.self, &request, nullptr, 0, &sink));
  return out;
}

FakeChoice FakeConfig::choose(const LayerAsk& given, const std::vector<FileTensor>& file,
                              const std::string& isa, bool with_data) const {
  LayerAsk ask = given;
  if (ask.in_end < 0) ask.in_end = ask.k;
  if (ask.out_end < 0) ask.out_end = ask.n;
  std::vector<pluq_tensor> tensors;
  for (const FileTensor& t : file) tensors.push_back(view(t, with_data));
  pluq_layer_desc d{};
  d.struct_size = sizeof d;
  d.compute = ask.exact ? PLUQ_COMPUTE_EXACT : PLUQ_COMPUTE_FAST;
  d.activations = ask.float_activations ? PLUQ_ACTIVATIONS_FLOAT : PLUQ_ACTIVATIONS_CHECKPOINT;
  d.name = str_of(ask.name);
  d.kind = str_of(ask.kind);
  d.module_class = str_of(ask.module_class);
  d.in_features = ask.k;
  d.out_features = ask.n;
  d.in_begin = ask.in_begin;
  d.in_end = ask.in_end;
  d.out_begin = ask.out_begin;
  d.out_end = ask.out_end;
  if (!ask.parts.empty()) d.output_parts = ask.parts.data();
  d.output_parts_count = ask.parts.size();
  d.activation_dtype = scalar_dtype(PLUQ_DTYPE_F32);
  d.max_tokens = 64;
  d.tensors_known = 1;
  d.tensors = tensors.data();
  d.tensor_stride = sizeof(pluq_tensor);
  d.tensor_count = tensors.size();
  pluq_device device{};
  device.struct_size = sizeof device;
  device.kind = PLUQ_DEVICE_CPU;
  device.n_workers = 2;
  if (isa.starts_with("sm")) {
    device.kind = PLUQ_DEVICE_CUDA_EMULATED;
    device.n_workers = 1;
    device.compute_capability = static_cast<uint32_t>(std::stoul(isa.substr(2)));
    device.sm_count = 4;
    d.activation_dtype = scalar_dtype(PLUQ_DTYPE_BF16);
  } else {
    device.cpu_features = features_of(isa);
  }
  char text[1024];
  pluq_method_choice choice{};
  choice.struct_size = sizeof choice;
  choice.reason = {text, sizeof text, 0};
  check(config_.api->get_quant_method(config_.self, &d, &device, &choice));
  FakeChoice out;
  out.verdict = choice.verdict;
  out.score = choice.score;
  if (choice.verdict == PLUQ_VERDICT_USE) {
    out.method = std::make_unique<FakeMethod>(choice.method, format_, ask);
  } else {
    out.reason = std::string(text, choice.reason.size);
  }
  return out;
}

}  // namespace pluq::test
