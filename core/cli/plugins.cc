// SPDX-License-Identifier: Apache-2.0
// pluq plugins list|info|check: every candidate that was looked at, the formats of the loaded ones,
// and the kit.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <cstdio>

#include "base/error.h"
#include "cli/common.h"
#include "cli/model_flags.h"
#include "cli/plugins_check.h"

namespace pluq::cli {
namespace {

boost::json::object to_json(const PluginReport& r) {
  boost::json::array formats;
  for (const std::string& f : r.formats) formats.push_back(boost::json::string(f));
  return {{"path", r.path},     {"id", r.id},         {"version", r.version},
          {"abi", r.abi},       {"formats", formats}, {"status", r.loaded ? "loaded" : "refused"},
          {"reason", r.reason}, {"sha256", r.sha256}};
}

const char* type_name(uint32_t type) {
  switch (type) {
    case PLUQ_OPTION_INT:
      return "int";
    case PLUQ_OPTION_REAL:
      return "real";
    case PLUQ_OPTION_BOOL:
      return "bool";
    default:
      return "text";
  }
}

void list(const CommonFlags& common) {
  const auto host = open_plugins(merge_config(common, ""));
  if (common.json) {
    boost::json::array all;
    for (const PluginReport& r : host->reports()) all.push_back(to_json(r));
    print_json(boost::json::object{{"plugins", std::move(all)}});
    return;
  }
  for (const PluginReport& r : host->reports()) {
    fmt::print("{:8} {:16} {:8} ABI {:4} {}{}\n", r.loaded ? "loaded" : "refused",
               r.id.empty() ? "-" : r.id, r.version, r.abi, r.path,
               r.reason.empty() ? "" : ": " + r.reason);
  }
  if (host->reports().empty()) {
    fmt::print("no plugin found; searched {}\n",
               host->searched().empty() ? "no directory"
                                        : fmt::format("{}", fmt::join(host->searched(), ", ")));
  }
}

boost::json::object format_json(const FormatHandle& f) {
  boost::json::array options, algorithms;
  for (const OptionInfo& o : f.options()) {
    options.push_back(boost::json::object{{"key", o.key},
                                          {"type", type_name(o.type)},
                                          {"default", o.default_value},
                                          {"choices", o.choices},
                                          {"help", o.help}});
  }
  for (const std::string& a : f.algorithms()) algorithms.push_back(boost::json::string(a));
  return {{"id", f.id()},
          {"aliases", f.aliases()},
          {"summary", f.summary()},
          {"plugin", f.plugin_path()},
          {"algorithms", std::move(algorithms)},
          {"options", std::move(options)}};
}

void info(const CommonFlags& common, const std::string& id) {
  const auto host = open_plugins(merge_config(common, ""));
  std::vector<const FormatHandle*> chosen;
  if (id.empty()) {
    for (const auto& f : host->formats()) chosen.push_back(f.get());
  } else {
    chosen.push_back(&host->at(id));
  }
  if (common.json) {
    boost::json::array all;
    for (const FormatHandle* f : chosen) all.push_back(format_json(*f));
    print_json(boost::json::object{{"formats", std::move(all)}});
    return;
  }
  for (const FormatHandle* f : chosen) {
    fmt::print("{}: {}\n  plugin: {}\n", f->id(), f->summary(), f->plugin_path());
    if (!f->aliases().empty()) fmt::print("  also claims: {}\n", f->aliases());
    if (f->can_quantize()) fmt::print("  algorithms: {}\n", fmt::join(f->algorithms(), ", "));
    for (const OptionInfo& o : f->options()) {
      fmt::print("  --set {}=... ({}{}{}): {}\n", o.key, type_name(o.type),
                 o.choices.empty() ? "" : ", " + o.choices,
                 o.default_value.empty() ? "" : ", default " + o.default_value, o.help);
    }
  }
}

}  // namespace

Verb add_plugins(CLI::App& app, CommonFlags& common) {
  CLI::App* verb =
      app.add_subcommand("plugins", "List format plugins, show what one offers, or test one");
  verb->footer(
      "Examples:\n  pluq plugins list\n  pluq plugins info gptq\n  pluq plugins check my.so\n  "
      "pluq plugins list --plugins ./my-plugins --json");
  verb->require_subcommand(1);
  static std::string id;
  CLI::App* list_verb =
      verb->add_subcommand("list", "Every plugin file found: loaded, or refused and why");
  CLI::App* info_verb = verb->add_subcommand("info", "Formats, options and algorithms");
  static std::function<void()> run_check;
  CLI::App* check_verb = add_plugins_check(*verb, common, &run_check);
  info_verb->add_option("FORMAT", id, "Format id (default: all)");
  add_common_flags(*list_verb, common);
  add_common_flags(*info_verb, common);
  add_common_flags(*check_verb, common);
  return {verb, [=, &common] {
            if (check_verb->parsed()) return run_check();
            if (list_verb->parsed()) return list(common);
            info(common, id);
          }};
}

}  // namespace pluq::cli
