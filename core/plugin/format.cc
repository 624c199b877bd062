// SPDX-License-Identifier: Apache-2.0
#include "plugin/format.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <exception>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "plugin/host_table.h"
#include "plugin/tables.h"

namespace pluq {
namespace {

namespace json = boost::json;

// A plugin's struct as ours: what it wrote of it, the rest zero.
template <class T>
const T* step(const T* first, size_t stride, size_t i) {
  return reinterpret_cast<const T*>(reinterpret_cast<const char*>(first) + i * stride);
}

// Every call into a plugin but destroy. The SDK lets nothing through; a plugin without it may throw
// all the same. `context` makes the text; it is called when something has gone wrong only.
template <class Context, class Call>
auto guarded(const Context& context, const Call& call) -> decltype(call()) {
  try {
    return call();
  } catch (const std::exception& e) {
    fail_plugin("{}: an exception crossed the plugin boundary: {}", context(), e.what());
  } catch (...) {
    fail_plugin("{}: an exception crossed the plugin boundary", context());
  }
}
template <class Call>
void call_plugin(std::string_view context, const Call& call) {
  throw_if(guarded([&] { return context; }, call), context);
}

// The first slot of a table that is beyond its end or empty, or null.
struct Slot {
  const char* name;
  size_t offset;
};
#define PLUQ_SLOT(type, name) \
  Slot { #name, offsetof(type, name) }
const char* first_missing(const void* table, std::span<const Slot> slots) {
  if (table == nullptr) return "the table itself";
  uint32_t size = 0;
  std::memcpy(&size, table, sizeof size);
  for (const Slot& s : slots) {
    void* function = nullptr;
    if (s.offset + sizeof function > size) return s.name;
    std::memcpy(&function, static_cast<const char*>(table) + s.offset, sizeof function);
    if (function == nullptr) return s.name;
  }
  return nullptr;
}
constexpr Slot kMethodSlots[] = {PLUQ_SLOT(pluq_method_api, destroy),
                                 PLUQ_SLOT(pluq_method_api, describe),
                                 PLUQ_SLOT(pluq_method_api, create_weights),
                                 PLUQ_SLOT(pluq_method_api, process_plan),
                                 PLUQ_SLOT(pluq_method_api, process_weights_after_loading),
                                 PLUQ_SLOT(pluq_method_api, workspace),
                                 PLUQ_SLOT(pluq_method_api, apply),
                                 PLUQ_SLOT(pluq_method_api, dequantize)};
constexpr Slot kConfigSlots[] = {PLUQ_SLOT(pluq_config_api, destroy),
                                 PLUQ_SLOT(pluq_config_api, get_quant_method)};
constexpr Slot kFormatSlots[] = {PLUQ_SLOT(pluq_format_api, describe),
                                 PLUQ_SLOT(pluq_format_api, probe),
                                 PLUQ_SLOT(pluq_format_api, create_config)};
#undef PLUQ_SLOT

std::string copy(pluq_str s) { return std::string(text_of(s)); }

template <class Specs>
std::vector<WeightSpecInfo> read_specs(const std::string& context, const Specs& specs_call) {
  size_t count = 0;
  call_plugin(context, [&] { return specs_call(nullptr, sizeof(pluq_weight_spec), &count); });
  if (count > 1000) fail_plugin("{}: declares {} tensors, at most 1000", context, count);
  std::vector<pluq_weight_spec> raw(count);
  for (pluq_weight_spec& spec : raw) spec.struct_size = sizeof spec;
  size_t filled = count;
  call_plugin(context, [&] { return specs_call(raw.data(), sizeof(pluq_weight_spec), &filled); });
  if (filled != count) fail_plugin("{}: declares {} tensors, then {}", context, count, filled);
  std::vector<WeightSpecInfo> out;
  for (const pluq_weight_spec& spec : raw) {
    if (spec.rank > PLUQ_MAX_RANK) fail_plugin("{}: a tensor of rank {}", context, spec.rank);
    WeightSpecInfo info;
    info.suffix = copy(spec.suffix);
    info.dtype = spec.dtype;
    info.shape.assign(spec.shape, spec.shape + spec.rank);
    info.optional = (spec.flags & PLUQ_WEIGHT_OPTIONAL) != 0;
    info.sample = spec.sample;
    info.group_size = spec.group_size;
    out.push_back(std::move(info));
  }
  return out;
}

}  // namespace

const char* missing_slot(const pluq_format_api* api) { return first_missing(api, kFormatSlots); }
const char* missing_slot(const pluq_config_api* api) { return first_missing(api, kConfigSlots); }
const char* missing_slot(const pluq_method_api* api) { return first_missing(api, kMethodSlots); }

// ------------------------------------------------------------------ Method

Method::Method(pluq_method method, std::string format, std::string layer)
    : method_(method), format_(std::move(format)), layer_(std::move(layer)) {
  const pluq_method_api* api = method_.api;
  if (const char* slot = missing_slot(api)) {
    fail_plugin("format '{}': the method table of layer {} is too short or has an empty slot: {}",
                format_, layer_, slot);
  }
  if (PLUQ_HAS(api, get_extension) && api->get_extension != nullptr) {
    embedding_ = guarded([&] { return context("get_extension"); },
                         [&] {
                           return static_cast<const pluq_embedding*>(
                               api->get_extension(method_.self, PLUQ_EMBEDDING));
                         });
    if (embedding_ != nullptr && (!PLUQ_HAS(embedding_, gather) || embedding_->gather == nullptr))
      embedding_ = nullptr;
  }
}

Method::~Method() {
  if (method_.api != nullptr) method_.api->destroy(method_.self);
}
Method::Method(Method&& o) noexcept
    : method_(std::exchange(o.method_, {})),
      embedding_(std::exchange(o.embedding_, nullptr)),
      format_(std::move(o.format_)),
      layer_(std::move(o.layer_)) {}
Method& Method::operator=(Method&& o) noexcept {
  std::swap(method_, o.method_);
  std::swap(embedding_, o.embedding_);
  std::swap(format_, o.format_);
  std::swap(layer_, o.layer_);
  return *this;
}

std::string Method::context(const char* call) const {
  return fmt::format("format '{}', layer {}: {}", format_, layer_, call);
}

MethodDescription Method::describe() const {
  pluq_method_info info{};
  info.struct_size = sizeof info;
  info.activation_scheme.struct_size = sizeof info.activation_scheme;
  guarded([&] { return context("describe"); }, [&] { method_.api->describe(method_.self, &info); });
  MethodDescription out;
  out.format = format_;
  out.scheme = copy(info.scheme);
  out.kernel = copy(info.kernel);
  out.reason = copy(info.reason);
  out.arithmetic = info.arithmetic;
  out.provisional = (info.flags & PLUQ_METHOD_PROVISIONAL) != 0;
  out.takes_quantized = (info.flags & PLUQ_METHOD_TAKES_QUANTIZED) != 0;
  const pluq_activation_scheme& a = info.activation_scheme;
  out.activations = {a.strategy,       a.dtype.id,
                     a.group_size,     a.dynamic != 0,
                     a.symmetric != 0, a.permutation != nullptr,
                     a.divisor,        copy(a.static_scale_suffix)};
  out.error_bound = info.error_bound;
  out.bits_per_weight = info.bits_per_weight;
  return out;
}

std::vector<WeightSpecInfo> Method::create_weights() const {
  return read_specs(context("create_weights"),
                    [&](pluq_weight_spec* specs, size_t stride, size_t* count) {
                      return method_.api->create_weights(method_.self, specs, stride, count);
                    });
}

Method::Plan Method::process_plan(std::span<const pluq_tensor> tensors) const {
  char key[256] = {};
  pluq_process_plan plan{};
  plan.struct_size = sizeof plan;
  plan.cache_key = {key, sizeof key, 0};
  call_plugin(context("process_plan"), [&] {
    return method_.api->process_plan(method_.self, tensors.data(), sizeof(pluq_tensor),
                                     tensors.size(), &plan);
  });
  return {plan.keep_tensors != 0, plan.buffer_bytes, plan.scratch_bytes,
          std::string(key, std::min(plan.cache_key.size, sizeof key))};
}

void Method::process(const pluq_exec* exec, std::span<const pluq_tensor> tensors,
                     void* buffer) const {
  call_plugin(context("process_weights_after_loading"), [&] {
    return method_.api->process_weights_after_loading(method_.self, exec, tensors.data(),
                                                      sizeof(pluq_tensor), tensors.size(), buffer);
  });
}

uint64_t Method::workspace(int64_t max_tokens, int workers) const {
  return guarded([&] { return context("workspace"); },
                 [&] { return method_.api->workspace(method_.self, max_tokens, workers); });
}

void Method::apply(const pluq_exec* exec, const pluq_activation& x, const float* bias,
                   const pluq_output& y) const {
  pluq_status* status =
      guarded([&] { return context("apply"); },
              [&] { return method_.api->apply(method_.self, exec, &x, bias, &y); });
  if (status != nullptr) throw_if(status, context("apply"));
}

void Method::dequantize(const pluq_exec* exec, std::span<const pluq_tensor> tensors,
                        int64_t n_begin, int64_t n_end, float* out, int64_t ld) const {
  call_plugin(context("dequantize"), [&] {
    return method_.api->dequantize(method_.self, exec, tensors.data(), sizeof(pluq_tensor),
                                   tensors.size(), n_begin, n_end, out, ld);
  });
}

void Method::gather(const pluq_exec* exec, std::span<const int32_t> ids,
                    const pluq_output& y) const {
  pluq_status* status = guarded([&] { return context("gather"); },
                                [&] {
                                  return embedding_->gather(method_.self, exec, ids.data(),
                                                            static_cast<int64_t>(ids.size()), &y);
                                });
  if (status != nullptr) throw_if(status, context("gather"));
}

void Method::fill(const WeightSpecInfo& spec, uint64_t seed, std::span<std::byte> data) const {
  if (spec.sample.fill == nullptr)
    fail_plugin("{}: tensor '{}' has no way to be filled", context("sample"), spec.suffix);
  spec.sample.fill(method_.self, str_of(spec.suffix), seed, data.data(), data.size());
}

// ------------------------------------------------------------------ FormatConfig

FormatConfig::FormatConfig(pluq_config config, std::string format)
    : config_(config), format_(std::move(format)) {
  if (const char* slot = missing_slot(config_.api)) {
    config_ = {};
    fail_plugin("format '{}': the config table is too short or has an empty slot: {}", format_,
                slot);
  }
}
FormatConfig::~FormatConfig() {
  if (config_.api != nullptr) config_.api->destroy(config_.self);
}
FormatConfig::FormatConfig(FormatConfig&& o) noexcept
    : config_(std::exchange(o.config_, {})), format_(std::move(o.format_)) {}
FormatConfig& FormatConfig::operator=(FormatConfig&& o) noexcept {
  std::swap(config_, o.config_);
  std::swap(format_, o.format_);
  return *this;
}

MethodChoice FormatConfig::get_quant_method(const pluq_layer_desc& layer,
                                            const pluq_device& device) const {
  char reason[1024] = {};
  pluq_method_choice choice{};
  choice.struct_size = sizeof choice;
  choice.reason = {reason, sizeof reason, 0};
  const std::string name = copy(layer.name);
  call_plugin(fmt::format("format '{}', layer {}", format_, name), [&] {
    return config_.api->get_quant_method(config_.self, &layer, &device, &choice);
  });
  MethodChoice out;
  out.verdict = choice.verdict;
  out.score = choice.score;
  out.reason =
      printable(std::string_view(reason, std::min(choice.reason.size, sizeof reason)), 1000);
  if (choice.verdict == PLUQ_VERDICT_USE) {
    if (choice.method.api == nullptr)
      fail_plugin("format '{}', layer {}: says USE but gives no method", format_, name);
    out.method = Method(choice.method, format_, name);
  }
  return out;
}

KvDescription FormatConfig::kv_cache(const pluq_kv_request& request) const {
  const pluq_config_api* api = config_.api;
  const auto* kv = api != nullptr && PLUQ_HAS(api, get_extension) && api->get_extension != nullptr
                       ? guarded([&] { return fmt::format("format '{}': get_extension", format_); },
                                 [&] {
                                   return static_cast<const pluq_kv_cache*>(
                                       api->get_extension(config_.self, PLUQ_KV_CACHE));
                                 })
                       : nullptr;
  KvDescription out;
  if (kv == nullptr || !PLUQ_HAS(kv, describe) || kv->describe == nullptr) return out;
  static constexpr size_t kText = 512;
  char k[kText] = {}, v[kText] = {}, unneeded[kText] = {}, reason[kText] = {};
  pluq_kv_answer answer{};
  answer.struct_size = sizeof answer;
  answer.k_scale = {k, sizeof k, 0};
  answer.v_scale = {v, sizeof v, 0};
  answer.unneeded = {unneeded, sizeof unneeded, 0};
  answer.reason = {reason, sizeof reason, 0};
  const std::string who = fmt::format("format '{}', {}", format_, copy(request.attention));
  call_plugin(who + ": kv_cache", [&] { return kv->describe(config_.self, &request, &answer); });
  const auto text = [](const char* data, const pluq_text& t) {
    return printable(std::string_view(data, std::min(t.size, kText)), kText);
  };
  out.verdict = answer.verdict;
  out.reason = text(reason, answer.reason);
  if (answer.verdict != PLUQ_VERDICT_USE) return out;
  out.dtype = answer.dtype;
  out.in_force = answer.in_force != 0;
  out.dynamic = answer.dynamic != 0;
  out.k_scale = text(k, answer.k_scale);
  out.v_scale = text(v, answer.v_scale);
  const std::string names = text(unneeded, answer.unneeded);
  for (size_t at = 0; at < names.size();) {
    const size_t comma = std::min(names.find(',', at), names.size());
    out.unneeded.push_back(names.substr(at, comma - at));
    at = comma + 1;
  }
  if (out.dtype != PLUQ_DTYPE_F8_E4M3 && out.dtype != PLUQ_DTYPE_F8_E5M2 &&
      out.dtype != PLUQ_DTYPE_I8) {
    fail_plugin("{}: kv_cache gives element type {}; F8_E4M3, F8_E5M2 and I8 are KV types", who,
                out.dtype);
  }
  return out;
}

// ------------------------------------------------------------------ QuantizeJob

QuantizeJob::~QuantizeJob() { api_->end(job_); }

std::vector<WeightSpecInfo> QuantizeJob::output_specs(size_t layer) const {
  return read_specs(fmt::format("format '{}': output_specs", format_),
                    [&](pluq_weight_spec* specs, size_t stride, size_t* count) {
                      return api_->output_specs(job_, layer, specs, stride, count);
                    });
}

namespace {

// What the callbacks of one solve share. The host's own exceptions travel through the plugin as
// statuses; a failure of the host (a full disk) is kept, so that it is not told as the plugin's.
struct Solving {
  const QuantizeJob::Callbacks* callbacks;
  std::mutex mutex;
  std::exception_ptr failure;

  template <class Body>
  pluq_status* guard(const Body& body) {
    try {
      body();
      return nullptr;
    } catch (const std::exception& e) {
      const auto* error = dynamic_cast<const Error*>(&e);
      if (error == nullptr || error->kind() != ErrorKind::kPlugin) {
        const std::lock_guard lock(mutex);
        if (failure == nullptr) failure = std::current_exception();
      }
      return host_table().status_new(&host_table(), PLUQ_STATUS_INTERNAL, e.what(),
                                     std::strlen(e.what()));
    }
  }
  static Solving& of(const pluq_quantize_context* c) { return *static_cast<Solving*>(c->user); }
};

pluq_status* no_statistics() {
  constexpr std::string_view text = "no calibration statistics were asked for";
  return host_table().status_new(&host_table(), PLUQ_STATUS_INTERNAL, text.data(), text.size());
}

}  // namespace

void QuantizeJob::solve(const pluq_exec* exec, const Callbacks& callbacks) const {
  Solving solving{&callbacks, {}, {}};
  pluq_quantize_context context{};
  context.struct_size = sizeof context;
  context.host = &host_table();
  context.exec = exec;
  context.user = &solving;
  context.rows = [](const pluq_quantize_context* c, size_t layer, int64_t begin, int64_t end,
                    float* out, int64_t ld) {
    Solving& s = Solving::of(c);
    return s.guard([&] { s.callbacks->rows(layer, begin, end, out, ld); });
  };
  context.emit = [](const pluq_quantize_context* c, size_t layer, pluq_str suffix, int64_t begin,
                    int64_t end, const void* data, uint64_t bytes) {
    Solving& s = Solving::of(c);
    return s.guard([&] {
      s.callbacks->emit(layer, text_of(suffix), begin, end,
                        {static_cast<const std::byte*>(data), bytes});
    });
  };
  context.hessian = [](const pluq_quantize_context*, float*, int64_t) { return no_statistics(); };
  context.input_stats = [](const pluq_quantize_context*, float*, float*) {
    return no_statistics();
  };
  try {
    call_plugin(fmt::format("format '{}': quantize", format_),
                [&] { return api_->solve(job_, &context); });
  } catch (const Error&) {
    if (solving.failure == nullptr) throw;
  }
  if (solving.failure != nullptr) std::rethrow_exception(solving.failure);
}

// ------------------------------------------------------------------ FormatHandle

FormatHandle::FormatHandle(pluq_format format, std::string plugin_path)
    : format_(format), plugin_path_(std::move(plugin_path)) {
  const pluq_format_api* api = format_.api;
  if (const char* slot = missing_slot(api))
    fail_plugin("{}: the format table is too short or has an empty slot: {}", plugin_path_, slot);
  pluq_format_info info{};
  info.struct_size = sizeof info;
  guarded([&] { return plugin_path_ + ": describe"; }, [&] { api->describe(format_.self, &info); });
  id_ = copy(info.id);
  aliases_ = copy(info.aliases);
  summary_ = copy(info.summary);
  const bool well_formed =
      !id_.empty() && id_.size() < 64 && std::all_of(id_.begin(), id_.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
      });
  if (!well_formed)
    fail_plugin("{}: format id '{}' is not made of a-z, 0-9, '_', '.', '-'", plugin_path_,
                printable(id_));
  for (size_t i = 0; i < info.option_count; ++i) {
    pluq_option raw{};
    const pluq_option* from = step(info.options, info.option_stride, i);
    std::memcpy(&raw, from, std::min<size_t>(sizeof raw, from->struct_size));
    options_.push_back({copy(raw.key), copy(raw.default_value), copy(raw.choices), copy(raw.help),
                        raw.type, raw.min, raw.max});
  }
  if (PLUQ_HAS(api, get_extension) && api->get_extension != nullptr) {
    const auto* q = guarded([&] { return plugin_path_ + ": get_extension"; },
                            [&] {
                              return static_cast<const pluq_quantizer*>(
                                  api->get_extension(format_.self, PLUQ_QUANTIZER));
                            });
    if (q != nullptr && PLUQ_HAS(q, write_config) && q->begin && q->output_specs && q->solve &&
        q->end && q->write_config) {
      quantizer_ = q;
    }
  }
}

FormatHandle::Probe FormatHandle::probe(std::string_view container, const json::value& quantization,
                                        std::span<const pluq_tensor> tensors) const {
  char reason[512] = {};
  pluq_probe_request request{};
  request.struct_size = sizeof request;
  request.container = str_of(container);
  request.quantization = quantization.is_null() ? nullptr : json_cursor(&quantization);
  const json::value* method =
      quantization.is_object() ? quantization.get_object().if_contains("quant_method") : nullptr;
  if (method != nullptr && method->is_string()) {
    request.quant_method = {method->get_string().data(), method->get_string().size()};
  }
  request.tensors = tensors.data();
  request.tensor_stride = sizeof(pluq_tensor);
  request.tensor_count = tensors.size();
  pluq_probe_result result{};
  result.struct_size = sizeof result;
  result.reason = {reason, sizeof reason, 0};
  call_plugin(fmt::format("format '{}': probe", id_),
              [&] { return format_.api->probe(format_.self, &request, &result); });
  return {result.score,
          printable(std::string_view(reason, std::min(result.reason.size, sizeof reason)), 500)};
}

FormatConfig FormatHandle::create_config(std::string_view container,
                                         const json::value& quantization,
                                         const json::value& options,
                                         std::string_view architecture) const {
  pluq_config_request request{};
  request.struct_size = sizeof request;
  request.container = str_of(container);
  request.quantization = quantization.is_null() ? nullptr : json_cursor(&quantization);
  request.options = options.is_null() ? nullptr : json_cursor(&options);
  request.architecture = str_of(architecture);
  pluq_config config{};
  call_plugin(fmt::format("format '{}'", id_),
              [&] { return format_.api->create_config(format_.self, &request, &config); });
  return FormatConfig(config, id_);
}

json::value FormatHandle::check_options(const json::value& options, std::string_view where) const {
  if (options.is_null()) return options;
  json::object out;
  for (const auto& [key, value] : options.as_object()) {
    const auto it =
        std::find_if(options_.begin(), options_.end(),
                     [&, k = std::string_view(key)](const OptionInfo& o) { return o.key == k; });
    if (it == options_.end()) {
      std::string accepted;
      for (const OptionInfo& o : options_) accepted += (accepted.empty() ? "" : ", ") + o.key;
      fail_usage("{}: format '{}' has no option '{}'; accepted are {}", where, id_, printable(key),
                 accepted.empty() ? "none" : accepted);
    }
    const auto wrong = [&](std::string_view expected) {
      fail_usage("{}: option '{}' of format '{}' is {}, expected {}", where, it->key, id_,
                 printable(json::serialize(value), 60), expected);
    };
    if (it->type == PLUQ_OPTION_BOOL && !value.is_bool()) wrong("true or false");
    if (it->type == PLUQ_OPTION_INT && !value.is_int64()) wrong("a whole number");
    if (it->type == PLUQ_OPTION_REAL && !value.is_number()) wrong("a number");
    if (it->type == PLUQ_OPTION_STRING && !value.is_string()) wrong("a text");
    if (it->min <= it->max && value.is_number()) {
      const double v = value.to_number<double>();
      if (!(v >= it->min && v <= it->max))
        wrong(fmt::format("a number from {} to {}", it->min, it->max));
    }
    if (!it->choices.empty()) {
      const std::string text =
          value.is_string() ? std::string(value.get_string()) : json::serialize(value);
      if (("|" + it->choices + "|").find("|" + text + "|") == std::string::npos) {
        wrong("one of " + it->choices);
      }
    }
    out[key] = value;
  }
  return out;
}

json::value FormatHandle::parse_options(std::span<const std::string> settings,
                                        std::string_view where) const {
  json::object out;
  for (const std::string& setting : settings) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
      fail_usage("{}: '{}' is not key=value", where, printable(setting));
    }
    const std::string key = setting.substr(0, equals), text = setting.substr(equals + 1);
    if (out.contains(key)) fail_usage("{}: '{}' is given twice", where, printable(key));
    const auto it = std::find_if(options_.begin(), options_.end(),
                                 [&](const OptionInfo& o) { return o.key == key; });
    const uint32_t type = it == options_.end() ? PLUQ_OPTION_STRING : it->type;
    json::value value(text);
    if (type == PLUQ_OPTION_BOOL && (text == "true" || text == "false")) value = text == "true";
    if (type == PLUQ_OPTION_INT || type == PLUQ_OPTION_REAL) {
      int64_t integer = 0;
      double real = 0;
      const char *begin = text.data(), *end = begin + text.size();
      if (const auto [p, ec] = std::from_chars(begin, end, integer);
          ec == std::errc() && p == end) {
        value = integer;
      } else if (const auto [q, ec2] = std::from_chars(begin, end, real);
                 ec2 == std::errc() && q == end) {
        value = real;
      }
    }
    out[key] = value;
  }
  return check_options(out, where);
}

namespace {

// A pluq_quantize_request over data that outlives it.
struct Request {
  std::vector<pluq_quantize_layer> layers;
  pluq_quantize_request raw{};
  Request(std::string_view algorithm, const json::value& options, pluq_dtype dtype,
          std::span<const QuantizeTarget> targets) {
    for (const QuantizeTarget& t : targets) {
      layers.push_back({sizeof(pluq_quantize_layer), 0, str_of(t.name), str_of(t.kind),
                        t.in_features, t.out_features});
    }
    raw.struct_size = sizeof raw;
    raw.algorithm = str_of(algorithm);
    raw.options = options.is_null() ? nullptr : json_cursor(&options);
    raw.model_dtype = dtype;
    raw.layers = layers.data();
    raw.layer_stride = sizeof(pluq_quantize_layer);
    raw.layer_count = layers.size();
  }
};

}  // namespace

std::vector<std::string> FormatHandle::algorithms() const {
  std::vector<std::string> out;
  if (quantizer_ == nullptr || quantizer_->describe == nullptr) return out;
  pluq_quantizer_info info{};
  info.struct_size = sizeof info;
  guarded([&] { return fmt::format("format '{}': describe of its quantizer", id_); },
          [&] { quantizer_->describe(format_.self, &info); });
  const std::string all = copy(info.algorithms);
  for (size_t at = 0; at <= all.size() && !all.empty();) {
    const size_t comma = std::min(all.find(',', at), all.size());
    out.push_back(all.substr(at, comma - at));
    at = comma + 1;
  }
  return out;
}

std::unique_ptr<QuantizeJob> FormatHandle::begin_quantize(
    std::string_view algorithm, const json::value& options, pluq_dtype model_dtype,
    std::span<const QuantizeTarget> layers) const {
  const Request request(algorithm, options, model_dtype, layers);
  uint32_t statistics = 0;
  void* job = nullptr;
  call_plugin(fmt::format("format '{}', layer {}", id_, layers.empty() ? "" : layers[0].name),
              [&] { return quantizer_->begin(format_.self, &request.raw, &statistics, &job); });
  auto out = std::make_unique<QuantizeJob>(quantizer_, job, id_);
  if (statistics != PLUQ_STATISTIC_NONE) {
    fail_usage("format '{}': algorithm '{}' needs calibration statistics: not built yet", id_,
               algorithm);
  }
  return out;
}

json::value FormatHandle::quantization_config(std::string_view algorithm,
                                              const json::value& options, pluq_dtype model_dtype,
                                              std::span<const QuantizeTarget> quantized,
                                              std::span<const std::string> plain) const {
  const Request request(algorithm, options, model_dtype, quantized);
  std::vector<pluq_str> names;
  for (const std::string& name : plain) names.push_back(str_of(name));
  std::string text;
  pluq_text_sink sink{sizeof(pluq_text_sink), 0, &text,
                      [](void* user, const char* data, size_t size) {
                        static_cast<std::string*>(user)->append(data, size);
                      }};
  call_plugin(fmt::format("format '{}': write_config", id_), [&] {
    return quantizer_->write_config(format_.self, &request.raw, names.data(), names.size(), &sink);
  });
  return parse_json(text, fmt::format("format '{}': write_config", id_));
}

}  // namespace pluq
