// SPDX-License-Identifier: Apache-2.0
// pluq explain MODEL: which rule of which file decided each layer, and every setting in force with
// where it comes from.
#include "cli/explain.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <cstdio>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "checkpoint/hf.h"
#include "cli/model_flags.h"
#include "config/run_config.h"
#include "device/device.h"
#include "model/loader.h"

namespace pluq::cli {
namespace {

struct Setting {
  std::string name, value, source;
};

// Where a setting comes from: the flag, the YAML file or the default.
std::string source_of(bool flag, const char* flag_name, bool yaml, const std::string& yaml_path,
                      const char* otherwise) {
  return flag ? flag_name : yaml ? yaml_path : otherwise;
}

// The flag or file that asks for the KV cache, and why it is as it is.
std::string kv_source(const KvChoice& kv, const CommonFlags& flags, const RunConfig& merged) {
  if (merged.kv_dtype.empty()) return kv.reason;
  const std::string asked = flags.kv_cache.empty() ? flags.config : "--kv-cache";
  return asked + (kv.reason.empty() ? "" : "; " + kv.reason);
}

std::string joined(const std::vector<std::string>& parts) {
  return parts.empty() ? "none" : fmt::format("{}", fmt::join(parts, ", "));
}

std::vector<Setting> settings(const CommonFlags& flags, const RunConfig& merged,
                              const PluginHost& plugins, const Inspection& found) {
  const RunConfig yaml = flags.config.empty() ? RunConfig() : read_run_config(flags.config);
  const RunConfig defaults;
  const auto from = [&](bool flag, const char* name, bool in_yaml) {
    return source_of(flag, name, in_yaml, flags.config, "default");
  };
  const KvChoice kv = choose_kv(merged, found.layers, found.kv, found.config.num_key_value_heads);
  std::vector<Setting> out{
      {"device", merged.device,
       from(!flags.device.empty(), "--device", yaml.device != defaults.device)},
      {"compute", merged.compute,
       from(!flags.compute.empty(), "--compute", yaml.compute != defaults.compute)},
      {"activations", merged.activations,
       from(!flags.activations.empty(), "--activations", yaml.activations != defaults.activations)},
      {"threads", std::to_string(merged.threads > 0 ? merged.threads : usable_cpus()),
       merged.threads > 0 ? from(flags.threads > 0, "--threads", true)
                          : "default: all usable CPUs"},
      {"context", merged.context > 0 ? std::to_string(merged.context) : "the model's, at most 4096",
       from(flags.context > 0, "--context", yaml.context > 0)},
      {"kv_cache", kv.text, kv_source(kv, flags, merged)},
      {"plugins.paths", joined(plugins.searched()), "searched, in this order"},
      {"plugins.allow", merged.plugin_allow.empty() ? "any" : merged.plugin_allow,
       merged.plugin_allow.empty() ? "default" : flags.config}};
  const GenerationSettings& g = yaml.generation;
  const std::string model = "generation_config.json, else ";
  const auto add = [&](const char* name, const auto& set, const std::string& otherwise) {
    out.push_back({std::string("generation.") + name, set ? fmt::format("{}", *set) : otherwise,
                   set ? flags.config : "default"});
  };
  add("max_new_tokens", g.max_new_tokens, "256");
  add("temperature", g.temperature, model + "0");
  add("top_k", g.top_k, model + "off");
  add("top_p", g.top_p, model + "1");
  add("min_p", g.min_p, "0");
  add("repeat_penalty", g.repeat_penalty, model + "1");
  add("seed", g.seed, "0");
  out.push_back({"generation.stop", joined(g.stop), g.stop.empty() ? "default" : flags.config});
  return out;
}

boost::json::object to_json(const Inspection& found, const std::vector<Setting>& all) {
  boost::json::array layers, values;
  for (const LayerReport& l : found.layers) {
    boost::json::array answers;
    for (const FormatAnswer& a : l.answers) {
      answers.push_back(boost::json::object{
          {"format", a.format}, {"answer", a.answer}, {"score", a.score}, {"reason", a.reason}});
    }
    layers.push_back(boost::json::object{{"answers", std::move(answers)},
                                         {"name", l.name},
                                         {"format", l.format},
                                         {"scheme", l.scheme},
                                         {"kernel", l.kernel},
                                         {"provisional", l.provisional},
                                         {"decided_by", l.decided_by},
                                         {"reason", l.reason}});
  }
  for (const Setting& s : all)
    values.push_back(
        boost::json::object{{"name", s.name}, {"value", s.value}, {"source", s.source}});
  return {{"settings", std::move(values)}, {"layers", std::move(layers)}};
}

void print(const Inspection& found, const std::vector<Setting>& all) {
  for (const Setting& s : all) fmt::print("{:26} {}  ({})\n", s.name, s.value, s.source);
  fmt::print("\n");
  for (const LayerReport& l : found.layers) {
    fmt::print("{}\n  {} {} by {}{}\n  decided by {}{}\n", l.name, l.format, l.scheme,
               l.kernel.empty() ? "no kernel yet" : l.kernel, l.provisional ? " (provisional)" : "",
               l.decided_by, l.reason.empty() ? "" : "; " + l.reason);
    for (const FormatAnswer& a : l.answers) {
      fmt::print("    {} {}{}{}\n", a.format, a.answer,
                 a.score > 0 ? fmt::format(" with score {}", a.score) : "",
                 a.reason.empty() ? "" : ": " + a.reason);
    }
  }
}

void explain(const std::string& model, const CommonFlags& common) {
  const RunConfig config = merge_config(common, model);
  const auto plugins = open_plugins(config);
  const Inspection found = inspect_model(*plugins, load_options(config, true));
  const std::vector<Setting> all = settings(common, config, *plugins, found);
  if (common.json) {
    print_json(to_json(found, all));
  } else {
    print(found, all);
  }
}

}  // namespace

Verb add_explain(CLI::App& app, CommonFlags& common) {
  CLI::App* verb =
      app.add_subcommand("explain", "Show what decided each layer, and every setting in force");
  verb->footer("Examples:\n  pluq explain ./model\n  pluq explain --config run.yaml --json");
  static std::string model;
  verb->add_option("MODEL", model, "Model directory or .gguf file (or `model` of --config)");
  add_common_flags(*verb, common);
  return {verb, [&common] { explain(model, common); }};
}

}  // namespace pluq::cli
