// SPDX-License-Identifier: Apache-2.0
// What all verbs share: the common flags, what they amount to together with the YAML file, and the
// ways of printing.
#pragma once

#include <boost/json/value.hpp>

#include <CLI/CLI.hpp>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace pluq::cli {

struct CommonFlags {
  std::string config;                // --config FILE.yaml
  std::vector<std::string> plugins;  // --plugins DIR
  std::string device;                // --device
  std::string compute;               // --compute exact|fast
  std::string activations;           // --activations checkpoint|float
  int64_t context = 0;               // --context N; 0: not given
  std::string kv_cache;              // --kv-cache DTYPE[:SCALE]
  int threads = 0;                   // --threads N; 0: all
  bool quiet = false;
  std::string log_level = "warning";
  bool json = false;
};

// Adds the flags that every verb accepts to `verb`.
void add_common_flags(CLI::App& verb, CommonFlags& flags);

// A verb: how it is declared and what it does. `run` is called after parsing; it throws
// pluq::Error.
struct Verb {
  CLI::App* app = nullptr;
  std::function<void()> run;
};

// One JSON document and a newline on stdout.
void print_json(const boost::json::value& value);

// Generated text as it comes, on stdout.
void stream_text(std::string_view text);

// "0,5,9" as ids. Throws Error(kUsage) naming the flag and the place.
std::vector<int32_t> parse_ids(const std::string& text, const std::string& where);

// Declared in their own files, in the order of --help.
Verb add_run(CLI::App& app, CommonFlags& flags);
Verb add_logits(CLI::App& app, CommonFlags& flags);
Verb add_layer(CLI::App& app, CommonFlags& flags);
Verb add_tokenize(CLI::App& app, CommonFlags& flags);
Verb add_eval(CLI::App& app, CommonFlags& flags);
Verb add_inspect(CLI::App& app, CommonFlags& flags);
Verb add_quantize(CLI::App& app, CommonFlags& flags);
Verb add_import(CLI::App& app, CommonFlags& flags);
Verb add_plugins(CLI::App& app, CommonFlags& flags);
Verb add_bench(CLI::App& app, CommonFlags& flags);
Verb add_bench_linear(CLI::App& app, CommonFlags& flags);
Verb add_doctor(CLI::App& app, CommonFlags& flags);
Verb add_sdk(CLI::App& app, CommonFlags& flags);
Verb add_completion(CLI::App& app, CommonFlags& flags);

}  // namespace pluq::cli
