// SPDX-License-Identifier: Apache-2.0
#include "cli/model_flags.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/gguf.h"
#include "conformance/trial.h"
#include "device/runtime.h"
#include "plugin/host_table.h"
#include "quantize/import.h"

namespace pluq::cli {

namespace fs = std::filesystem;

void TextFlags::add(CLI::App& verb) {
  prompt_option = verb.add_option("-p,--prompt", prompt, "Text")->type_name("TEXT");
  verb.add_option("-f,--file", file, "File with the text")
      ->type_name("FILE")
      ->excludes(prompt_option);
}

bool TextFlags::given() const { return prompt_option->count() > 0 || !file.empty(); }

std::string TextFlags::read() const {
  if (!given()) fail_usage("give the text with -p TEXT or -f FILE");
  return file.empty() ? prompt : read_file(file, size_t{1} << 30);
}

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& model) {
  std::error_code ec;
  if (fs::is_regular_file(model, ec) && fs::path(model).extension() == ".gguf") {
    return Tokenizer::from_json(
        tokenizer_json_from_gguf(read_gguf_vocabulary(*GgufFile::open(model)), model), model);
  }
  return Tokenizer::from_directory(model);
}

RunConfig merge_config(const CommonFlags& flags, const std::string& model) {
  RunConfig config;
  if (!flags.config.empty()) config = read_run_config(flags.config);
  if (!model.empty()) config.model = model;
  if (!flags.device.empty()) config.device = flags.device;
  if (!flags.compute.empty()) config.compute = flags.compute;
  if (!flags.activations.empty()) config.activations = flags.activations;
  if (flags.context > 0) config.context = flags.context;
  if (flags.threads > 0) config.threads = flags.threads;
  if (!flags.kv_cache.empty()) parse_kv_cache(flags.kv_cache, "--kv-cache", &config);
  std::vector<std::string> paths;
  for (const std::string& path : flags.plugins)
    paths.push_back(fs::absolute(path).lexically_normal().string());
  config.plugin_paths.insert(config.plugin_paths.begin(), paths.begin(), paths.end());
  static const std::pair<const char*, LogLevel> levels[] = {{"debug", LogLevel::kDebug},
                                                            {"info", LogLevel::kInfo},
                                                            {"warning", LogLevel::kWarning},
                                                            {"error", LogLevel::kError}};
  for (const auto& [name, level] : levels) {
    if (flags.log_level == name) set_log_level(level);
  }
  const DeviceChoice device = parse_device(config.device);
  if (device.kind != PLUQ_DEVICE_CPU && config.compute == "exact") {
    fail_usage("--device {}: exact arithmetic is there on the CPU only; use --compute fast",
               config.device);
  }
  return config;
}

std::unique_ptr<PluginHost> open_plugins(const RunConfig& config) {
  PluginOptions options;
  options.directories = config.plugin_paths;
  options.allow_list = config.plugin_allow;
  options.prefer = config.plugin_prefer;
  options.trial = conformance::default_trial();
  return std::make_unique<PluginHost>(options);
}

LoadOptions load_options(const RunConfig& config, bool quiet) {
  if (config.model.empty()) fail_usage("no model: give MODEL, or `model` in the --config file");
  LoadOptions o;
  o.path = config.model;
  o.compute = config.compute == "exact" ? PLUQ_COMPUTE_EXACT : PLUQ_COMPUTE_FAST;
  o.activations =
      config.activations == "float" ? PLUQ_ACTIVATIONS_FLOAT : PLUQ_ACTIVATIONS_CHECKPOINT;
  o.context = config.context;
  if (!config.kv_dtype.empty()) o.kv_dtype = parse_kv_dtype(config.kv_dtype, "--kv-cache");
  for (const FormatSetting& f : config.formats)
    o.formats.push_back({f.name, f.type, f.options, f.where});
  for (const LayerSetting& l : config.layers) o.rules.push_back({l.pattern, l.format, l.where});
  o.quiet = quiet;
  o.device = open_device(parse_device(config.device));
  return o;
}

std::shared_ptr<ThreadPool> make_pool(const RunConfig& config) {
  return std::make_shared<ThreadPool>(config.threads > 0 ? config.threads : usable_cpus());
}

namespace {

void load(OpenModel* open, const LoadOptions& options) {
  open->loaded = load_model(*open->plugins, open->pool, options);
  const Model& model = *open->loaded.model;
  open->kv =
      choose_kv(open->config, model.layers(), open->loaded.kv, model.config().num_key_value_heads);
  for (const std::string& warning : open->kv.warnings) log_line(LogLevel::kWarning, warning);
  log_line(LogLevel::kInfo,
           fmt::format("KV cache: {}{}", open->kv.text,
                       open->kv.reason.empty() ? "" : " (" + open->kv.reason + ")"));
  for (const std::string& warning : open->loaded.warnings) log_line(LogLevel::kWarning, warning);
  if (!open->loaded.tensors_unused.empty()) {
    log_line(LogLevel::kWarning,
             fmt::format("{}: {} tensors are not used, among them {}", options.path,
                         open->loaded.tensors_unused.size(), open->loaded.tensors_unused[0]));
  }
  for (const LayerReport& l : open->loaded.model->layers()) {
    log_line(LogLevel::kInfo, fmt::format("{}: {} {} by {}{}", l.name, l.format, l.scheme, l.kernel,
                                          l.reason.empty() ? "" : " (" + l.reason + ")"));
  }
}

}  // namespace

OpenModel open_model(const CommonFlags& flags, const std::string& model, bool need_tokenizer) {
  OpenModel open;
  open.config = merge_config(flags, model);
  const LoadOptions options = load_options(open.config, flags.quiet);
  if (need_tokenizer) open.tokenizer = load_tokenizer(open.config.model);
  open.plugins = open_plugins(open.config);
  open.pool = make_pool(open.config);
  load(&open, options);
  return open;
}

OpenModel open_beside(const OpenModel& first, const std::string& model, bool quiet) {
  OpenModel open;
  open.config = first.config;
  open.config.model = model;
  open.config.formats.clear();
  open.config.layers.clear();
  open.plugins = first.plugins;
  open.pool = first.pool;
  load(&open, load_options(open.config, quiet));
  return open;
}

SessionOptions OpenModel::session_options() const {
  SessionOptions o;
  o.context = config.context;
  o.kv_dtype = kv.dtype;
  o.k_scale = kv.k_scale;
  o.v_scale = kv.v_scale;
  return o;
}

}  // namespace pluq::cli
