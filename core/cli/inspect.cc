// SPDX-License-Identifier: Apache-2.0
// pluq inspect MODEL: what is in a checkpoint and which kernel would serve each layer, from headers
// alone.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <cstdio>

#include "base/error.h"
#include "cli/common.h"
#include "cli/model_flags.h"
#include "plugin/host_table.h"

namespace pluq::cli {
namespace {

double bits_per_weight(const Inspection& i) {
  return i.parameters > 0 ? 8.0 * static_cast<double>(i.bytes) / static_cast<double>(i.parameters)
                          : 0;
}

boost::json::object to_json(const Inspection& i, const KvChoice& kv) {
  boost::json::array layers, unused;
  for (const LayerReport& l : i.layers) {
    layers.push_back(boost::json::object{{"name", l.name},
                                         {"kind", l.kind},
                                         {"format", l.format},
                                         {"scheme", l.scheme},
                                         {"kernel", l.kernel},
                                         {"provisional", l.provisional},
                                         {"reason", l.reason},
                                         {"decided_by", l.decided_by},
                                         {"in_features", l.in_features},
                                         {"out_features", l.out_features},
                                         {"bits_per_weight", l.bits_per_weight},
                                         {"bytes", l.bytes}});
  }
  for (const std::string& t : i.tensors_unused) unused.push_back(boost::json::string(t));
  return {{"architecture", i.config.architecture()},
          {"parameters", i.parameters},
          {"bits_per_weight", bits_per_weight(i)},
          {"bytes", i.bytes},
          {"kv_cache", boost::json::object{{"type", kv.text}, {"reason", kv.reason}}},
          {"layers", std::move(layers)},
          {"tensors_unused", std::move(unused)}};
}

void print(const Inspection& i, const KvChoice& kv) {
  fmt::print("{}: {} parameters, {:.1f} MiB, {:.2f} bits per weight\n", i.config.architecture(),
             i.parameters, static_cast<double>(i.bytes) / (1 << 20), bits_per_weight(i));
  size_t width = 4;
  for (const LayerReport& l : i.layers) width = std::max(width, l.name.size());
  fmt::print("{:{}}  {:>7} {:>7}  {:>5}  {:8} {:24} {}\n", "name", width, "in", "out", "bits",
             "format", "scheme", "kernel");
  for (const LayerReport& l : i.layers) {
    fmt::print("{:{}}  {:>7} {:>7}  {:>5.2f}  {:8} {:24} {}{}{}\n", l.name, width, l.in_features,
               l.out_features, l.bits_per_weight, l.format, l.scheme, l.kernel,
               l.provisional ? " (provisional)" : "", l.reason.empty() ? "" : ", " + l.reason);
  }
  fmt::print("KV cache: {}{}\n", kv.text, kv.reason.empty() ? "" : " (" + kv.reason + ")");
  for (const std::string& t : i.tensors_unused) fmt::print("not used: {}\n", t);
}

void inspect(const std::string& model, const CommonFlags& common) {
  const RunConfig config = merge_config(common, model);
  const auto plugins = open_plugins(config);
  const Inspection found = inspect_model(*plugins, load_options(config, true));
  const KvChoice kv = choose_kv(config, found.layers, found.kv, found.config.num_key_value_heads);
  for (const std::string& warning : kv.warnings) log_line(LogLevel::kWarning, warning);
  for (const std::string& warning : found.warnings) log_line(LogLevel::kWarning, warning);
  if (common.json) {
    print_json(to_json(found, kv));
  } else {
    print(found, kv);
  }
}

}  // namespace

Verb add_inspect(CLI::App& app, CommonFlags& common) {
  CLI::App* verb = app.add_subcommand(
      "inspect", "Show what is in a checkpoint and which kernel serves each layer");
  verb->footer("Example: pluq inspect ./model --json");
  static std::string model;
  verb->add_option("MODEL", model, "Model directory (or `model` of --config)");
  add_common_flags(*verb, common);
  return {verb, [&common] { inspect(model, common); }};
}

}  // namespace pluq::cli
