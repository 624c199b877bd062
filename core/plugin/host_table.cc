// SPDX-License-Identifier: Apache-2.0
#include "plugin/host_table.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>

#include "base/error.h"
#include "config/matcher.h"
#include "device/cuda_emulator/emulator.h"
#include "plugin/gemm_service.h"

// The opaque status of the ABI.
struct pluq_status {
  int32_t code;
  std::string text;
};

namespace pluq {
namespace {

namespace json = boost::json;

std::atomic<LogLevel> level{LogLevel::kWarning};

// Handed out when there is no memory for a real one; never freed.
pluq_status& out_of_memory() {
  static pluq_status status{PLUQ_STATUS_OUT_OF_MEMORY, "out of memory"};
  return status;
}

pluq_status* status_new(const pluq_host*, int32_t code, const char* text, size_t size) noexcept {
  try {
    return new pluq_status{code,
                           std::string(text == nullptr ? "" : text, text == nullptr ? 0 : size)};
  } catch (...) {
    return &out_of_memory();
  }
}
int32_t status_code(const pluq_status* status) noexcept { return status->code; }
pluq_str status_text(const pluq_status* status) noexcept {
  return {status->text.data(), status->text.size()};
}
void status_free(const pluq_host*, pluq_status* status) noexcept {
  if (status != &out_of_memory()) delete status;
}

void plugin_log(const pluq_host*, int32_t at, pluq_str text) noexcept {
  const LogLevel l = at <= PLUQ_LOG_DEBUG  ? LogLevel::kDebug
                     : at == PLUQ_LOG_INFO ? LogLevel::kInfo
                                           : LogLevel::kWarning;
  try {
    log_line(l, text_of(text));
  } catch (...) {  // a log line that cannot be printed is lost
  }
}

// ------------------------------------------------------------------ pluq.host.json/1

const json::value& node(const pluq_json* cursor) {
  return *reinterpret_cast<const json::value*>(cursor);
}

int32_t json_type(const pluq_json* cursor) noexcept {
  if (cursor == nullptr) return PLUQ_JSON_NULL;
  const json::value& v = node(cursor);
  switch (v.kind()) {
    case json::kind::null:
      return PLUQ_JSON_NULL;
    case json::kind::bool_:
      return PLUQ_JSON_BOOL;
    case json::kind::int64:
      return PLUQ_JSON_INT;
    case json::kind::uint64:
      return PLUQ_JSON_REAL;  // beyond int64
    case json::kind::double_:
      return PLUQ_JSON_REAL;
    case json::kind::string:
      return PLUQ_JSON_STRING;
    case json::kind::array:
      return PLUQ_JSON_ARRAY;
    case json::kind::object:
      return PLUQ_JSON_OBJECT;
  }
  return PLUQ_JSON_NULL;
}
size_t json_size(const pluq_json* cursor) noexcept {
  if (cursor == nullptr) return 0;
  const json::value& v = node(cursor);
  return v.is_array() ? v.get_array().size() : v.is_object() ? v.get_object().size() : 0;
}
const pluq_json* json_get(const pluq_json* cursor, pluq_str key) noexcept {
  if (cursor == nullptr || !node(cursor).is_object()) return nullptr;
  return json_cursor(node(cursor).get_object().if_contains(json::string_view(key.data, key.size)));
}
const pluq_json* json_at(const pluq_json* cursor, size_t index) noexcept {
  if (cursor == nullptr || index >= json_size(cursor)) return nullptr;
  const json::value& v = node(cursor);
  return json_cursor(v.is_array()
                         ? &v.get_array()[index]
                         : &(v.get_object().begin() + static_cast<ptrdiff_t>(index))->value());
}
pluq_str json_key_at(const pluq_json* cursor, size_t index) noexcept {
  if (cursor == nullptr || !node(cursor).is_object() || index >= json_size(cursor))
    return {nullptr, 0};
  const auto key = (node(cursor).get_object().begin() + static_cast<ptrdiff_t>(index))->key();
  return {key.data(), key.size()};
}
int64_t json_as_int(const pluq_json* cursor) noexcept {
  if (cursor == nullptr) return 0;
  const json::value& v = node(cursor);
  if (v.is_bool()) return v.get_bool() ? 1 : 0;
  if (v.is_int64()) return v.get_int64();
  if (v.is_uint64()) return std::numeric_limits<int64_t>::max();
  if (!v.is_double()) return 0;
  const double d = v.get_double();
  return d >= 9.2e18    ? std::numeric_limits<int64_t>::max()
         : d <= -9.2e18 ? std::numeric_limits<int64_t>::min()
         : d != d       ? 0
                        : static_cast<int64_t>(d);
}
double json_as_real(const pluq_json* cursor) noexcept {
  return cursor != nullptr && node(cursor).is_number() ? node(cursor).to_number<double>() : 0;
}
pluq_str json_as_string(const pluq_json* cursor) noexcept {
  if (cursor == nullptr || !node(cursor).is_string()) return {nullptr, 0};
  const json::string& s = node(cursor).get_string();
  return {s.data(), s.size()};
}

const pluq_host_json json_service{sizeof(pluq_host_json),
                                  0,
                                  &json_type,
                                  &json_size,
                                  &json_get,
                                  &json_at,
                                  &json_key_at,
                                  &json_as_int,
                                  &json_as_real,
                                  &json_as_string};

// ------------------------------------------------------------------ pluq.host.match/1

// Compiled patterns are kept: a config asks the same few for every layer.
const PrefixRegex& compiled(std::string_view pattern) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<PrefixRegex>, std::less<>> cache;
  const std::lock_guard lock(mutex);
  const auto it = cache.find(pattern);
  if (it != cache.end()) return *it->second;
  return *cache.emplace(pattern, std::make_unique<PrefixRegex>(pattern)).first->second;
}

pluq_status* host_match(const pluq_host* host, int32_t kind, pluq_str pattern, pluq_str name,
                        int32_t* matched) noexcept {
  try {
    const std::string_view p = text_of(pattern), n = text_of(name);
    switch (kind) {
      case PLUQ_MATCH_EXACT:
        *matched = p == n;
        return nullptr;
      case PLUQ_MATCH_SUBSTRING:
        *matched = n.find(p) != std::string_view::npos;
        return nullptr;
      case PLUQ_MATCH_PREFIX_REGEX:
        *matched = compiled(p).match(n);
        return nullptr;
      default:
        break;
    }
    const std::string text = fmt::format("match kind {} is not known", kind);
    return status_new(host, PLUQ_STATUS_UNSUPPORTED, text.data(), text.size());
  } catch (const std::exception& e) {
    return status_new(host, PLUQ_STATUS_INVALID, e.what(), std::strlen(e.what()));
  }
}

const pluq_host_match match_service{sizeof(pluq_host_match), 0, &host_match};

const void* get_extension(const pluq_host*, const char* id) noexcept {
  if (id == nullptr) return nullptr;
  if (std::strcmp(id, PLUQ_HOST_JSON) == 0) return &json_service;
  if (std::strcmp(id, PLUQ_HOST_MATCH) == 0) return &match_service;
  if (std::strcmp(id, PLUQ_CUDA_EMULATOR) == 0) return cuda_emulator::table();
  if (std::strcmp(id, PLUQ_GEMM) == 0) return gemm_service();
  return nullptr;
}

constexpr std::string_view kName = "pluq", kVersion = PLUQ_VERSION;

}  // namespace

void set_log_level(LogLevel l) { level = l; }
LogLevel log_level() { return level; }

void log_line(LogLevel at, std::string_view text) {
  static constexpr const char* kNames[] = {"debug", "info", "warning", "error"};
  if (at < level.load()) return;
  fmt::print(stderr, "{}: {}\n", kNames[static_cast<int>(at)], printable(text, 2000));
}

const pluq_host& host_table() {
  static const pluq_host host{sizeof(pluq_host), PLUQ_ABI_MAJOR,   PLUQ_ABI_MINOR, 0,
                              str_of(kName),     str_of(kVersion), &status_new,    &status_code,
                              &status_text,      &status_free,     &plugin_log,    &get_extension};
  return host;
}

void throw_if(pluq_status* status, std::string_view context) {
  if (status == nullptr) return;
  const int32_t code = status->code;
  const std::string text = take_text(status);
  const ErrorKind kind = code == PLUQ_STATUS_OUT_OF_MEMORY ? ErrorKind::kFailed
                         : code == PLUQ_STATUS_CANCELLED   ? ErrorKind::kInterrupted
                         : code == PLUQ_STATUS_INVALID || code == PLUQ_STATUS_UNSUPPORTED ||
                                 code == PLUQ_STATUS_NOT_FOUND
                             ? ErrorKind::kInput
                             : ErrorKind::kPlugin;
  fail(kind, "{}: {}", context, printable(text, 2000));
}

std::string take_text(pluq_status* status) {
  if (status == nullptr) return {};
  std::string text = status->text;
  status_free(nullptr, status);
  return text;
}

}  // namespace pluq
