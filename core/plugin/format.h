// SPDX-License-Identifier: Apache-2.0
// Owners of what plugins hand out: formats, configs, methods and quantizing jobs, with sizes and
// strides honoured and errors turned into exceptions that name format and layer. Calls into plugins
// are made here and nowhere else.
#pragma once

#include <boost/json/value.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pluq/abi.h"
#include "pluq/ext/kv_cache.h"

namespace pluq {

// One option of a format's schema.
struct OptionInfo {
  std::string key, default_value, choices, help;
  uint32_t type = 0;
  double min = 1, max = 0;
};

// One tensor that a method or a quantizer declares.
struct WeightSpecInfo {
  std::string suffix;
  pluq_dtype dtype{};
  std::vector<int64_t> shape;
  bool optional = false;
  pluq_sample sample{};
  int64_t group_size = 0;
};

// pluq_activation_scheme as a method publishes it.
struct ActivationRounding {
  uint32_t strategy = 0, dtype = 0;  // PLUQ_STRATEGY_*, PLUQ_DTYPE_*
  int64_t group_size = 0;
  bool dynamic = false, symmetric = false, permuted = false;
  double divisor = 0;
  std::string static_scale;  // suffix of the tensor
};

struct MethodDescription {
  std::string format, scheme, kernel, reason;
  uint32_t arithmetic = 0;
  bool provisional = false;
  bool takes_quantized = false;  // x rounded by `activations`
  ActivationRounding activations;
  double error_bound = 0, bits_per_weight = 0;
};

class Method {
 public:
  Method() = default;
  Method(pluq_method method, std::string format, std::string layer);
  ~Method();
  Method(Method&& other) noexcept;
  Method& operator=(Method&& other) noexcept;

  explicit operator bool() const { return method_.api != nullptr; }
  const std::string& format() const { return format_; }
  const std::string& layer() const { return layer_; }

  MethodDescription describe() const;
  std::vector<WeightSpecInfo> create_weights() const;
  struct Plan {
    bool keep_tensors = false;
    uint64_t buffer_bytes = 0, scratch_bytes = 0;
    std::string cache_key;
  };
  Plan process_plan(std::span<const pluq_tensor> tensors) const;
  void process(const pluq_exec* exec, std::span<const pluq_tensor> tensors, void* buffer) const;
  uint64_t workspace(int64_t max_tokens, int workers) const;
  void apply(const pluq_exec* exec, const pluq_activation& x, const float* bias,
             const pluq_output& y) const;
  void dequantize(const pluq_exec* exec, std::span<const pluq_tensor> tensors, int64_t n_begin,
                  int64_t n_end, float* out, int64_t ld) const;
  bool can_gather() const { return embedding_ != nullptr; }
  void gather(const pluq_exec* exec, std::span<const int32_t> ids, const pluq_output& y) const;
  // Writes one tensor's random contents for a spec of kind PLUQ_SAMPLE_BYTES.
  void fill(const WeightSpecInfo& spec, uint64_t seed, std::span<std::byte> data) const;

 private:
  std::string context(const char* call) const;
  pluq_method method_{};
  const pluq_embedding* embedding_ = nullptr;
  std::string format_, layer_;
};

struct MethodChoice {
  uint32_t verdict = PLUQ_VERDICT_NOT_MINE;
  int32_t score = 0;
  std::string reason;
  Method method;
};

// What a config says of the KV cache of one attention block.
struct KvDescription {
  uint32_t verdict = PLUQ_VERDICT_NOT_MINE;  // or USE, UNSUPPORTED
  uint32_t dtype = 0;                        // PLUQ_DTYPE_F8_E4M3, F8_E5M2 or I8
  bool in_force = false, dynamic = false;
  std::string k_scale, v_scale;  // suffixes of tensors, or empty
  std::vector<std::string> unneeded;
  std::string reason;
  bool operator==(const KvDescription&) const = default;
};

class FormatConfig {
 public:
  FormatConfig() = default;
  FormatConfig(pluq_config config, std::string format);
  ~FormatConfig();
  FormatConfig(FormatConfig&& other) noexcept;
  FormatConfig& operator=(FormatConfig&& other) noexcept;
  const std::string& format() const { return format_; }
  MethodChoice get_quant_method(const pluq_layer_desc& layer, const pluq_device& device) const;
  // By the extension pluq.kv_cache/1; a format without it says nothing. Throws Error(kPlugin) on an
  // answer outside the contract.
  KvDescription kv_cache(const pluq_kv_request& request) const;

 private:
  pluq_config config_{};
  std::string format_;
};

struct QuantizeTarget {
  std::string name, kind;
  int64_t in_features = 0, out_features = 0;
};

// A group of layers being quantized.
class QuantizeJob {
 public:
  QuantizeJob(const pluq_quantizer* api, void* job, std::string format)
      : api_(api), job_(job), format_(std::move(format)) {}
  ~QuantizeJob();
  QuantizeJob(const QuantizeJob&) = delete;
  QuantizeJob& operator=(const QuantizeJob&) = delete;
  std::vector<WeightSpecInfo> output_specs(size_t layer) const;

  struct Callbacks {
    // Rows [n_begin, n_end) of layer `layer` as f32, ld apart. May run on several threads at once.
    std::function<void(size_t layer, int64_t n_begin, int64_t n_end, float* out, int64_t ld)> rows;
    std::function<void(size_t layer, std::string_view suffix, int64_t row_begin, int64_t row_end,
                       std::span<const std::byte> data)>
        emit;
  };
  void solve(const pluq_exec* exec, const Callbacks& callbacks) const;

 private:
  const pluq_quantizer* api_;
  void* job_;
  std::string format_;
};

// A registered format; lives as long as the process.
class FormatHandle {
 public:
  FormatHandle(pluq_format format, std::string plugin_path);

  const std::string& id() const { return id_; }
  const std::string& aliases() const { return aliases_; }
  const std::string& summary() const { return summary_; }
  const std::vector<OptionInfo>& options() const { return options_; }
  const std::string& plugin_path() const { return plugin_path_; }

  struct Probe {
    int32_t score = 0;
    std::string reason;
  };
  Probe probe(std::string_view container, const boost::json::value& quantization,
              std::span<const pluq_tensor> tensors) const;
  // quantization may be null; options are checked against the schema first.
  FormatConfig create_config(std::string_view container, const boost::json::value& quantization,
                             const boost::json::value& options,
                             std::string_view architecture) const;

  // Options from "key=value" texts (where = "--set") or an object (YAML), typed and checked;
  // unknown keys name the accepted ones. Error(kUsage).
  boost::json::value check_options(const boost::json::value& options, std::string_view where) const;
  boost::json::value parse_options(std::span<const std::string> settings,
                                   std::string_view where) const;

  bool can_quantize() const { return quantizer_ != nullptr; }
  std::vector<std::string> algorithms() const;  // the default first
  std::unique_ptr<QuantizeJob> begin_quantize(std::string_view algorithm,
                                              const boost::json::value& options,
                                              pluq_dtype model_dtype,
                                              std::span<const QuantizeTarget> layers) const;
  // The JSON of the output checkpoint's quantization_config.
  boost::json::value quantization_config(std::string_view algorithm,
                                         const boost::json::value& options, pluq_dtype model_dtype,
                                         std::span<const QuantizeTarget> quantized,
                                         std::span<const std::string> plain) const;

 private:
  pluq_format format_{};
  const pluq_quantizer* quantizer_ = nullptr;
  std::string id_, aliases_, summary_, plugin_path_;
  std::vector<OptionInfo> options_;
};

}  // namespace pluq
