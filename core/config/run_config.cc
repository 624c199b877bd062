// SPDX-License-Identifier: Apache-2.0
#include "config/run_config.h"

#include <boost/json/object.hpp>

#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "config/yaml.h"
#include "pluq/dtype.h"

namespace pluq {
namespace {

namespace fs = std::filesystem;

std::string absolute(const std::string& base, const YamlNode& node, std::string_view what) {
  const std::string text = node.text(what);
  if (text.empty()) fail_usage("{}: '{}' is empty, expected a path", node.where, what);
  const fs::path path(text);
  return (path.is_absolute() ? path : fs::path(base) / path).lexically_normal().string();
}

void read_plugins(const YamlNode& node, const std::string& base, RunConfig* out) {
  node.check_keys("plugins", {"paths", "allow", "prefer"});
  if (const YamlNode* paths = node.find("paths")) {
    for (const YamlNode& p : paths->items("plugins.paths"))
      out->plugin_paths.push_back(absolute(base, p, "plugins.paths"));
  }
  if (const YamlNode* allow = node.find("allow"))
    out->plugin_allow = absolute(base, *allow, "plugins.allow");
  if (const YamlNode* prefer = node.find("prefer")) {
    for (const auto& [id, path] : prefer->entries("plugins.prefer")) {
      out->plugin_prefer[id] = absolute(base, path, "plugins.prefer." + id);
    }
  }
}

void read_formats(const YamlNode& node, RunConfig* out) {
  for (const auto& [name, body] : node.entries("formats")) {
    FormatSetting f;
    f.name = name;
    f.where = body.where;
    boost::json::object options;
    for (const auto& [key, value] : body.entries("formats." + name)) {
      if (key == "type") {
        f.type = value.text("formats." + name + ".type");
      } else {
        options[key] = value.to_json();
      }
    }
    if (f.type.empty())
      fail_usage("{}: formats.{} has no 'type'; give the id of a format plugin", body.where, name);
    if (!options.empty()) f.options = std::move(options);
    out->formats.push_back(std::move(f));
  }
}

void read_layers(const YamlNode& node, RunConfig* out) {
  for (const YamlNode& rule : node.items("layers")) {
    rule.check_keys("a layer rule", {"match", "format"});
    const YamlNode *match = rule.find("match"), *format = rule.find("format");
    if (match == nullptr || format == nullptr)
      fail_usage("{}: a layer rule needs 'match' and 'format'", rule.where);
    try {
      out->layers.push_back(
          {LayerPattern(match->text("match")), format->text("format"), match->where});
    } catch (const Error& e) {
      fail_usage("{}: {}", match->where, e.what());
    }
  }
}

void read_generation(const YamlNode& node, GenerationSettings* out) {
  node.check_keys("generation", {"max_new_tokens", "temperature", "top_k", "top_p", "min_p",
                                 "repeat_penalty", "seed", "stop"});
  const auto integer = [&](const char* key, int64_t lo, int64_t hi, std::optional<int64_t>* to) {
    if (const YamlNode* n = node.find(key)) *to = n->integer(key, lo, hi);
  };
  const auto real = [&](const char* key, double lo, double hi, std::optional<double>* to) {
    if (const YamlNode* n = node.find(key)) *to = n->real(key, lo, hi);
  };
  integer("max_new_tokens", 0, int64_t{1} << 30, &out->max_new_tokens);
  integer("top_k", 0, int64_t{1} << 30, &out->top_k);
  integer("seed", 0, INT64_MAX, &out->seed);
  real("temperature", 0, 100, &out->temperature);
  real("top_p", 0, 1, &out->top_p);
  real("min_p", 0, 1, &out->min_p);
  real("repeat_penalty", 1e-3, 100, &out->repeat_penalty);
  if (const YamlNode* stop = node.find("stop")) {
    for (const YamlNode& s : stop->items("stop")) out->stop.push_back(s.text("stop"));
  }
}

struct KvType {
  const char* name;
  uint32_t dtype;
};
constexpr KvType kKvTypes[] = {{"f32", PLUQ_DTYPE_F32},          {"f16", PLUQ_DTYPE_F16},
                               {"bf16", PLUQ_DTYPE_BF16},        {"fp8_e4m3", PLUQ_DTYPE_F8_E4M3},
                               {"fp8_e5m2", PLUQ_DTYPE_F8_E5M2}, {"int8", PLUQ_DTYPE_I8}};

void set_kv_scale(const std::string& scale, uint32_t dtype, const std::string& where,
                  RunConfig* out) {
  if (scale != "tensor" && scale != "head" && scale != "token") {
    fail_usage("{}: '{}' is not a kind of KV scale; accepted are tensor, head, token", where,
               printable(scale));
  }
  if (!is_kv_quantized(dtype)) {
    fail_usage("{}: a KV cache of {} has no scales; fp8_e4m3, fp8_e5m2 and int8 have", where,
               kv_dtype_name(dtype));
  }
  out->kv_scale = scale;
}

// kv_cache: {dtype, scale}
void read_kv_cache(const YamlNode& node, RunConfig* out) {
  node.check_keys("kv_cache", {"dtype", "scale"});
  const YamlNode *dtype = node.find("dtype"), *scale = node.find("scale");
  if (dtype == nullptr) {
    if (scale != nullptr) fail_usage("{}: kv_cache.scale needs kv_cache.dtype", scale->where);
    return;
  }
  out->kv_dtype = dtype->text("kv_cache.dtype");
  const uint32_t id = parse_kv_dtype(out->kv_dtype, dtype->where + ": kv_cache.dtype");
  if (scale != nullptr) {
    set_kv_scale(scale->text("kv_cache.scale"), id, scale->where + ": kv_cache.scale", out);
  }
}

}  // namespace

bool is_kv_quantized(uint32_t dtype) {
  return dtype == PLUQ_DTYPE_F8_E4M3 || dtype == PLUQ_DTYPE_F8_E5M2 || dtype == PLUQ_DTYPE_I8;
}

std::string kv_dtype_name(uint32_t dtype) {
  for (const KvType& type : kKvTypes) {
    if (type.dtype == dtype) return type.name;
  }
  return {};
}

uint32_t parse_kv_dtype(const std::string& name, const std::string& where) {
  std::string accepted;
  for (const KvType& type : kKvTypes) {
    if (name == type.name) return type.dtype;
    accepted += (accepted.empty() ? "" : ", ") + std::string(type.name);
  }
  fail_usage("{}: '{}' is not a KV cache type; accepted are {}", where, printable(name), accepted);
}

void parse_kv_cache(const std::string& text, const std::string& where, RunConfig* out) {
  const size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  const uint32_t dtype = parse_kv_dtype(name, where);
  out->kv_dtype = name;
  out->kv_scale.clear();
  if (colon != std::string::npos) set_kv_scale(text.substr(colon + 1), dtype, where, out);
}

RunConfig parse_run_config(const std::string& text, const std::string& path) {
  const YamlNode root = parse_yaml(text, path);
  const std::string base = fs::absolute(path).parent_path().string();
  RunConfig out;
  if (root.kind == YamlNode::Kind::kNull) return out;
  root.check_keys("the configuration",
                  {"model", "device", "compute", "activations", "threads", "context", "plugins",
                   "formats", "layers", "kv_cache", "generation"});
  for (const auto& [key, node] : root.map) {
    if (key == "model") out.model = absolute(base, node, key);
    if (key == "device") out.device = node.text(key);
    if (key == "compute") out.compute = node.choice(key, {"exact", "fast"});
    if (key == "activations") out.activations = node.choice(key, {"checkpoint", "float"});
    if (key == "threads") out.threads = static_cast<int>(node.integer(key, 1, 1024));
    if (key == "context") out.context = node.integer(key, 1, int64_t{1} << 30);
    if (key == "plugins") read_plugins(node, base, &out);
    if (key == "formats") read_formats(node, &out);
    if (key == "layers") read_layers(node, &out);
    if (key == "generation") read_generation(node, &out.generation);
    if (key == "kv_cache") read_kv_cache(node, &out);
  }
  return out;
}

RunConfig read_run_config(const std::string& path) {
  return parse_run_config(read_file(path, size_t{1} << 20), path);
}

}  // namespace pluq
