// SPDX-License-Identifier: Apache-2.0
// pluq quantize MODEL -o OUT: a dense model into a quantized format.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <cstdio>

#include "base/error.h"
#include "cli/common.h"
#include "cli/interrupt.h"
#include "cli/model_flags.h"
#include "quantize/quantize.h"

namespace pluq::cli {
namespace {

struct Flags {
  std::string model, output, format, algorithm, text, recipe;
  std::vector<std::string> settings;
  bool dry_run = false;
};

void quantize(const Flags& f, const CommonFlags& common) {
  if (!f.text.empty())
    fail_usage("--text: calibration is not built yet; algorithm rtn needs no text");
  if (!f.recipe.empty()) fail_usage("--recipe: not built yet; use --format, --algorithm and --set");
  if (f.format.empty()) fail_usage("--format is required; pluq plugins info lists the formats");
  if (f.output.empty() && !f.dry_run) fail_usage("-o OUT is required (or --dry-run)");
  const RunConfig config = merge_config(common, f.model);
  const auto plugins = open_plugins(config);
  const auto pool = make_pool(config);
  QuantizeOptions options;
  options.input = config.model;
  options.output = f.output;
  options.format = f.format;
  options.algorithm = f.algorithm;
  options.settings = f.settings;
  options.dry_run = f.dry_run;
  options.quiet = common.quiet;
  options.cancel = &interrupted();
  const QuantizeReport report = quantize_model(*plugins, *pool, options);
  if (common.json) {
    boost::json::array layers;
    for (const QuantizedLayer& l : report.layers) {
      boost::json::object o{{"name", l.name}, {"error", l.error}};
      if (!l.skipped.empty()) o["skipped"] = l.skipped;
      layers.push_back(std::move(o));
    }
    print_json(boost::json::object{{"layers", std::move(layers)},
                                   {"seconds", report.seconds},
                                   {"peak_bytes", report.peak_bytes},
                                   {"input_bytes", report.input_bytes},
                                   {"output_bytes", report.output_bytes}});
    return;
  }
  for (const QuantizedLayer& l : report.layers) {
    if (!l.skipped.empty()) {
      fmt::print("{}: stays plain: {}\n", l.name, l.skipped);
    } else if (!f.dry_run) {
      fmt::print("{}: relative weight error {:.4f}\n", l.name, l.error);
    }
  }
  fmt::print("{}{:.1f} MiB -> {:.1f} MiB in {:.1f} s, peak memory {:.0f} MiB\n",
             f.dry_run ? "dry run: " : "", static_cast<double>(report.input_bytes) / (1 << 20),
             static_cast<double>(report.output_bytes) / (1 << 20), report.seconds,
             static_cast<double>(report.peak_bytes) / (1 << 20));
}

}  // namespace

Verb add_quantize(CLI::App& app, CommonFlags& common) {
  CLI::App* verb = app.add_subcommand("quantize", "Quantize a dense model");
  verb->footer(
      "Examples:\n  pluq quantize ./model -o ./model-w4 --format gptq --algorithm rtn --set "
      "group_size=64\n"
      "  pluq quantize ./model --format w8a8 --dry-run");
  static Flags f;
  verb->add_option("MODEL", f.model, "Dense model directory")->required();
  verb->add_option("-o,--out", f.output, "Directory to write; must not exist or be empty")
      ->type_name("DIR");
  verb->add_option("--format", f.format, "Format id (pluq plugins info)")->type_name("F");
  verb->add_option("--algorithm", f.algorithm,
                   "rtn: round to nearest (default: the format's first)")
      ->type_name("A");
  verb->add_option("--set", f.settings, "Option of the format, key=value (repeatable)")
      ->type_name("K=V")
      ->allow_extra_args(false);
  verb->add_flag("--dry-run", f.dry_run, "Only say what would be done");
  verb->add_option("--text", f.text)->group("");
  verb->add_option("--recipe", f.recipe)->group("");
  add_common_flags(*verb, common);
  return {verb, [&common] { quantize(f, common); }};
}

}  // namespace pluq::cli
