// SPDX-License-Identifier: Apache-2.0
#include "model/loader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "base/progress.h"
#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "device/device.h"
#include "device/exec.h"
#include "device/isa.h"
#include "model/cpu/ops.h"
#include "model/load_quantize.h"
#include "model/scratch.h"
#include "plugin/host_table.h"

namespace pluq {
namespace {

constexpr int64_t kDefaultContext = 4096;

// What load, inspect and layer have in common: the checkpoint's description of itself.
struct Opened {
  std::shared_ptr<const Checkpoint> checkpoint;
  boost::json::value config_json;
  ModelConfig config;
  QuantizationSource quantization;
};

Opened open_checkpoint(const LoadOptions& options) {
  Opened out;
  out.checkpoint = Checkpoint::open(options.path);
  if (out.checkpoint->is_gguf()) {
    fail_input("{}: a GGUF file is not run directly yet; turn it into a model directory first: pluq import {} -o DIR",
               options.path, options.path);
  }
  out.config_json = read_config_json(options.path);
  out.config = parse_model_config(out.config_json, options.path + "/config.json");
  out.quantization = find_quantization_config(options.path, out.config_json);
  return out;
}

std::shared_ptr<LayerResolver> make_resolver(const PluginHost& host, const Opened& opened, const LoadOptions& options,
                                             int workers, bool headers_only) {
  ResolverOptions r;
  r.quantization = opened.quantization.json;
  r.quantization_source = opened.quantization.source;
  r.architecture = opened.config.architecture;
  r.formats = options.formats;
  r.rules = options.rules;
  r.device = describe_cpu(workers);
  r.compute = options.compute;
  r.activations = options.activations;
  r.max_tokens = options.max_batch_tokens;
  r.headers_only = headers_only;
  return std::make_shared<LayerResolver>(host, opened.checkpoint, std::move(r));
}

// A vector of F32, F16 or BF16 as f32. Throws Error(kInput) on another dtype or length.
std::vector<float> read_vector(const Checkpoint& checkpoint, const std::string& name, int64_t size) {
  const TensorView& t = checkpoint.at(name);
  if (!is_plain_float(t.dtype.id) || t.shape != std::vector<int64_t>{size}) {
    fail_input("{}: tensor '{}' is {} {}, expected F32, F16 or BF16 [{}]", checkpoint.path(), name,
               dtype_name(t.dtype.id), shape_text(t.shape), size);
  }
  return to_f32(t.dtype.id, t.data);
}

std::vector<float> read_bias(LayerResolver& resolver, const Checkpoint& checkpoint, const LayerRequest& request) {
  if (!request.has_bias) return {};
  resolver.mark_used(request.name + ".bias");
  return read_vector(checkpoint, request.name + ".bias", request.out_features);
}

LayerRequest linear(const Checkpoint& checkpoint, std::string name, int64_t in, int64_t out) {
  LayerRequest r;
  // Some exporters write a zero bias the config does not name; the file is the truth.
  r.has_bias = checkpoint.find(name + ".bias") != nullptr;
  r.name = std::move(name);
  r.in_features = in;
  r.out_features = out;
  return r;
}

std::string layer_prefix(int64_t i) { return fmt::format("model.layers.{}.", i); }

// Tensors nobody asked for. Rotary tables that old exporters saved are recomputed, and a head saved beside tied
// embeddings repeats them.
std::vector<std::string> unused(const Checkpoint& checkpoint, const LayerResolver& resolver, const ModelConfig& config) {
  std::vector<std::string> out;
  for (const TensorView& t : checkpoint.tensors()) {
    if (resolver.used().contains(t.name)) continue;
    if (t.name.ends_with("rotary_emb.inv_freq")) continue;
    if (config.tie_word_embeddings && t.name == "lm_head.weight") continue;
    out.push_back(t.name);
  }
  return out;
}

}  // namespace

std::vector<LayerRequest> model_layers(const ModelConfig& c, const Checkpoint& checkpoint) {
  std::vector<LayerRequest> out;
  LayerRequest embedding;
  embedding.name = "model.embed_tokens";
  embedding.kind = "embedding";
  embedding.module_class = "Embedding";
  embedding.in_features = c.hidden_size;
  embedding.out_features = c.vocab_size;
  out.push_back(embedding);
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const std::string p = layer_prefix(i);
    out.push_back(linear(checkpoint, p + "self_attn.q_proj", c.hidden_size, q));
    out.push_back(linear(checkpoint, p + "self_attn.k_proj", c.hidden_size, kv));
    out.push_back(linear(checkpoint, p + "self_attn.v_proj", c.hidden_size, kv));
    out.push_back(linear(checkpoint, p + "self_attn.o_proj", q, c.hidden_size));
    out.push_back(linear(checkpoint, p + "mlp.gate_proj", c.hidden_size, c.intermediate_size));
    out.push_back(linear(checkpoint, p + "mlp.up_proj", c.hidden_size, c.intermediate_size));
    out.push_back(linear(checkpoint, p + "mlp.down_proj", c.intermediate_size, c.hidden_size));
  }
  LayerRequest head = linear(checkpoint, "lm_head", c.hidden_size, c.vocab_size);
  head.kind = "lm_head";
  // Tied embeddings serve as the head, also when a copy was saved under its own name.
  if (c.tie_word_embeddings) {
    head.name = embedding.name;
    head.alias = "lm_head";
    head.has_bias = false;
  }
  out.push_back(head);
  return out;
}

class ModelLoader {
 public:
  ModelLoader(const PluginHost& host, std::shared_ptr<ThreadPool> pool, const LoadOptions& options)
      : host_(host), pool_(std::move(pool)), options_(options) {}

  LoadedModel run() {
    Opened opened = open_checkpoint(options_);
    LoadedModel out;
    out.checkpoint = opened.checkpoint;
    out.warnings = opened.quantization.warnings;
    out.generation = parse_generation_config(read_optional_json(options_.path, "generation_config.json"), opened.config,
                                             options_.path + "/generation_config.json");
    // Repacked weights take about what the file takes; the file itself stays mapped and can be dropped by the kernel.
    require_memory(opened.checkpoint->total_bytes(), fmt::format("{}: loading the model", options_.path));
    std::shared_ptr<Model> model(new Model());
    model->config_ = opened.config;
    model->pool_ = pool_;
    model->ops_ = &cpu_ops(best_isa(allowed_features()));
    model->max_tokens_ = options_.max_batch_tokens;
    model->max_context_ = options_.context > 0 ? options_.context
                                               : std::min(opened.config.max_position_embeddings, kDefaultContext);
    model->attention_scale_ = 1.0F / std::sqrt(static_cast<float>(opened.config.head_dim));
    model->resolver_ = make_resolver(host_, opened, options_, pool_->size(), false);
    load_layers(*model, *opened.checkpoint);
    load_norms(*model, *opened.checkpoint);
    make_rope(*model);
    make_scratch(*model);
    out.tensors_unused = unused(*opened.checkpoint, *model->resolver_, opened.config);
    out.model = std::move(model);
    return out;
  }

 private:
  Linear load_one(Model& model, const Checkpoint& checkpoint, const LayerRequest& request) {
    ResolvedLayer resolved = model.resolver_->resolve(request);
    if (resolved.quantize_with != nullptr) {
      resolved = quantize_while_loading(*model.resolver_, request, std::move(resolved), *pool_, &owned_);
    }
    Linear out = Linear::load(request, std::move(resolved), read_bias(*model.resolver_, checkpoint, request), *pool_);
    model.reports_.push_back(out.report());
    return out;
  }

  void load_layers(Model& model, const Checkpoint& checkpoint) {
    const std::vector<LayerRequest> requests = model_layers(model.config_, checkpoint);
    Progress progress("loading", static_cast<int64_t>(requests.size()), options_.quiet);
    size_t at = 0;
    const auto next = [&] {
      Linear out = load_one(model, checkpoint, requests[at]);
      progress.step(requests[at++].name);
      return out;
    };
    model.embedding_ = next();
    model.layers_.resize(static_cast<size_t>(model.config_.num_hidden_layers));
    for (Model::Layer& layer : model.layers_) {
      for (Linear* part : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) *part = next();
    }
    model.lm_head_ = next();
    model.owned_ = std::move(owned_);
  }

  void load_norms(Model& model, const Checkpoint& checkpoint) {
    const int64_t hidden = model.config_.hidden_size;
    const auto norm = [&](const std::string& name) {
      model.resolver_->mark_used(name);
      return read_vector(checkpoint, name, hidden);
    };
    for (size_t i = 0; i < model.layers_.size(); ++i) {
      const std::string p = layer_prefix(static_cast<int64_t>(i));
      model.layers_[i].input_norm = norm(p + "input_layernorm.weight");
      model.layers_[i].post_norm = norm(p + "post_attention_layernorm.weight");
    }
    model.final_norm_ = norm("model.norm.weight");
  }

  // cos and sin of position * frequency, computed as transformers does: the product in f32.
  static void make_rope(Model& model) {
    const ModelConfig& c = model.config_;
    const RopeFrequencies f = rope_frequencies(c.rope, c.head_dim, c.max_position_embeddings);
    const size_t half = f.inverse.size();
    model.rope_cos_.resize(static_cast<size_t>(model.max_context_) * half);
    model.rope_sin_.resize(model.rope_cos_.size());
    for (int64_t p = 0; p < model.max_context_; ++p) {
      for (size_t i = 0; i < half; ++i) {
        const double angle = static_cast<float>(p) * f.inverse[i];
        const size_t at = static_cast<size_t>(p) * half + i;
        model.rope_cos_[at] = static_cast<float>(std::cos(angle)) * f.attention_factor;
        model.rope_sin_[at] = static_cast<float>(std::sin(angle)) * f.attention_factor;
      }
    }
  }

  void make_scratch(Model& model) const {
    const ModelConfig& c = model.config_;
    auto s = std::make_unique<Model::Scratch>();
    const auto t = static_cast<size_t>(model.max_tokens_);
    const auto width = [](int64_t n) { return static_cast<size_t>(n); };
    s->x.resize(t * width(c.hidden_size));
    s->h.resize(t * width(c.hidden_size));
    s->q.resize(t * width(c.num_attention_heads * c.head_dim));
    s->a.resize(s->q.size());
    s->k.resize(t * width(c.num_key_value_heads * c.head_dim));
    s->v.resize(s->k.size());
    s->gate.resize(t * width(c.intermediate_size));
    s->up.resize(s->gate.size());
    const int64_t per_kv = c.num_attention_heads / c.num_key_value_heads;
    s->scores.assign(static_cast<size_t>(pool_->size()),
                     std::vector<float>(width(attention_scratch(model.max_context_, per_kv, c.head_dim))));
    uint64_t workspace = 0;
    const auto need = [&](const Linear& l) {
      workspace = std::max(workspace, l.workspace(model.max_tokens_, pool_->size()));
    };
    for (const Model::Layer& l : model.layers_) {
      for (const Linear* part : {&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down}) need(*part);
    }
    need(model.lm_head_);
    s->workspace = Buffer(workspace, "the workspace of the linear layers");
    model.scratch_ = std::move(s);
  }

  const PluginHost& host_;
  std::shared_ptr<ThreadPool> pool_;
  const LoadOptions& options_;
  std::vector<std::shared_ptr<OwnedTensors>> owned_;
};

LoadedModel load_model(const PluginHost& host, std::shared_ptr<ThreadPool> pool, const LoadOptions& options) {
  return ModelLoader(host, std::move(pool), options).run();
}

Inspection inspect_model(const PluginHost& host, const LoadOptions& options) {
  const Opened opened = open_checkpoint(options);
  const auto resolver = make_resolver(host, opened, options, usable_cpus(), true);
  Inspection out;
  out.config = opened.config;
  out.warnings = opened.quantization.warnings;
  out.bytes = opened.checkpoint->total_bytes();
  for (const LayerRequest& request : model_layers(opened.config, *opened.checkpoint)) {
    const ResolvedLayer resolved = resolver->resolve(request);
    if (request.has_bias) resolver->mark_used(request.name + ".bias");
    if (resolved.quantize_with != nullptr) {
      LayerReport r;
      r.name = request.name;
      r.kind = request.kind;
      r.format = resolved.quantize_with->id();
      r.reason = resolved.reason;
      r.decided_by = resolved.decided_by;
      r.in_features = request.in_features;
      r.out_features = request.out_features;
      r.provisional = true;
      for (const pluq_tensor& t : resolved.tensors) r.bytes += t.data_bytes;
      out.layers.push_back(r);
    } else {
      out.layers.push_back(make_report(request, resolved));
    }
    if (request.alias.empty()) out.parameters += request.in_features * request.out_features;
  }
  for (int64_t i = 0; i < opened.config.num_hidden_layers; ++i) {
    resolver->mark_used(layer_prefix(i) + "input_layernorm.weight");
    resolver->mark_used(layer_prefix(i) + "post_attention_layernorm.weight");
  }
  resolver->mark_used("model.norm.weight");
  out.parameters += opened.config.hidden_size * (2 * opened.config.num_hidden_layers + 1);
  out.tensors_unused = unused(*opened.checkpoint, *resolver, opened.config);
  return out;
}

SingleLayer load_layer(const PluginHost& host, ThreadPool& pool, const LoadOptions& options, const std::string& name) {
  const Opened opened = open_checkpoint(options);
  SingleLayer out;
  out.resolver = make_resolver(host, opened, options, pool.size(), false);
  std::string near;
  for (const LayerRequest& request : model_layers(opened.config, *opened.checkpoint)) {
    if (request.kind == "embedding") continue;
    if (request.name != name && request.alias != name) {
      const size_t dot = name.rfind('.');
      const std::string last = dot == std::string::npos ? name : name.substr(dot + 1);
      if (near.size() < 200 && request.name.find(last) != std::string::npos) near += (near.empty() ? "" : ", ") + request.name;
      continue;
    }
    ResolvedLayer resolved = out.resolver->resolve(request);
    if (resolved.quantize_with != nullptr) {
      resolved = quantize_while_loading(*out.resolver, request, std::move(resolved), pool, &out.owned);
    }
    out.linear = Linear::load(request, std::move(resolved), read_bias(*out.resolver, *opened.checkpoint, request), pool);
    return out;
  }
  fail_input("{}: no linear layer '{}'; {}", options.path, printable(name),
             near.empty() ? "pluq inspect lists the layers" : "similar names: " + near);
}

}  // namespace pluq
