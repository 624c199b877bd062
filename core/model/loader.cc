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
#include "model/device_model.h"
#include "model/kernel_check.h"
#include "model/load_quantize.h"
#include "model/plan.h"
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
    out.config_json = out.checkpoint->gguf_config();
    out.config = parse_model_config(out.config_json, options.path);
    return out;
  }
  out.config_json = read_config_json(options.path);
  out.config = parse_model_config(out.config_json, options.path + "/config.json");
  out.quantization = find_quantization_config(options.path, out.config_json);
  return out;
}

// Activations on a device are of the model's 16-bit type; of f32 models bf16, which holds all their
// range.
uint32_t device_dtype(const ModelConfig& config) {
  return config.dtype == "float16" ? PLUQ_DTYPE_F16 : PLUQ_DTYPE_BF16;
}

std::shared_ptr<LayerResolver> make_resolver(const PluginHost& host, const Opened& opened,
                                             const LoadOptions& options, int workers,
                                             bool headers_only) {
  ResolverOptions r;
  r.quantization = opened.quantization.json;
  r.quantization_source = opened.quantization.source;
  r.architecture = std::string(opened.config.architecture());
  r.formats = options.formats;
  r.rules = options.rules;
  r.device = describe_cpu(workers);
  if (options.device != nullptr) {
    r.device = options.device->description();
    r.activation_dtype = device_dtype(opened.config);
  }
  r.compute = options.compute;
  r.activations = options.activations;
  r.max_tokens = batch_tokens(options);
  r.headers_only = headers_only;
  r.keep_answers = headers_only;
  return std::make_shared<LayerResolver>(host, opened.checkpoint, std::move(r));
}

// A vector of F32, F16 or BF16 as f32. Throws Error(kInput) on another dtype or length.
std::vector<float> read_vector(const Checkpoint& checkpoint, const std::string& name,
                               int64_t size) {
  const TensorView& t = checkpoint.at(name);
  if (!is_plain_float(t.dtype.id) || t.shape != std::vector<int64_t>{size}) {
    fail_input("{}: tensor '{}' is {} {}, expected F32, F16 or BF16 [{}]", checkpoint.path(), name,
               dtype_name(t.dtype.id), shape_text(t.shape), size);
  }
  return to_f32(t.dtype.id, t.data);
}

std::vector<float> read_bias(LayerResolver& resolver, const Checkpoint& checkpoint,
                             const LayerRequest& request) {
  if (!request.has_bias) return {};
  resolver.mark_used(request.name + ".bias");
  return read_vector(checkpoint, request.name + ".bias", request.out_features);
}

// Tensors nobody asked for.
std::vector<std::string> unused(const Checkpoint& checkpoint, const LayerResolver& resolver,
                                const ModelConfig& config) {
  std::vector<std::string> out;
  for (const TensorView& t : checkpoint.tensors()) {
    if (!resolver.used().contains(t.name) && !is_ignored(config, t.name)) out.push_back(t.name);
  }
  return out;
}

// One layer, quantized on the way where that was asked for. device: null for the CPU; dtype: of
// activations on it. owned: gets the tensors that were made.
Linear load_linear(LayerResolver& resolver, const Checkpoint& checkpoint,
                   const LayerRequest& request, ThreadPool& pool,
                   std::vector<std::shared_ptr<OwnedTensors>>* owned,
                   const std::shared_ptr<DeviceRuntime>& device, uint32_t dtype) {
  ResolvedLayer resolved = resolver.resolve(request);
  if (resolved.quantize_with != nullptr) {
    resolved = quantize_while_loading(resolver, request, std::move(resolved), pool, owned);
  }
  std::vector<float> bias = read_bias(resolver, checkpoint, request);
  return device == nullptr
             ? Linear::load(request, std::move(resolved), std::move(bias), pool)
             : Linear::load(request, std::move(resolved), std::move(bias), pool, device, dtype);
}

}  // namespace

int64_t batch_tokens(const LoadOptions& options) {
  // A GPU reads all weights once per pass, whatever the rows.
  constexpr int64_t kCpu = 256, kGpu = 2048;
  if (options.max_batch_tokens > 0) return options.max_batch_tokens;
  const bool gpu =
      options.device != nullptr && options.device->description().kind == PLUQ_DEVICE_CUDA;
  return gpu ? kGpu : kCpu;
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
    out.generation =
        parse_generation_config(read_optional_json(options_.path, "generation_config.json"),
                                opened.config, options_.path + "/generation_config.json");
    std::shared_ptr<Model> model(new Model());
    model->config_ = opened.config;
    model->pool_ = pool_;
    model->device_ = options_.device;
    if (options_.device != nullptr) model->device_dtype_ = device_dtype(opened.config);
    model->ops_ = &cpu_ops(best_isa(allowed_features()));
    model->max_tokens_ = batch_tokens(options_);
    model->max_context_ = options_.context > 0
                              ? options_.context
                              : std::min(opened.config.max_position_embeddings, kDefaultContext);
    switch (opened.config.activation) {
      case Activation::kSilu:
        model->activate_ = model->ops_->silu_mul;
        break;
      case Activation::kGeluTanh:
        model->activate_ = model->ops_->gelu_tanh_mul;
        break;
      case Activation::kGelu:
        model->activate_ = model->ops_->gelu_mul;
        break;
    }
    model->resolver_ = make_resolver(host_, opened, options_, pool_->size(), false);
    const ModelPlan plan = make_plan(opened.config, *opened.checkpoint);
    out.kv = read_kv_scheme(*model->resolver_, *opened.checkpoint, plan, opened.config);
    check_memory(*model, *opened.checkpoint, out.kv);
    load_layers(*model, *opened.checkpoint, plan);
    out.warnings.insert(out.warnings.end(), kernels_.warnings.begin(), kernels_.warnings.end());
    make_rotations(*model);
    if (model->device_ != nullptr) {
      model->on_device_ = std::make_unique<DeviceModel>(*model, workspace_);
      const auto& rounded = model->on_device_->rounded_inputs();
      for (LayerReport& r : model->reports_) {
        if (const auto found = rounded.find(r.name); found != rounded.end())
          r.reason += (r.reason.empty() ? "" : "; ") + ("x is rounded " + found->second);
      }
    } else {
      make_scratch(*model);
    }
    out.tensors_unused = unused(*opened.checkpoint, *model->resolver_, opened.config);
    out.model = std::move(model);
    return out;
  }

 private:
  Linear load_one(Model& model, const Checkpoint& checkpoint, const LayerRequest& request) {
    Linear out = load_checked(
        *model.resolver_, *pool_,
        [&] {
          return load_linear(*model.resolver_, checkpoint, request, *pool_, &owned_, model.device_,
                             model.device_dtype_);
        },
        &kernels_);
    model.reports_.push_back(out.report());
    return out;
  }

  // Repacked weights take about what the file takes; the file itself stays mapped and can be
  // dropped by the kernel. The KV cache is what will be chosen at least: kinds of rounding that ask
  // for f32 are known only after the layers.
  void check_memory(const Model& model, const Checkpoint& checkpoint, const KvScheme& kv) const {
    uint32_t dtype = options_.kv_dtype;
    if (dtype == 0 && options_.activations == PLUQ_ACTIVATIONS_CHECKPOINT && kv.in_force) {
      dtype = kv.dtype;
    } else if (dtype == 0) {
      dtype = options_.compute == PLUQ_COMPUTE_EXACT ? PLUQ_DTYPE_F32 : PLUQ_DTYPE_F16;
    }
    const auto element = static_cast<int64_t>(dtype_by_id(dtype).block_bytes);
    const int64_t token = kv_token_bytes(model.config_, element, element == 1 && !kv.has_scales());
    const int64_t cache = checked_mul(token, model.max_context_, "the KV cache");
    if (model.device_ != nullptr) {
      const uint64_t needed = checkpoint.total_bytes() + static_cast<uint64_t>(cache);
      const uint64_t free = model.device_->free_bytes();
      if (needed > free) {
        fail(ErrorKind::kFailed,
             "{}: the model with a KV cache of {} tokens needs about {} MiB on the device, {} has "
             "{} MiB free; a smaller --context needs less",
             options_.path, model.max_context_, needed >> 20, model.device_->name(), free >> 20);
      }
      return;
    }
    require_memory(checkpoint.total_bytes() + static_cast<uint64_t>(cache),
                   fmt::format("{}: loading the model, with a KV cache of {} tokens in {} MiB",
                               options_.path, model.max_context_, cache >> 20));
  }

  void load_layers(Model& model, const Checkpoint& checkpoint, const ModelPlan& plan) {
    Progress progress("loading", static_cast<int64_t>(plan.linears().size()), options_.quiet);
    const auto linear = [&](const LayerRequest& request) {
      Linear out = load_one(model, checkpoint, request);
      const int workers = model.device_ == nullptr ? pool_->size() : 1;
      workspace_ = std::max(workspace_, out.workspace(model.max_tokens_, workers));
      progress.step(request.name);
      return out;
    };
    const auto mlp = [&](const MlpPlan& p) {
      Model::Mlp out;
      out.gate = linear(p.gate);
      if (!p.fused()) out.up = linear(p.up);
      out.down = linear(p.down);
      out.fused = p.fused();
      out.width = p.down.in_features;
      return out;
    };
    model.embedding_ = linear(plan.embedding);
    for (const DecoderLayerPlan& p : plan.layers) {
      Model::Layer& layer = model.layers_.emplace_back();
      layer.q = linear(p.q);
      layer.fused_qkv = p.fused_qkv();
      if (!layer.fused_qkv) {
        layer.k = linear(p.k);
        layer.v = linear(p.v);
      }
      layer.o = linear(p.o);
      if (p.experts.empty()) {
        layer.mlp = mlp(p.mlp);
      } else {
        layer.router = linear(p.router);
        for (const MlpPlan& expert : p.experts) layer.experts.push_back(mlp(expert));
      }
      load_norms(model, checkpoint, p, &layer);
    }
    model.final_norm_ = norm(model, checkpoint, plan.final_norm);
    model.lm_head_ = linear(plan.head);
    model.owned_ = std::move(owned_);
  }

  std::vector<float> norm(Model& model, const Checkpoint& checkpoint, const NormPlan& plan) const {
    if (plan.size == 0) return {};
    model.resolver_->mark_used(plan.name);
    std::vector<float> weight = read_vector(checkpoint, plan.name, plan.size);
    if (model.config_.family->norm_plus_one) {
      for (float& w : weight) w += 1;
    }
    return weight;
  }

  void load_norms(Model& model, const Checkpoint& checkpoint, const DecoderLayerPlan& plan,
                  Model::Layer* layer) const {
    layer->attention_in = norm(model, checkpoint, plan.attention_in);
    layer->attention_out = norm(model, checkpoint, plan.attention_out);
    layer->mlp_in = norm(model, checkpoint, plan.mlp_in);
    layer->mlp_out = norm(model, checkpoint, plan.mlp_out);
    layer->q_norm = norm(model, checkpoint, plan.q_norm);
    layer->k_norm = norm(model, checkpoint, plan.k_norm);
  }

  // cos and sin of position * frequency, computed as transformers does: the product in f32.
  static void make_rotations(Model& model) {
    const ModelConfig& c = model.config_;
    for (const RopeConfig& rope : c.ropes) {
      const RopeFrequencies f = rope_frequencies(rope, rotary_dim(rope, c.head_dim),
                                                 c.max_position_embeddings, model.max_context_);
      Model::Rotation& r = model.rotations_.emplace_back();
      r.half = static_cast<int64_t>(f.inverse.size());
      for (int64_t p = 0; p < model.max_context_; ++p) {
        for (const float inverse : f.inverse) {
          const double angle = static_cast<float>(p) * inverse;
          r.cos.push_back(static_cast<float>(std::cos(angle)) * f.attention_factor);
          r.sin.push_back(static_cast<float>(std::sin(angle)) * f.attention_factor);
        }
      }
    }
  }

  void make_scratch(Model& model) const {
    const ModelConfig& c = model.config_;
    auto s = std::make_unique<Model::Scratch>();
    const auto rows = [&](int64_t width) { return static_cast<size_t>(model.max_tokens_ * width); };
    s->x.resize(rows(c.hidden_size));
    s->h.resize(rows(c.hidden_size));
    s->qkv.resize(rows((c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim));
    s->a.resize(rows(c.num_attention_heads * c.head_dim));
    s->gate_up.resize(rows(2 * std::max(c.intermediate_size, c.moe_intermediate_size)));
    if (c.num_experts > 0) {
      s->router.resize(rows(c.num_experts));
      s->chosen.resize(rows(c.experts_per_token));
      s->share.resize(rows(c.experts_per_token));
      s->order.resize(rows(c.experts_per_token));
      s->begin.resize(static_cast<size_t>(c.num_experts) + 1);
      s->expert_x.resize(rows(c.hidden_size));
      s->expert_y.resize(rows(c.hidden_size));
      s->moe.resize(rows(c.hidden_size));
    }
    const int64_t per_kv = c.num_attention_heads / c.num_key_value_heads;
    s->attention.assign(static_cast<size_t>(pool_->size()),
                        std::vector<float>(static_cast<size_t>(
                            attention_scratch(model.max_context_, per_kv, c.head_dim))));
    s->workspace = Buffer(workspace_, "the workspace of the linear layers");
    model.scratch_ = std::move(s);
  }

  const PluginHost& host_;
  std::shared_ptr<ThreadPool> pool_;
  const LoadOptions& options_;
  std::vector<std::shared_ptr<OwnedTensors>> owned_;
  KernelChecks kernels_;
  uint64_t workspace_ = 0;  // the largest of all layers
};

LoadedModel load_model(const PluginHost& host, std::shared_ptr<ThreadPool> pool,
                       const LoadOptions& options) {
  return ModelLoader(host, std::move(pool), options).run();
}

Inspection inspect_model(const PluginHost& host, const LoadOptions& options) {
  const Opened opened = open_checkpoint(options);
  const auto resolver = make_resolver(host, opened, options, usable_cpus(), true);
  Inspection out;
  out.config = opened.config;
  out.warnings = opened.quantization.warnings;
  out.bytes = opened.checkpoint->total_bytes();
  const ModelPlan plan = make_plan(opened.config, *opened.checkpoint);
  for (const LayerRequest& request : plan.linears()) {
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
    out.layers.back().answers = resolved.answers;
    if (request.alias.empty()) out.parameters += request.in_features * request.out_features;
  }
  out.kv = read_kv_scheme(*resolver, *opened.checkpoint, plan, opened.config);
  for (const NormPlan& norm : plan.norms()) {
    resolver->mark_used(norm.name);
    out.parameters += norm.size;
  }
  out.tensors_unused = unused(*opened.checkpoint, *resolver, opened.config);
  return out;
}

SingleLayer load_layer(const PluginHost& host, ThreadPool& pool, const LoadOptions& options,
                       const std::string& name) {
  const Opened opened = open_checkpoint(options);
  SingleLayer out;
  out.resolver = make_resolver(host, opened, options, pool.size(), false);
  std::string near;
  for (const LayerRequest& request : make_plan(opened.config, *opened.checkpoint).linears()) {
    if (request.kind == "embedding") continue;
    if (request.name != name && (request.alias.empty() || request.alias != name)) {
      const size_t dot = name.rfind('.');
      const std::string last = dot == std::string::npos ? name : name.substr(dot + 1);
      if (near.size() < 200 && !last.empty() && request.name.find(last) != std::string::npos)
        near += (near.empty() ? "" : ", ") + request.name;
      continue;
    }
    if (options.device != nullptr) out.device_dtype = device_dtype(opened.config);
    const auto load = [&] {
      return load_linear(*out.resolver, *opened.checkpoint, request, pool, &out.owned,
                         options.device, out.device_dtype);
    };
    KernelChecks kernels;
    out.linear = load_checked(*out.resolver, pool, load, &kernels);
    for (const std::string& warning : kernels.warnings) log_line(LogLevel::kWarning, warning);
    return out;
  }
  fail_input("{}: no linear layer '{}'; {}", options.path, printable(name),
             near.empty() ? "pluq inspect lists the layers" : "similar names: " + near);
}

}  // namespace pluq
