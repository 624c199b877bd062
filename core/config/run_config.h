// SPDX-License-Identifier: Apache-2.0
// The settings of a run: a YAML file, with command-line flags on top. Every key is described in
// configs/README.md.
#pragma once

#include <boost/json/value.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/matcher.h"

namespace pluq {

struct FormatSetting {
  std::string name, type;
  boost::json::value options;  // null: none
  std::string where;           // file:line:column
};

struct LayerSetting {
  LayerPattern pattern;
  std::string format;
  std::string where;
};

struct GenerationSettings {
  std::optional<int64_t> max_new_tokens, top_k, seed;
  std::optional<double> temperature, top_p, min_p, repeat_penalty;
  std::vector<std::string> stop;
};

struct RunConfig {
  std::string model;  // absolute or as given on the command line
  std::string device = "cpu";
  std::string compute = "fast";            // exact, fast
  std::string activations = "checkpoint";  // checkpoint, float
  int64_t context = 0;                     // 0: the model's own, at most 4096
  int threads = 0;                         // 0: all usable CPUs
  std::string kv_dtype;  // "": by checkpoint and compute; f32, f16, bf16, fp8_e4m3, fp8_e5m2, int8
  std::string kv_scale;  // of 8-bit types: "": the checkpoint's, else computed; tensor, head, token
  std::vector<std::string> plugin_paths;  // absolute
  std::string plugin_allow;               // absolute, or empty
  std::map<std::string, std::string> plugin_prefer;
  std::vector<FormatSetting> formats;
  std::vector<LayerSetting> layers;
  GenerationSettings generation;
};

// Reads the YAML file; relative paths in it are relative to its directory. Throws Error(kUsage)
// with line and column.
RunConfig read_run_config(const std::string& path);
RunConfig parse_run_config(const std::string& text, const std::string& path);

// Sets kv_dtype and kv_scale from "DTYPE[:tensor|head|token]". Throws Error(kUsage) that names the
// accepted ones; `where` names the setting.
void parse_kv_cache(const std::string& text, const std::string& where, RunConfig* out);
bool is_kv_quantized(uint32_t dtype);
// "fp8_e4m3"; empty for what is no KV type.
std::string kv_dtype_name(uint32_t dtype);

// The KV cache's dtype id for a name ("f16"), or Error(kUsage) that names the accepted ones;
// `where` names the setting.
uint32_t parse_kv_dtype(const std::string& name, const std::string& where);

}  // namespace pluq
