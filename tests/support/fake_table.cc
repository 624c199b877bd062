// SPDX-License-Identifier: Apache-2.0
// The fake host's table: statuses, log, JSON, matching; and execution on threads.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "pluq/ext/cuda_emulator.h"
#include "pluq/ext/gemm.h"
#include "support/fake_parts.h"

struct pluq_status {
  int32_t code;
  std::string text;
};

namespace pluq::test {

namespace json = boost::json;

namespace {

std::mutex log_mutex;
std::vector<std::string> log_lines;

// ------------------------------------------------------------------ the host's table

pluq_status* status_new(const pluq_host*, int32_t code, const char* text, size_t size) {
  return new pluq_status{code, std::string(text, size)};
}
int32_t status_code(const pluq_status* s) { return s->code; }
pluq_str status_text(const pluq_status* s) { return str_of(s->text); }
void status_free(const pluq_host*, pluq_status* s) { delete s; }
void host_log(const pluq_host*, int32_t, pluq_str text) {
  const std::lock_guard lock(log_mutex);
  log_lines.push_back(text_of(text));
}

const json::value& node(const pluq_json* n) { return *reinterpret_cast<const json::value*>(n); }

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
  return cursor(v.is_array() ? &v.get_array()[i]
                             : &(v.get_object().begin() + static_cast<ptrdiff_t>(i))->value());
}
pluq_str json_key_at(const pluq_json* n, size_t i) {
  const json::object* o = node(n).if_object();
  if (o == nullptr || i >= o->size()) return {};
  const std::string_view key = (o->begin() + static_cast<ptrdiff_t>(i))->key();
  return str_of(key);
}
int64_t json_as_int(const pluq_json* n) {
  const json::value& v = node(n);
  return v.is_bool()     ? v.get_bool()
         : v.is_int64()  ? v.get_int64()
         : v.is_double() ? static_cast<int64_t>(v.get_double())
                         : 0;
}
double json_as_real(const pluq_json* n) {
  return node(n).is_number() ? node(n).to_number<double>() : 0;
}
pluq_str json_as_string(const pluq_json* n) {
  const json::string* s = node(n).if_string();
  return s == nullptr ? pluq_str{} : pluq_str{s->data(), s->size()};
}

// The start of the name must match. A pattern that is none is an error.
pluq_status* match_regex(const pluq_host* host, const std::string& pattern, const std::string& name,
                         int32_t* matched) {
  int error = 0;
  PCRE2_SIZE at = 0;
  const std::unique_ptr<pcre2_code, void (*)(pcre2_code*)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_ANCHORED,
                    &error, &at, nullptr),
      pcre2_code_free);
  if (!code) {
    const std::string text = "'" + pattern + "' is no pattern";
    return status_new(host, PLUQ_STATUS_INVALID, text.data(), text.size());
  }
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> data(
      pcre2_match_data_create_from_pattern(code.get(), nullptr), pcre2_match_data_free);
  *matched = pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0,
                         data.get(), nullptr) >= 0;
  return nullptr;
}

pluq_status* host_match(const pluq_host* host, int32_t kind, pluq_str pattern, pluq_str name,
                        int32_t* matched) {
  const std::string p = text_of(pattern), n = text_of(name);
  if (kind == PLUQ_MATCH_PREFIX_REGEX) return match_regex(host, p, n, matched);
  *matched = kind == PLUQ_MATCH_EXACT ? p == n : n.find(p) != std::string::npos;
  return nullptr;
}

const void* host_extension(const pluq_host*, const char* id) {
  static const pluq_host_json json_api{sizeof(pluq_host_json),
                                       0,
                                       json_type,
                                       json_size,
                                       json_get,
                                       json_at,
                                       json_key_at,
                                       json_as_int,
                                       json_as_real,
                                       json_as_string};
  static const pluq_host_match match_api{sizeof(pluq_host_match), 0, host_match};
  if (std::strcmp(id, PLUQ_HOST_JSON) == 0) return &json_api;
  if (std::strcmp(id, PLUQ_HOST_MATCH) == 0) return &match_api;
  if (std::strcmp(id, PLUQ_CUDA_EMULATOR) == 0) return cuda_emulator_table();
  if (std::strcmp(id, PLUQ_GEMM) == 0) return gemm_table();
  return nullptr;
}

}  // namespace

const pluq_host& fake_table() {
  static const pluq_host table{sizeof(pluq_host), PLUQ_ABI_MAJOR, PLUQ_ABI_MINOR, 0,
                               str_of("fake"),    str_of("0"),    status_new,     status_code,
                               status_text,       status_free,    host_log,       host_extension};
  return table;
}

void check(pluq_status* status) {
  if (status == nullptr) return;
  Refusal r{status->code, status->text};
  delete status;
  throw r;
}

pluq_tensor view(const FileTensor& t, bool with_data) {
  pluq_tensor out{};
  out.struct_size = sizeof out;
  out.rank = static_cast<uint32_t>(t.shape.size());
  out.name = str_of(t.name);
  out.dtype = scalar_dtype(t.dtype_id);
  out.device_kind = PLUQ_DEVICE_CPU;
  std::copy(t.shape.begin(), t.shape.end(), out.shape);
  out.data = with_data ? t.bytes.data() : nullptr;
  out.data_bytes = t.bytes.size();
  return out;
}

// ------------------------------------------------------------------ execution

namespace {

void run_parallel(const pluq_exec* exec, void (*fn)(void*, int32_t, int32_t), void* user) {
  auto* self = reinterpret_cast<Threads*>(const_cast<pluq_exec*>(exec));
  self->barrier = std::make_unique<std::barrier<>>(exec->n_workers);
  std::vector<std::thread> threads;
  for (int32_t i = 0; i < exec->n_workers; ++i)
    threads.emplace_back([=] { fn(user, i, exec->n_workers); });
  for (std::thread& t : threads) t.join();
}
void run_barrier(const pluq_exec* exec, int32_t) {
  reinterpret_cast<Threads*>(const_cast<pluq_exec*>(exec))->barrier->arrive_and_wait();
}

}  // namespace

void prepare(Threads* t, int n_workers, void* workspace, uint64_t bytes) {
  t->exec.struct_size = sizeof(pluq_exec);
  t->exec.device_kind = PLUQ_DEVICE_CPU;
  t->exec.host = &fake_table();
  t->exec.workspace = workspace;
  t->exec.workspace_bytes = bytes;
  t->exec.worker = -1;
  t->exec.n_workers = n_workers;
  t->exec.parallel = run_parallel;
  t->exec.barrier = run_barrier;
}

uint64_t element_bytes(uint32_t id) {
  switch (id) {
    case PLUQ_DTYPE_I64:
    case PLUQ_DTYPE_U64:
    case PLUQ_DTYPE_F64:
      return 8;
    case PLUQ_DTYPE_I32:
    case PLUQ_DTYPE_U32:
    case PLUQ_DTYPE_F32:
      return 4;
    case PLUQ_DTYPE_I16:
    case PLUQ_DTYPE_U16:
    case PLUQ_DTYPE_F16:
    case PLUQ_DTYPE_BF16:
      return 2;
    default:
      return 1;
  }
}

std::vector<std::string> take_logs() {
  const std::lock_guard lock(log_mutex);
  return std::exchange(log_lines, {});
}

}  // namespace pluq::test
