// SPDX-License-Identifier: Apache-2.0
#include "plugin/layer_resolver.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "checkpoint/dtype.h"
#include "device/device.h"
#include "device/isa.h"
#include "plugin/call_args.h"
#include "plugin/host_table.h"

namespace pluq {
namespace {

constexpr size_t kProbeTensors =
    200;  // headers of the first layers are enough to recognise a checkpoint
constexpr uint64_t kMaxWorkspace = uint64_t{256} << 20;

pluq_tensor make_tensor(const TensorView& view, std::string_view name, bool with_data) {
  pluq_tensor t{};
  t.struct_size = sizeof t;
  t.rank = static_cast<uint32_t>(view.shape.size());
  t.name = str_of(name);
  t.dtype = view.dtype;
  t.device_kind = PLUQ_DEVICE_CPU;
  for (size_t i = 0; i < view.shape.size(); ++i) t.shape[i] = view.shape[i];
  t.data = with_data ? view.data.data() : nullptr;
  t.data_bytes = view.data.size();
  return t;
}

std::string text(const std::vector<pluq_tensor>& tensors) {
  std::string out;
  for (const pluq_tensor& t : tensors) {
    out += fmt::format("{}{} {} {}", out.empty() ? "" : ", ", text_of(t.name),
                       dtype_name(t.dtype.id), shape_text({t.shape, t.rank}));
  }
  return out.empty() ? "none" : out;
}

// quant_method and the format of each group, as the checkpoint writes them.
std::string quote(const boost::json::value& quantization) {
  if (!quantization.is_object()) return "the checkpoint has no quantization config";
  const boost::json::object& object = quantization.get_object();
  std::string out;
  const auto add = [&](const boost::json::object& from, std::string_view key,
                       const std::string& label) {
    const boost::json::value* value = from.if_contains(key);
    if (value != nullptr && value->is_string()) {
      out += fmt::format("{}{} '{}'", out.empty() ? "" : ", ", label,
                         printable(std::string_view(value->get_string())));
    }
  };
  for (const char* key : {"quant_method", "format", "checkpoint_format", "version"})
    add(object, key, key);
  if (const boost::json::value* groups = object.if_contains("config_groups");
      groups != nullptr && groups->is_object()) {
    for (const auto& [name, group] : groups->get_object()) {
      if (group.is_object()) add(group.get_object(), "format", printable(name) + ".format");
    }
  }
  return "the checkpoint says " + (out.empty() ? std::string("nothing of its quant_method") : out);
}

FormatAnswer answer_of(const std::string& format, const MethodChoice& choice) {
  return {format,
          choice.verdict == PLUQ_VERDICT_USE                 ? "serves it"
          : choice.verdict == PLUQ_VERDICT_LEAVE_UNQUANTIZED ? "leaves it plain"
          : choice.verdict == PLUQ_VERDICT_UNSUPPORTED       ? "cannot serve it"
                                                             : "declines",
          choice.verdict == PLUQ_VERDICT_USE ? choice.score : 0, choice.reason};
}

// What nobody quantizes: a router chooses experts by small differences, an embedding is looked up.
bool stays_plain(const LayerRequest& request) {
  return request.kind == "embedding" || request.kind == "router";
}

}  // namespace

LayerResolver::LayerResolver(const PluginHost& host, std::shared_ptr<const Checkpoint> checkpoint,
                             ResolverOptions options)
    : host_(host), checkpoint_(std::move(checkpoint)), options_(std::move(options)) {
  std::vector<pluq_tensor> sample;
  for (const TensorView& view : checkpoint_->tensors()) {
    if (view.shape.size() > PLUQ_MAX_RANK) continue;
    sample.push_back(make_tensor(view, view.name, false));
    if (sample.size() == kProbeTensors) break;
  }
  const std::string_view container = checkpoint_->is_gguf() ? "gguf" : "safetensors";
  for (const auto& format : host_.formats()) {
    const FormatHandle::Probe probe = format->probe(container, options_.quantization, sample);
    if (probe.score <= 0) {
      declined_.push_back({format->id(), "declines", 0, probe.reason});
      continue;
    }
    Claimant claimant{format.get(), {}, probe.score, {}, {}};
    try {
      claimant.config =
          format->create_config(container, options_.quantization, nullptr, options_.architecture);
    } catch (const Error& e) {
      claimant.error = e.what();
    }
    claimants_.push_back(std::move(claimant));
  }
}

namespace {

// The plugin's format behind a named one; the error says where it was named.
const FormatHandle& type_of(const PluginHost& host, const FormatInstance& named) {
  try {
    return host.at(named.type);
  } catch (const Error& e) {
    throw Error(e.kind(), fmt::format("{}: {}", named.where, e.what()));
  }
}

}  // namespace

LayerResolver::Claimant& LayerResolver::instance(const std::string& name,
                                                 const std::string& where) {
  for (const auto& made : instances_) {
    if (made->instance == name) return *made;
  }
  const auto it = std::find_if(options_.formats.begin(), options_.formats.end(),
                               [&](const FormatInstance& f) { return f.name == name; });
  const bool named = it != options_.formats.end();
  if (!named && host_.find(name) == nullptr) {
    std::string names;
    for (const FormatInstance& f : options_.formats) names += f.name + ", ";
    for (const auto& f : host_.formats()) names += f->id() + ", ";
    fail_input(
        "{}: format '{}' is neither defined under formats nor a loaded plugin's; there are {}",
        where, printable(name), names.empty() ? "none" : names.substr(0, names.size() - 2));
  }
  const FormatHandle& format = named ? type_of(host_, *it) : host_.at(name);
  const boost::json::value options =
      named ? format.check_options(it->options, it->where) : boost::json::value();
  auto made = std::make_unique<Claimant>();
  made->format = &format;
  made->score = 1000;
  made->instance = name;
  made->config = format.create_config(checkpoint_->is_gguf() ? "gguf" : "safetensors",
                                      options_.quantization, options, options_.architecture);
  instances_.push_back(std::move(made));
  return *instances_.back();
}

std::vector<pluq_tensor> LayerResolver::tensors_of(const LayerRequest& request,
                                                   ResolvedLayer* out) const {
  std::vector<pluq_tensor> found;
  const std::string prefix = request.name + ".";
  for (const TensorView* view : checkpoint_->with_prefix(prefix)) {
    auto suffix = std::make_shared<std::string>(view->name.substr(prefix.size()));
    if (*suffix == "bias" || view->shape.size() > PLUQ_MAX_RANK) continue;
    found.push_back(make_tensor(*view, *suffix, !options_.headers_only));
    out->suffixes.push_back(std::move(suffix));
  }
  return found;
}

pluq_layer_desc LayerResolver::describe(const LayerRequest& request,
                                        const std::vector<pluq_tensor>& tensors) const {
  pluq_layer_desc d =
      whole_layer(request.name, request.kind, request.in_features, request.out_features, tensors);
  d.compute = options_.compute;
  d.activations = options_.activations;
  d.has_bias = request.has_bias;
  d.module_class = str_of(request.module_class);
  if (!request.output_parts.empty()) {
    d.output_parts = request.output_parts.data();
    d.output_parts_count = request.output_parts.size();
  }
  d.activation_dtype = dtype_by_id(options_.activation_dtype);
  d.max_tokens = options_.max_tokens;
  d.max_workspace_bytes = kMaxWorkspace;
  return d;
}

// Checks what the method declares against what the file holds, and keeps the declared tensors.
void LayerResolver::bind(const LayerRequest& request, std::vector<pluq_tensor> found,
                         ResolvedLayer* out) {
  out->specs = out->method.create_weights();
  const std::string who = fmt::format("{}: layer {} (format '{}')", checkpoint_->path(),
                                      request.name, out->method.format());
  for (const WeightSpecInfo& spec : out->specs) {
    const auto it = std::find_if(found.begin(), found.end(), [&](const pluq_tensor& t) {
      return text_of(t.name) == spec.suffix;
    });
    if (it == found.end()) {
      if (spec.optional) continue;
      fail_input("{}: tensor '{}.{}' is missing; the file holds {}", who, request.name, spec.suffix,
                 text(found));
    }
    if (it->dtype.id != spec.dtype.id) {
      fail_input("{}: tensor '{}' is {}, expected {}", who, spec.suffix, dtype_name(it->dtype.id),
                 dtype_name(spec.dtype.id));
    }
    const std::span<const int64_t> shape(it->shape, it->rank);
    if (!std::equal(shape.begin(), shape.end(), spec.shape.begin(), spec.shape.end())) {
      fail_input("{}: tensor '{}' has shape {}, expected {} for in_features {} and out_features {}",
                 who, spec.suffix, shape_text(shape), shape_text(spec.shape), request.in_features,
                 request.out_features);
    }
    out->tensors.push_back(*it);
    used_.insert(request.name + "." + spec.suffix);
  }
}

// What every loaded format says of a layer: the claimants layer by layer, the others once for the
// whole checkpoint.
std::vector<FormatAnswer> LayerResolver::ask_all(const pluq_layer_desc& desc) const {
  std::vector<FormatAnswer> out;
  for (const Claimant& claimant : claimants_) {
    if (!claimant.error.empty()) {
      out.push_back({claimant.format->id(), "cannot serve it", 0, claimant.error});
      continue;
    }
    try {
      out.push_back(answer_of(claimant.format->id(),
                              claimant.config.get_quant_method(desc, options_.device)));
    } catch (const Error& e) {
      out.push_back({claimant.format->id(), "cannot serve it", 0, e.what()});
    }
  }
  out.insert(out.end(), declined_.begin(), declined_.end());
  return out;
}

MethodChoice LayerResolver::ask(const FormatConfig& config, const pluq_layer_desc& layer,
                                bool* by_host) const {
  *by_host = false;
  pluq_device device = options_.device;
  if (const auto told = features_.find(config.format()); told != features_.end())
    device.cpu_features = told->second;
  MethodChoice choice;
  if (off_device_.contains(config.format())) {
    choice.reason = "its kernels for the device are wrong here";
  } else {
    choice = config.get_quant_method(layer, device);
  }
  if (choice.verdict == PLUQ_VERDICT_USE || device.kind == PLUQ_DEVICE_CPU) return choice;
  pluq_layer_desc on_cpu = layer;
  on_cpu.activation_dtype = dtype_by_id(PLUQ_DTYPE_F32);
  MethodChoice other = config.get_quant_method(on_cpu, describe_cpu(1));
  if (other.verdict != PLUQ_VERDICT_USE) return choice;
  *by_host = true;
  other.reason = choice.reason;
  return other;
}

bool LayerResolver::tell_less(const std::string& format) {
  if (options_.device.kind != PLUQ_DEVICE_CPU) return off_device_.insert(format).second;
  const auto told = features_.find(format);
  const uint64_t now = told == features_.end() ? options_.device.cpu_features : told->second;
  const Isa isa = best_isa(now);
  if (isa == Isa::kPortable) return false;
  features_[format] = lower_features(now, isa == Isa::kAvx512 ? Isa::kAvx2 : Isa::kPortable);
  return true;
}

ResolvedLayer LayerResolver::resolve(const LayerRequest& request) {
  ResolvedLayer out;
  std::vector<pluq_tensor> found = tensors_of(request, &out);
  if (found.empty()) {
    fail_input("{}: layer {} has no tensors in the checkpoint", checkpoint_->path(), request.name);
  }
  const pluq_layer_desc desc = describe(request, found);
  const bool plain =
      found.size() == 1 && text_of(found[0].name) == "weight" && is_plain_float(found[0].dtype.id);

  if (options_.keep_answers) out.answers = ask_all(desc);
  for (const LayerRule& rule : options_.rules) {
    if (!rule.pattern.match(request.name) &&
        (request.alias.empty() || !rule.pattern.match(request.alias)))
      continue;
    Claimant& claimant = instance(rule.format, rule.where);
    out.decided_by = fmt::format("{}: {} -> {}", rule.where, rule.pattern.text(), rule.format);
    MethodChoice choice = ask(claimant.config, desc, &out.by_host);
    if (options_.keep_answers) {
      out.answers.insert(out.answers.begin(), answer_of(rule.format + " by rule", choice));
    }
    if (choice.verdict == PLUQ_VERDICT_USE) {
      out.method = std::move(choice.method);
      bind(request, std::move(found), &out);
      return out;
    }
    if (plain && !stays_plain(request) && claimant.format->can_quantize()) {
      out.quantize_with = claimant.format;
      const auto it = std::find_if(options_.formats.begin(), options_.formats.end(),
                                   [&](const FormatInstance& f) { return f.name == rule.format; });
      if (it != options_.formats.end())
        out.quantize_options = claimant.format->check_options(it->options, it->where);
      out.tensors = std::move(found);
      used_.insert(request.name + ".weight");
      out.reason = "quantized while loading, round to nearest";
      return out;
    }
    // A wildcard rule meant for the linears does not take embedding and routers away from the plain
    // formats.
    if (stays_plain(request)) break;
    fail_input("{}: layer {} cannot be served by format '{}': {}; its tensors are {}", rule.where,
               request.name, rule.format, choice.reason.empty() ? "it declines" : choice.reason,
               text(found));
  }

  std::vector<std::string> answers;
  MethodChoice best;
  const Claimant* winner = nullptr;
  std::string unsupported;
  for (Claimant& claimant : claimants_) {
    if (!claimant.error.empty()) {
      if (unsupported.empty()) unsupported = claimant.error;
      answers.push_back(claimant.error);
      continue;
    }
    bool by_host = false;
    MethodChoice choice = ask(claimant.config, desc, &by_host);
    if (choice.verdict == PLUQ_VERDICT_USE) {
      if (winner != nullptr && choice.score == best.score) {
        fail_input(
            "{}: layer {} is claimed by formats '{}' and '{}' with the same score {}; choose one "
            "with a layer rule",
            checkpoint_->path(), request.name, winner->format->id(), claimant.format->id(),
            choice.score);
      }
      if (winner == nullptr || choice.score > best.score) {
        best = std::move(choice);
        winner = &claimant;
        out.by_host = by_host;
      }
    } else {
      if (choice.verdict == PLUQ_VERDICT_UNSUPPORTED && unsupported.empty()) {
        unsupported = fmt::format("format '{}': {}", claimant.format->id(), choice.reason);
      }
      answers.push_back(fmt::format("{}: {}", claimant.format->id(), choice.reason));
    }
  }
  // A format that knows the layer but cannot serve it is the answer, unless a more specific one
  // can.
  if (winner == nullptr && !unsupported.empty()) {
    fail_input("{}: layer {} cannot be served: {}", checkpoint_->path(), request.name, unsupported);
  }
  if (winner == nullptr) nobody(request, found, answers);
  out.method = std::move(best.method);
  if (out.by_host) out.reason = "dequantized by the host: " + best.reason;
  out.decided_by = options_.quantization.is_null()
                       ? "the tensors in the file"
                       : options_.quantization_source + " and the tensors in the file";
  bind(request, std::move(found), &out);
  return out;
}

ResolvedLayer LayerResolver::resolve_quantized(const LayerRequest& request,
                                               const FormatHandle& format,
                                               const boost::json::value& quantization,
                                               std::vector<pluq_tensor> tensors,
                                               const std::string& decided_by) {
  kept_.push_back(
      format.create_config("safetensors", quantization, nullptr, options_.architecture));
  const FormatConfig& config = kept_.back();
  const pluq_layer_desc desc = describe(request, tensors);
  ResolvedLayer out;
  MethodChoice choice = ask(config, desc, &out.by_host);
  if (choice.verdict != PLUQ_VERDICT_USE) {
    fail_plugin("format '{}' does not take layer {} that it has just quantized: {}", format.id(),
                request.name, choice.reason);
  }
  out.method = std::move(choice.method);
  out.decided_by = decided_by;
  out.reason = "quantized while loading, round to nearest";
  bind(request, std::move(tensors), &out);
  return out;
}

namespace {

std::string text(const KvDescription& d) {
  if (d.verdict == PLUQ_VERDICT_UNSUPPORTED) return "not built: " + d.reason;
  return fmt::format("{}{}, scales {}", dtype_name(d.dtype), d.in_force ? "" : " if chosen",
                     d.dynamic                                ? "computed"
                     : d.k_scale.empty() && d.v_scale.empty() ? "missing"
                                                              : d.k_scale + " and " + d.v_scale);
}

}  // namespace

KvDescription LayerResolver::kv_cache(const std::string& attention, int64_t kv_heads,
                                      int64_t head_dim, std::string* format) const {
  std::vector<pluq_tensor> tensors;
  const std::string prefix = attention + ".";
  for (const TensorView* view : checkpoint_->with_prefix(prefix)) {
    if (view->shape.size() > PLUQ_MAX_RANK) continue;
    tensors.push_back(make_tensor(*view, std::string_view(view->name).substr(prefix.size()),
                                  !options_.headers_only));
  }
  pluq_kv_request request{};
  request.struct_size = sizeof request;
  request.attention = str_of(attention);
  request.kv_heads = kv_heads;
  request.head_dim = head_dim;
  request.tensors = tensors.data();
  request.tensor_stride = sizeof(pluq_tensor);
  request.tensor_count = tensors.size();
  KvDescription out;
  for (const Claimant& claimant : claimants_) {
    if (!claimant.error.empty()) continue;
    const KvDescription said = claimant.config.kv_cache(request);
    if (said.verdict != PLUQ_VERDICT_USE && said.verdict != PLUQ_VERDICT_UNSUPPORTED) continue;
    if (format->empty()) {
      out = said;
      *format = claimant.format->id();
    } else if (said != out) {
      fail_input("{}: formats '{}' and '{}' differ about the KV cache of {}: {}; {}",
                 checkpoint_->path(), *format, claimant.format->id(), attention, text(out),
                 text(said));
    }
  }
  return out;
}

void LayerResolver::nobody(const LayerRequest& request, const std::vector<pluq_tensor>& tensors,
                           const std::vector<std::string>& answers) const {
  std::vector<std::string> all = answers;
  for (const FormatAnswer& d : declined_) all.push_back(d.format + ": " + d.reason);
  for (const PluginReport& r : host_.reports()) {
    if (!r.loaded) all.push_back(fmt::format("{} was refused: {}", r.path, r.reason));
  }
  fail_plugin(
      "{}: no loaded plugin can serve layer {}: {}; the layer's tensors are {}; plugins were "
      "searched in {}; {}",
      checkpoint_->path(), request.name, quote(options_.quantization), text(tensors),
      host_.searched().empty() ? "no directory"
                               : fmt::format("{}", fmt::join(host_.searched(), ", ")),
      all.empty() ? "no plugin was found" : fmt::format("{}", fmt::join(all, "; ")));
}

}  // namespace pluq
