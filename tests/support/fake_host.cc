// SPDX-License-Identifier: Apache-2.0
#include "support/fake_host.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <dlfcn.h>

#include <algorithm>
#include <barrier>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <regex>
#include <stdexcept>
#include <thread>

struct pluq_status {
  int32_t code;
  std::string text;
};

struct pluq_registrar {
  std::vector<pluq_format> formats;
};

namespace pluq::test {

namespace json = boost::json;

namespace {

std::mutex log_mutex;
std::vector<std::string> log_lines;

std::string text_of(pluq_str s) { return std::string(s.data == nullptr ? "" : s.data, s.data == nullptr ? 0 : s.size); }
pluq_str str_of(std::string_view s) { return {s.data(), s.size()}; }

// ------------------------------------------------------------------ the host's table

pluq_status* status_new(const pluq_host*, int32_t code, const char* text, size_t size) { return new pluq_status{code, std::string(text, size)}; }
int32_t status_code(const pluq_status* s) { return s->code; }
pluq_str status_text(const pluq_status* s) { return str_of(s->text); }
void status_free(const pluq_host*, pluq_status* s) { delete s; }
void host_log(const pluq_host*, int32_t, pluq_str text) {
  const std::lock_guard lock(log_mutex);
  log_lines.push_back(text_of(text));
}

const json::value& node(const pluq_json* n) { return *reinterpret_cast<const json::value*>(n); }
const pluq_json* cursor(const json::value* v) { return reinterpret_cast<const pluq_json*>(v); }

int32_t json_type(const pluq_json* n) {
  const json::value& v = node(n);
  if (v.is_bool()) return PLUQ_JSON_BOOL;
  if (v.is_int64()) return PLUQ_JSON_INT;
  if (v.is_number()) return PLUQ_JSON_REAL;
  if (v.is_string()) return PLUQ_JSON_STRING;
  if (v.is_array()) return PLUQ_JSON_ARRAY;
  return v.is_object() ? PLUQ_JSON_OBJECT : PLUQ_JSON_NULL;
}
size_t json_size(const pluq_json* n) {
  const json::value& v = node(n);
  return v.is_array() ? v.get_array().size() : v.is_object() ? v.get_object().size() : 0;
}
const pluq_json* json_get(const pluq_json* n, pluq_str key) {
  const json::object* o = node(n).if_object();
  return o == nullptr ? nullptr : cursor(o->if_contains(std::string_view(key.data, key.size)));
}
const pluq_json* json_at(const pluq_json* n, size_t i) {
  const json::value& v = node(n);
  if (i >= json_size(n)) return nullptr;
  return cursor(v.is_array() ? &v.get_array()[i] : &(v.get_object().begin() + static_cast<ptrdiff_t>(i))->value());
}
pluq_str json_key_at(const pluq_json* n, size_t i) {
  const json::object* o = node(n).if_object();
  if (o == nullptr || i >= o->size()) return {};
  const std::string_view key = (o->begin() + static_cast<ptrdiff_t>(i))->key();
  return str_of(key);
}
int64_t json_as_int(const pluq_json* n) {
  const json::value& v = node(n);
  return v.is_bool() ? v.get_bool() : v.is_int64() ? v.get_int64() : v.is_double() ? static_cast<int64_t>(v.get_double()) : 0;
}
double json_as_real(const pluq_json* n) { return node(n).is_number() ? node(n).to_number<double>() : 0; }
pluq_str json_as_string(const pluq_json* n) {
  const json::string* s = node(n).if_string();
  return s == nullptr ? pluq_str{} : pluq_str{s->data(), s->size()};
}

pluq_status* host_match(const pluq_host* host, int32_t kind, pluq_str pattern, pluq_str name, int32_t* matched) {
  const std::string p = text_of(pattern), n = text_of(name);
  try {
    if (kind == PLUQ_MATCH_EXACT) {
      *matched = p == n;
    } else if (kind == PLUQ_MATCH_SUBSTRING) {
      *matched = n.find(p) != std::string::npos;
    } else {
      *matched = std::regex_search(n, std::regex(p), std::regex_constants::match_continuous);
    }
  } catch (const std::regex_error& e) {
    return status_new(host, PLUQ_STATUS_INVALID, e.what(), std::strlen(e.what()));
  }
  return nullptr;
}

const void* host_extension(const pluq_host*, const char* id) {
  static const pluq_host_json json_api{sizeof(pluq_host_json), 0,         json_type,    json_size,   json_get,
                                       json_at,                json_key_at, json_as_int, json_as_real, json_as_string};
  static const pluq_host_match match_api{sizeof(pluq_host_match), 0, host_match};
  if (std::strcmp(id, PLUQ_HOST_JSON) == 0) return &json_api;
  if (std::strcmp(id, PLUQ_HOST_MATCH) == 0) return &match_api;
  return nullptr;
}

const pluq_host& host() {
  static const pluq_host table{sizeof(pluq_host), PLUQ_ABI_MAJOR, PLUQ_ABI_MINOR, 0,        str_of("fake"), str_of("0"),
                               status_new,        status_code,    status_text,    status_free, host_log,      host_extension};
  return table;
}

void check(pluq_status* status) {
  if (status == nullptr) return;
  Refusal r{status->code, status->text};
  delete status;
  throw r;
}

pluq_dtype dtype(uint32_t id) { return {id, 1, static_cast<uint32_t>(element_bytes(id))}; }

pluq_tensor view(const FileTensor& t, bool with_data) {
  pluq_tensor out{};
  out.struct_size = sizeof out;
  out.rank = static_cast<uint32_t>(t.shape.size());
  out.name = str_of(t.name);
  out.dtype = dtype(t.dtype_id);
  out.device_kind = PLUQ_DEVICE_CPU;
  std::copy(t.shape.begin(), t.shape.end(), out.shape);
  out.data = with_data ? t.bytes.data() : nullptr;
  out.data_bytes = t.bytes.size();
  return out;
}

// ------------------------------------------------------------------ execution

// A region on n threads, as exec->user: the barrier of the region that is open.
struct Threads {
  pluq_exec exec{};  // first: the callbacks get a pointer to it
  std::unique_ptr<std::barrier<>> barrier;
};

void run_parallel(const pluq_exec* exec, void (*fn)(void*, int32_t, int32_t), void* user) {
  auto* self = reinterpret_cast<Threads*>(const_cast<pluq_exec*>(exec));
  self->barrier = std::make_unique<std::barrier<>>(exec->n_workers);
  std::vector<std::thread> threads;
  for (int32_t i = 0; i < exec->n_workers; ++i) threads.emplace_back([=] { fn(user, i, exec->n_workers); });
  for (std::thread& t : threads) t.join();
}
void run_barrier(const pluq_exec* exec, int32_t) { reinterpret_cast<Threads*>(const_cast<pluq_exec*>(exec))->barrier->arrive_and_wait(); }

void prepare(Threads* t, int n_workers, void* workspace, uint64_t bytes) {
  t->exec.struct_size = sizeof(pluq_exec);
  t->exec.device_kind = PLUQ_DEVICE_CPU;
  t->exec.host = &host();
  t->exec.workspace = workspace;
  t->exec.workspace_bytes = bytes;
  t->exec.worker = -1;
  t->exec.n_workers = n_workers;
  t->exec.parallel = run_parallel;
  t->exec.barrier = run_barrier;
}

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

pluq_status* job_rows(const pluq_quantize_context* c, size_t, int64_t begin, int64_t end, float* out, int64_t ld) {
  const auto* job = static_cast<const Job*>(c->user);
  for (int64_t n = begin; n < end; ++n) std::copy_n(job->w->data() + n * job->k, job->k, out + (n - begin) * ld);
  return nullptr;
}
pluq_status* job_emit(const pluq_quantize_context* c, size_t, pluq_str suffix, int64_t begin, int64_t end, const void* data, uint64_t bytes) {
  auto* job = static_cast<Job*>(c->user);
  const std::lock_guard lock(job->mutex);
  for (FileTensor& t : *job->out) {
    if (t.name != text_of(suffix)) continue;
    const int64_t rows = t.shape.empty() ? 1 : t.shape[0];
    const uint64_t row = t.bytes.size() / static_cast<uint64_t>(rows);
    if (bytes != row * static_cast<uint64_t>(end - begin)) return status_new(&host(), PLUQ_STATUS_INVALID, "emit: wrong size", 16);
    std::memcpy(t.bytes.data() + row * static_cast<uint64_t>(begin), data, bytes);
    return nullptr;
  }
  return status_new(&host(), PLUQ_STATUS_NOT_FOUND, "emit: unknown tensor", 20);
}

std::vector<BoxSpec> read_specs(const std::vector<pluq_weight_spec>& specs) {
  std::vector<BoxSpec> out;
  for (const pluq_weight_spec& s : specs) {
    BoxSpec b;
    b.suffix = text_of(s.suffix);
    b.dtype_id = s.dtype.id;
    b.optional = (s.flags & PLUQ_WEIGHT_OPTIONAL) != 0;
    b.shape.assign(s.shape, s.shape + s.rank);
    b.begin.assign(s.box_begin, s.box_begin + s.rank);
    b.end.assign(s.box_end, s.box_end + s.rank);
    out.push_back(std::move(b));
  }
  return out;
}

template <class Call>
std::vector<BoxSpec> ask_specs(const Call& call) {
  size_t count = 0;
  check(call(nullptr, &count));
  std::vector<pluq_weight_spec> specs(count);
  for (pluq_weight_spec& s : specs) {
    s.struct_size = sizeof s;
    s.sample.struct_size = sizeof s.sample;
  }
  check(call(specs.data(), &count));
  return read_specs(specs);
}

FileTensor cut_box(const FileTensor& t, const BoxSpec& s) {
  FileTensor out{t.name, t.dtype_id, {}, {}};
  const uint64_t size = element_bytes(t.dtype_id);
  int64_t outer = 1;
  for (size_t d = 0; d < s.shape.size(); ++d) {
    if (s.begin[d] < 0 || s.begin[d] > s.end[d] || s.end[d] > t.shape[d]) throw std::runtime_error("the box of " + t.name + " leaves the tensor");
    out.shape.push_back(s.end[d] - s.begin[d]);
    if (d + 1 < s.shape.size()) outer *= out.shape[d];
  }
  if (s.shape.empty()) {
    out.bytes = t.bytes;
    return out;
  }
  const size_t last = s.shape.size() - 1;
  for (int64_t i = 0; i < outer; ++i) {
    int64_t rest = i, row = 0, stride = 1;
    for (size_t d = last; d-- > 0;) {
      row += (s.begin[d] + rest % out.shape[d]) * stride;
      rest /= out.shape[d];
      stride *= t.shape[d];
    }
    const uint8_t* from = t.bytes.data() + static_cast<uint64_t>(row * t.shape[last] + s.begin[last]) * size;
    out.bytes.insert(out.bytes.end(), from, from + static_cast<uint64_t>(out.shape[last]) * size);
  }
  return out;
}

}  // namespace

uint64_t element_bytes(uint32_t id) {
  switch (id) {
    case PLUQ_DTYPE_I64:
    case PLUQ_DTYPE_U64:
    case PLUQ_DTYPE_F64: return 8;
    case PLUQ_DTYPE_I32:
    case PLUQ_DTYPE_U32:
    case PLUQ_DTYPE_F32: return 4;
    case PLUQ_DTYPE_I16:
    case PLUQ_DTYPE_U16:
    case PLUQ_DTYPE_F16:
    case PLUQ_DTYPE_BF16: return 2;
    default: return 1;
  }
}

std::vector<std::string> isas() {
  std::vector<std::string> out{"portable"};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) out.emplace_back("avx2");
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq")) {
    out.emplace_back("avx512");
  }
  return out;
}

std::vector<std::string> take_logs() {
  const std::lock_guard lock(log_mutex);
  return std::exchange(log_lines, {});
}

// ------------------------------------------------------------------ FakeFormat, FakeConfig

static pluq_status* register_format(pluq_registrar* registrar, const pluq_format* format) {
  registrar->formats.push_back(*format);
  return nullptr;
}

const FakeFormat& FakeFormat::get(const std::string& id) {
  static std::map<std::string, FakeFormat> loaded;
  if (const auto it = loaded.find(id); it != loaded.end()) return it->second;
  const std::string path = std::string(PLUQ_BINARY_DIR) + "/lib/pluq/plugins/" + id + ".so";
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(::dlerror());
  const auto entry = reinterpret_cast<pluq_plugin_entry_fn>(::dlsym(library, PLUQ_ENTRY_SYMBOL));
  if (entry == nullptr) throw std::runtime_error(path + " has no " PLUQ_ENTRY_SYMBOL);
  pluq_registrar registrar;
  const pluq_handshake handshake{sizeof handshake, PLUQ_ABI_MAJOR, PLUQ_ABI_MINOR, PLUQ_ABI_MINOR, &registrar, register_format};
  pluq_plugin_info info{};
  info.struct_size = sizeof info;
  check(entry(&host(), &handshake, &info));
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
    if (const json::value* m = q.get_object().if_contains("quant_method"); m != nullptr && m->is_string()) {
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

std::vector<FileTensor> FakeFormat::quantize(const std::vector<float>& w, int64_t n, int64_t k, const std::string& options,
                                             std::string* config) const {
  const auto* api = static_cast<const pluq_quantizer*>(format_.api->get_extension(format_.self, PLUQ_QUANTIZER));
  if (api == nullptr) throw std::runtime_error(id_ + " cannot quantize");
  const json::value o = json::parse(options);
  pluq_quantize_layer layer{sizeof layer, 0, str_of("layer"), str_of("linear"), k, n};
  pluq_quantize_request request{};
  request.struct_size = sizeof request;
  request.algorithm = str_of("rtn");
  request.options = cursor(&o);
  request.model_dtype = dtype(PLUQ_DTYPE_BF16);
  request.layers = &layer;
  request.layer_stride = sizeof layer;
  request.layer_count = 1;
  uint32_t statistics = 0;
  void* job = nullptr;
  check(api->begin(format_.self, &request, &statistics, &job));
  const std::unique_ptr<void, void (*)(void*)> ended(job, api->end);
  std::vector<FileTensor> out;
  for (const BoxSpec& s : ask_specs([&](pluq_weight_spec* at, size_t* count) { return api->output_specs(job, 0, at, sizeof *at, count); })) {
    int64_t elements = 1;
    for (const int64_t d : s.shape) elements *= d;
    out.push_back({s.suffix, s.dtype_id, s.shape, std::vector<uint8_t>(static_cast<uint64_t>(elements) * element_bytes(s.dtype_id))});
  }
  Threads threads;
  prepare(&threads, 2, nullptr, 0);
  Job state{&w, k, &out, {}};
  pluq_quantize_context context{};
  context.struct_size = sizeof context;
  context.host = &host();
  context.exec = &threads.exec;
  context.user = &state;
  context.rows = job_rows;
  context.emit = job_emit;
  check(api->solve(job, &context));
  const pluq_text_sink sink{sizeof sink, 0, config, [](void* user, const char* text, size_t size) { static_cast<std::string*>(user)->append(text, size); }};
  check(api->write_config(format_.self, &request, nullptr, 0, &sink));
  return out;
}

FakeChoice FakeConfig::choose(const LayerAsk& given, const std::vector<FileTensor>& file, const std::string& isa, bool with_data) const {
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
  d.activation_dtype = dtype(PLUQ_DTYPE_F32);
  d.max_tokens = 64;
  d.tensors_known = 1;
  d.tensors = tensors.data();
  d.tensor_stride = sizeof(pluq_tensor);
  d.tensor_count = tensors.size();
  pluq_device device{};
  device.struct_size = sizeof device;
  device.kind = PLUQ_DEVICE_CPU;
  device.n_workers = 2;
  device.cpu_features = features_of(isa);
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

// ------------------------------------------------------------------ FakeMethod

void FakeMethod::Free::operator()(void* p) const { std::free(p); }
std::unique_ptr<uint8_t, FakeMethod::Free> FakeMethod::aligned(uint64_t bytes) {
  const uint64_t rounded = (std::max<uint64_t>(bytes, 1) + 63) / 64 * 64;
  auto* p = static_cast<uint8_t*>(std::aligned_alloc(64, rounded));
  std::memset(p, 0, rounded);
  return std::unique_ptr<uint8_t, Free>(p);
}

pluq_method_info FakeMethod::info() const {
  pluq_method_info info{};
  info.struct_size = sizeof info;
  method_.api->describe(method_.self, &info);
  return info;
}
std::string FakeMethod::scheme() const { return text_of(info().scheme); }
std::string FakeMethod::kernel() const { return text_of(info().kernel); }

std::vector<BoxSpec> FakeMethod::specs() const {
  return ask_specs([&](pluq_weight_spec* at, size_t* count) { return method_.api->create_weights(method_.self, at, sizeof *at, count); });
}

std::vector<FileTensor> FakeMethod::cut(const std::vector<FileTensor>& file) const {
  std::vector<FileTensor> out;
  for (const BoxSpec& s : specs()) {
    const auto it = std::find_if(file.begin(), file.end(), [&](const FileTensor& t) { return t.name == s.suffix; });
    if (it == file.end()) {
      if (s.optional) continue;
      throw std::runtime_error("tensor " + s.suffix + " is missing");
    }
    if (it->dtype_id != s.dtype_id || it->shape != s.shape) throw std::runtime_error("tensor " + s.suffix + " has another type or shape than declared");
    out.push_back(cut_box(*it, s));
  }
  return out;
}

std::vector<pluq_tensor> FakeMethod::views() const {
  std::vector<pluq_tensor> out;
  for (const FileTensor& t : tensors_) out.push_back(view(t, true));
  return out;
}

void FakeMethod::load(std::vector<FileTensor> shard, int n_workers) {
  tensors_ = std::move(shard);
  const std::vector<pluq_tensor> tensors = views();
  char key[128];
  pluq_process_plan plan{sizeof plan, 0, 0, 0, {key, sizeof key, 0}};
  check(method_.api->process_plan(method_.self, tensors.data(), sizeof(pluq_tensor), tensors.size(), &plan));
  buffer_ = aligned(plan.buffer_bytes);
  const auto scratch = aligned(plan.scratch_bytes);
  Threads threads;
  prepare(&threads, n_workers, scratch.get(), plan.scratch_bytes);
  check(method_.api->process_weights_after_loading(method_.self, &threads.exec, tensors.data(), sizeof(pluq_tensor), tensors.size(), buffer_.get()));
}

std::vector<float> FakeMethod::dequantize() const {
  const std::vector<pluq_tensor> tensors = views();
  std::vector<float> out(static_cast<size_t>(n() * k()));
  Threads threads;
  prepare(&threads, 1, nullptr, 0);
  const int64_t half = n() / 2;  // two ranges, as hosts ask
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, half}, {half, n()}}) {
    check(method_.api->dequantize(method_.self, &threads.exec, tensors.data(), sizeof(pluq_tensor), tensors.size(), begin, end,
                                  out.data() + begin * k(), k()));
  }
  return out;
}

std::vector<float> FakeMethod::apply(const std::vector<float>& x, int64_t m, const float* bias, int n_workers) const {
  std::vector<float> y(static_cast<size_t>(m * n()), 0);
  const uint64_t bytes = method_.api->workspace(method_.self, m, n_workers);
  const auto space = aligned(bytes);
  std::memset(space.get(), 0xff, bytes);  // contents are undefined
  Threads threads;
  prepare(&threads, n_workers, space.get(), bytes);
  pluq_activation a{};
  a.struct_size = sizeof a;
  a.device_kind = PLUQ_DEVICE_CPU;
  a.data = x.data();
  a.dtype = dtype(PLUQ_DTYPE_F32);
  a.m = m;
  a.k = a.ld = k();
  pluq_output out{};
  out.struct_size = sizeof out;
  out.device_kind = PLUQ_DEVICE_CPU;
  out.data = y.data();
  out.dtype = dtype(PLUQ_DTYPE_F32);
  out.m = m;
  out.n = out.ld = n();
  check(method_.api->apply(method_.self, &threads.exec, &a, bias, &out));
  return y;
}

}  // namespace pluq::test
