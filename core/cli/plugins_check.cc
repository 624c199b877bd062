// SPDX-License-Identifier: Apache-2.0
// pluq plugins check FILE.so: runs the conformance kit and writes pluq-conformance.json.
#include <boost/json/serialize.hpp>

#include <cstdio>

#include "base/error.h"
#include "base/file.h"
#include "cli/plugins_check.h"
#include "conformance/kit.h"

namespace pluq::cli {
namespace {

struct Flags {
  conformance::Options options;
  std::string out = "pluq-conformance.json";
};

void check(const Flags& f, const CommonFlags& common) {
  const conformance::Report report =
      conformance::check_plugin(f.options, [&](const conformance::Result& r) {
        if (common.json || (common.quiet && r.status == "pass")) return;
        fmt::print("{:4}  {:32} {:6.2f} s  {}\n", r.status, r.group + "." + r.name, r.seconds,
                   r.text);
        if (!r.read.empty()) fmt::print("      read: {}\n", r.read);
        std::fflush(stdout);
      });
  write_file_durably(f.out, boost::json::serialize(report.to_json()) + "\n");
  if (common.json) {
    print_json(report.to_json());
  } else {
    fmt::print("{}: {} passed, {} failed, {} skipped; seed {}; written to {}\n", report.path,
               report.count("pass"), report.count("fail"), report.count("skip"), report.seed,
               f.out);
  }
  if (report.count("fail") > 0) {
    fail(ErrorKind::kFailed, "{} does not conform: {} of {} tests failed", f.options.path,
         report.count("fail"), report.results.size());
  }
}

}  // namespace

CLI::App* add_plugins_check(CLI::App& plugins, const CommonFlags& common,
                            std::function<void()>* run) {
  static Flags f;
  CLI::App* verb = plugins.add_subcommand("check", "Test a plugin against the rules of the ABI");
  verb->footer(
      "Example: pluq plugins check build/lib/pluq/plugins/my_format.so\n"
      "Exit codes: 0 it conforms, 1 a test failed.");
  verb->add_option("FILE", f.options.path, "The plugin, a .so file")->required();
  verb->add_option("--only", f.options.filter,
                   "Only tests with this in their name, as numerics or memory.poison")
      ->type_name("TEXT");
  verb->add_option("--seed", f.options.seed, "Seed of all random data (default 1)")->type_name("N");
  verb->add_option("--time-limit", f.options.time_limit, "Seconds per test (default 120)")
      ->check(CLI::Range(1.0, 3600.0))
      ->type_name("S");
  verb->add_flag("--in-process", f.options.in_process, "No child processes, for a debugger");
  verb->add_option("--out", f.out, "Report to write (default pluq-conformance.json)")
      ->type_name("FILE");
  *run = [&common] { check(f, common); };
  return verb;
}

}  // namespace pluq::cli
