// SPDX-License-Identifier: Apache-2.0
// From flags and YAML to a running model: what run, logits, layer, inspect and bench share.
#pragma once

#include <memory>
#include <string>

#include "cli/common.h"
#include "config/run_config.h"
#include "engine/kv_choice.h"
#include "engine/session.h"
#include "model/loader.h"
#include "plugin/plugin_host.h"
#include "tokenizer/tokenizer.h"

namespace pluq::cli {

// -p TEXT or -f FILE.
struct TextFlags {
  std::string prompt, file;
  CLI::Option* prompt_option = nullptr;
  void add(CLI::App& verb);
  bool given() const;
  // Throws Error(kUsage) when neither or both are given.
  std::string read() const;
};

// The tokenizer of a model directory, or the one inside a .gguf file.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& model);

// The YAML file of --config with the flags on top. `model` is the positional argument, which wins
// over the file's.
RunConfig merge_config(const CommonFlags& flags, const std::string& model);

// Plugins by the search path of the configuration; at debug level every candidate is logged.
std::unique_ptr<PluginHost> open_plugins(const RunConfig& config);
std::shared_ptr<ThreadPool> make_pool(const RunConfig& config);

// A loaded model and all it stands on.
struct OpenModel {
  RunConfig config;
  std::shared_ptr<PluginHost> plugins;
  std::shared_ptr<ThreadPool> pool;
  LoadedModel loaded;
  KvChoice kv;
  std::shared_ptr<const Tokenizer> tokenizer;

  SessionOptions session_options() const;
  Session session() const { return Session(loaded.model, session_options()); }
};
OpenModel open_model(const CommonFlags& flags, const std::string& model,
                     bool need_tokenizer = true);
// Another model on the same plugins and threads, with the same settings; rules of the YAML file for
// formats and layers belong to the first model and are left out.
OpenModel open_beside(const OpenModel& first, const std::string& model, bool quiet);

// The options a loader needs, from the merged configuration.
LoadOptions load_options(const RunConfig& config, bool quiet);

}  // namespace pluq::cli
