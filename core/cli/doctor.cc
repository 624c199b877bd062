// SPDX-License-Identifier: Apache-2.0
// pluq doctor: what this machine and this build can do, what is missing and how to get it.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>

#include "base/error.h"
#include "cli/common.h"
#include "cli/model_flags.h"
#include "device/cuda/cuda_library.h"
#include "device/device.h"
#include "device/isa.h"

namespace pluq::cli {
namespace {

void doctor(const CommonFlags& common) {
  const CpuInfo& cpu = cpu_info();
  const uint64_t allowed = allowed_features();
  std::vector<std::string> advice;
  std::unique_ptr<PluginHost> host;
  std::string plugin_error;
  try {
    host = open_plugins(merge_config(common, ""));
  } catch (const Error& e) {
    plugin_error = e.what();
    advice.push_back(fmt::format("plugins cannot be loaded: {}", plugin_error));
  }
  std::vector<std::string> formats;
  if (host) {
    for (const auto& f : host->formats()) formats.push_back(f->id());
    if (formats.empty()) {
      advice.push_back(
          "no format plugin was found, not even for plain weights: install pluq's plugins beside "
          "the program "
          "(../lib/pluq/plugins), or name their directory with --plugins or PLUQ_PLUGIN_PATH");
    }
    for (const PluginReport& r : host->reports()) {
      if (!r.loaded) advice.push_back(fmt::format("{} was refused: {}", r.path, r.reason));
    }
  }
  if (best_isa(cpu.features) == Isa::kPortable) {
    advice.push_back("this CPU has no AVX2: models run, several times slower than on newer CPUs");
  }
  struct rlimit files {};
  ::getrlimit(RLIMIT_NOFILE, &files);
  const auto features = feature_names(cpu.features);
  const uint64_t memory = available_memory();
  if (common.json) {
    boost::json::array f, p, a;
    for (const auto& x : features) f.push_back(boost::json::string(x));
    for (const auto& x : formats) p.push_back(boost::json::string(x));
    for (const auto& x : advice) a.push_back(boost::json::string(x));
    print_json(boost::json::object{{"version", PLUQ_VERSION},
                                   {"abi", fmt::format("{}.{}", PLUQ_ABI_MAJOR, PLUQ_ABI_MINOR)},
                                   {"cpu", cpu.model},
                                   {"features", std::move(f)},
                                   {"isa", std::string(isa_name(best_isa(allowed)))},
                                   {"threads", usable_cpus()},
                                   {"memory_available", memory},
                                   {"open_files", static_cast<uint64_t>(files.rlim_cur)},
                                   {"cuda", describe_cuda()},
                                   {"formats", std::move(p)},
                                   {"advice", std::move(a)}});
    return;
  }
  fmt::print("pluq {}, plugin ABI {}.{}\n", PLUQ_VERSION, PLUQ_ABI_MAJOR, PLUQ_ABI_MINOR);
  fmt::print("CPU: {}, {} usable\n  features: {}\n  kernels: {} (PLUQ_ISA={})\n", cpu.model,
             usable_cpus(), fmt::join(features, " "), isa_name(best_isa(allowed)),
             std::getenv("PLUQ_ISA") == nullptr ? "auto" : std::getenv("PLUQ_ISA"));
  fmt::print("memory available: {:.1f} GiB; open files: {}\n",
             static_cast<double>(memory) / (1 << 30), files.rlim_cur);
  fmt::print("CUDA: {}\n", describe_cuda());
  fmt::print("formats: {}\n",
             formats.empty() ? "none" : fmt::format("{}", fmt::join(formats, ", ")));
  if (host) fmt::print("plugins searched in: {}\n", fmt::join(host->searched(), ", "));
  for (const std::string& line : advice) fmt::print("missing: {}\n", line);
}

}  // namespace

Verb add_doctor(CLI::App& app, CommonFlags& common) {
  CLI::App* verb =
      app.add_subcommand("doctor", "Show what this machine and build can do, and what is missing");
  verb->footer("Example: pluq doctor --json");
  add_common_flags(*verb, common);
  return {verb, [&common] { doctor(common); }};
}

}  // namespace pluq::cli
