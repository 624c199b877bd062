// SPDX-License-Identifier: Apache-2.0
// Decides for each layer of a checkpoint which format serves it. The checkpoint's own claimants are
// asked layer by layer and the highest score wins; rules of the configuration go first. The tensors
// in the file are the truth.
#pragma once

#include <boost/json/value.hpp>

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "config/matcher.h"
#include "plugin/plugin_host.h"

namespace pluq {

// A named instance of a format from the configuration.
struct FormatInstance {
  std::string name, type;
  boost::json::value options;  // null: none
  std::string where;           // file:line:column, for messages
};

// First match wins.
struct LayerRule {
  LayerPattern pattern;
  std::string format;  // name of an instance, or a format id
  std::string where;
};

struct ResolverOptions {
  boost::json::value quantization;  // the checkpoint's, or null
  std::string quantization_source;  // "config.json: quantization_config"
  std::string architecture;
  std::vector<FormatInstance> formats;
  std::vector<LayerRule> rules;
  pluq_device device{};
  uint32_t activation_dtype = PLUQ_DTYPE_F32;
  uint32_t compute = PLUQ_COMPUTE_FAST;
  uint32_t activations = PLUQ_ACTIVATIONS_CHECKPOINT;
  int64_t max_tokens = 512;
  bool headers_only = false;  // give formats no tensor data (inspect)
  bool keep_answers = false;  // ask every format about every layer, for explain
};

// What one format says of one layer.
struct FormatAnswer {
  std::string format;  // id, or the instance's name in the configuration
  std::string answer;  // "serves it", "leaves it plain", "declines", "cannot serve it"
  int32_t score = 0;   // of "serves it"
  std::string reason;  // may be empty
};

struct LayerRequest {
  std::string name;   // checkpoint name, the prefix of its tensors
  std::string alias;  // another name that rules may use (lm_head of tied embeddings), or empty
  std::string kind = "linear";  // linear, lm_head, embedding, expert, router
  std::string module_class = "Linear";
  int64_t in_features = 0, out_features = 0;
  bool has_bias = false;
  std::vector<int64_t>
      output_parts;  // rows of each part of a tensor fused on disk (q, k, v), or empty
};

// How a layer is to be served.
struct ResolvedLayer {
  Method method;                      // empty when quantize_with is set
  std::vector<WeightSpecInfo> specs;  // of the method
  std::vector<pluq_tensor>
      tensors;  // bound and checked; views of the checkpoint, suffixes owned by `suffixes`
  std::vector<std::shared_ptr<std::string>> suffixes;
  std::string
      decided_by;      // "quantization_config of config.json" or "run.yaml:12:3: lm_head -> dense"
  std::string reason;  // further words, may be empty
  std::vector<FormatAnswer> answers;  // of every loaded format, with keep_answers
  // The format has no kernels for the device: `method` is one for the CPU, and the host may serve
  // the layer from what it dequantizes.
  bool by_host = false;
  // A rule asks for this format and the file holds plain floats: quantize while loading.
  const FormatHandle* quantize_with = nullptr;
  boost::json::value quantize_options;
};

class LayerResolver {
 public:
  // Probes all formats. The host must outlive the resolver, and the resolver the methods it gives.
  LayerResolver(const PluginHost& host, std::shared_ptr<const Checkpoint> checkpoint,
                ResolverOptions options);

  // Throws Error(kInput or kPlugin) naming layer, formats and tensors when nobody can serve the
  // layer.
  ResolvedLayer resolve(const LayerRequest& request);
  // Asks one format, with given tensors, for a layer that was quantized while loading.
  ResolvedLayer resolve_quantized(const LayerRequest& request, const FormatHandle& format,
                                  const boost::json::value& quantization,
                                  std::vector<pluq_tensor> tensors, const std::string& decided_by);

  // From now on this format is told of less: the next lower instruction set of the CPU, or nothing
  // of another device, so that the host serves its layers there. False when there is nothing less.
  bool tell_less(const std::string& format);

  // What the checkpoint's claimants say of the KV cache of an attention block, all its tensors
  // given. Equal answers count once; throws Error(kInput) naming two formats whose answers differ.
  // `format` is who said it, empty when nobody does.
  KvDescription kv_cache(const std::string& attention, int64_t kv_heads, int64_t head_dim,
                         std::string* format) const;

  // Names of checkpoint tensors that resolved layers use.
  const std::set<std::string>& used() const { return used_; }
  void mark_used(std::string_view tensor) { used_.emplace(tensor); }

 private:
  struct Claimant {
    const FormatHandle* format;
    FormatConfig config;
    int32_t score;
    std::string instance;  // name in the configuration, or empty
    std::string error;     // creating its config failed
  };
  Claimant& instance(const std::string& name, const std::string& where);
  std::vector<pluq_tensor> tensors_of(const LayerRequest& request, ResolvedLayer* out) const;
  pluq_layer_desc describe(const LayerRequest& request,
                           const std::vector<pluq_tensor>& tensors) const;
  // What a format answers for the device; when it declines there, what it would serve on the CPU.
  MethodChoice ask(const FormatConfig& config, const pluq_layer_desc& layer, bool* by_host) const;
  void bind(const LayerRequest& request, std::vector<pluq_tensor> found, ResolvedLayer* out);
  std::vector<FormatAnswer> ask_all(const pluq_layer_desc& desc) const;
  [[noreturn]] void nobody(const LayerRequest& request, const std::vector<pluq_tensor>& tensors,
                           const std::vector<std::string>& answers) const;

  const PluginHost& host_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  ResolverOptions options_;
  std::vector<Claimant> claimants_;
  std::vector<std::unique_ptr<Claimant>> instances_;
  std::map<std::string, uint64_t> features_;  // of formats that are told of less than the CPU has
  std::set<std::string> off_device_;          // formats whose kernels for the device are refused
  std::deque<FormatConfig> kept_;             // of layers quantized while loading
  std::vector<FormatAnswer> declined_;  // of every format that claims nothing in the checkpoint
  std::set<std::string> used_;
};

}  // namespace pluq
