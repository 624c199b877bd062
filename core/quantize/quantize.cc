// SPDX-License-Identifier: Apache-2.0
#include "quantize/quantize.h"

#include <sys/resource.h>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "checkpoint/hf.h"
#include "checkpoint/writer.h"
#include "config/model_config.h"
#include "device/device.h"
#include "device/exec.h"
#include "model/plan.h"
#include "plugin/call_args.h"
#include "plugin/host_table.h"

namespace pluq {
namespace {

namespace json = boost::json;

// Files that a quantized model takes over unchanged.
constexpr const char* kCopied[] = {
    "generation_config.json",  "tokenizer.json",    "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "tokenizer.model",         "vocab.json",        "merges.txt"};

struct Target {
  QuantizeTarget layer;
  const TensorView* weight = nullptr;
  std::vector<WeightSpecInfo> specs;  // empty: it stays plain
  std::string skipped;                // why
  bool quantized() const { return !specs.empty(); }
};

// Layers that are solved together: they read one input and engines fuse them, so that a format may
// give them scales in common (the global scale of nvfp4).
struct Group {
  std::vector<size_t> targets;  // indices, those of one group lie side by side
  std::unique_ptr<QuantizeJob> job;
};

class Quantization {
 public:
  Quantization(const PluginHost& host, ThreadPool& pool, const QuantizeOptions& options)
      : pool_(pool), options_(options), format_(host.at(options.format)) {}

  QuantizeReport run() {
    const auto start = std::chrono::steady_clock::now();
    check_format();
    checkpoint_ = Checkpoint::open(options_.input);
    if (checkpoint_->is_gguf()) {
      fail_input("{}: a GGUF file is quantized after pluq import {} -o DIR", options_.input,
                 options_.input);
    }
    config_ = read_config_json(options_.input);
    if (!find_quantization_config(options_.input, config_).json.is_null()) {
      fail_input("{}: is quantized already; give the dense model", options_.input);
    }
    find_targets();
    if (!options_.dry_run) write();
    QuantizeReport report;
    for (size_t i = 0; i < targets_.size(); ++i) {
      report.layers.push_back(
          {targets_[i].layer.name, errors_.empty() ? 0 : errors_[i], targets_[i].skipped});
    }
    report.input_bytes = checkpoint_->total_bytes();
    report.output_bytes = output_bytes_;
    report.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    struct rusage usage {};
    ::getrusage(RUSAGE_SELF, &usage);
    report.peak_bytes = static_cast<uint64_t>(usage.ru_maxrss) << 10;
    return report;
  }

 private:
  void check_format() {
    if (!format_.can_quantize()) fail_usage("format '{}' cannot quantize", format_.id());
    const std::vector<std::string> algorithms = format_.algorithms();
    algorithm_ = options_.algorithm.empty() ? algorithms.at(0) : options_.algorithm;
    if (std::find(algorithms.begin(), algorithms.end(), algorithm_) == algorithms.end()) {
      fail_usage("format '{}' has no algorithm '{}'; accepted are {}", format_.id(),
                 printable(algorithm_), fmt::join(algorithms, ", "));
    }
    settings_ = format_.parse_options(options_.settings, "--set");
  }

  // The linears of the architecture; embedding, routers and head stay as they are, as all common
  // exports leave them.
  void find_targets() {
    const ModelConfig model = parse_model_config(config_, options_.input + "/config.json");
    for (const std::vector<LayerRequest>& group : make_plan(model, *checkpoint_).groups()) {
      const size_t first = targets_.size();
      for (const LayerRequest& request : group) add_target(request);
      begin_group(first);
    }
    const bool any = std::any_of(targets_.begin(), targets_.end(),
                                 [](const Target& t) { return t.quantized(); });
    if (!any)
      fail_input("{}: no layer can be quantized: {}", options_.input,
                 targets_.empty() ? "there is none" : targets_[0].skipped);
    for (const Target& t : targets_) {
      for (const WeightSpecInfo& s : t.specs)
        output_bytes_ += tensor_bytes(s.dtype, s.shape, s.suffix);
    }
    for (const TensorView& v : checkpoint_->tensors()) {
      if (find(v.name) == nullptr) output_bytes_ += v.data.size();
    }
  }

  void add_target(const LayerRequest& request) {
    if (request.kind == "embedding") return;
    if (request.kind == "lm_head" || request.kind == "router") {
      plain_.push_back(request.kind == "lm_head" ? "lm_head" : request.name);
      return;
    }
    Target t;
    t.layer = {request.name, request.kind, request.in_features, request.out_features};
    t.weight = &checkpoint_->at(request.name + ".weight");
    if (!is_plain_float(t.weight->dtype.id) ||
        t.weight->shape != std::vector<int64_t>{request.out_features, request.in_features}) {
      fail_input("{}: tensor '{}' is {} {}, expected F32, F16 or BF16 [{}, {}]", options_.input,
                 t.weight->name, dtype_name(t.weight->dtype.id), shape_text(t.weight->shape),
                 request.out_features, request.in_features);
    }
    targets_.push_back(std::move(t));
  }

  // Targets [first, end) as one group; when the format cannot take them all in one type, each for
  // itself.
  void begin_group(size_t first) {
    const size_t end = targets_.size();
    if (first == end) return;
    const uint32_t dtype = targets_[first].weight->dtype.id;
    const bool alike =
        std::all_of(targets_.begin() + static_cast<std::ptrdiff_t>(first), targets_.end(),
                    [&](const Target& t) { return t.weight->dtype.id == dtype; });
    if (alike && begin_job(first, end, end - first == 1)) return;
    for (size_t i = first; i < end && end - first > 1; ++i) begin_job(i, i + 1, true);
  }

  // False: a shape is not for the format. The targets then stay plain when this is the last try.
  bool begin_job(size_t first, size_t end, bool last) {
    Group group;
    std::vector<QuantizeTarget> layers;
    for (size_t i = first; i < end; ++i) {
      layers.push_back(targets_[i].layer);
      group.targets.push_back(i);
    }
    std::vector<std::vector<WeightSpecInfo>> specs;
    try {
      group.job =
          format_.begin_quantize(algorithm_, settings_, targets_[first].weight->dtype, layers);
      for (size_t i = 0; i < layers.size(); ++i) specs.push_back(group.job->output_specs(i));
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::kInput) throw;
      for (size_t i = first; last && i < end; ++i) {
        targets_[i].skipped = e.what();
        plain_.push_back(targets_[i].layer.name);
      }
      return false;
    }
    for (size_t i = first; i < end; ++i) targets_[i].specs = std::move(specs[i - first]);
    groups_.push_back(std::move(group));
    return true;
  }

  // The target whose weight this tensor is, when it is replaced.
  const Target* find(const std::string& tensor) const {
    for (const Target& t : targets_) {
      if (t.quantized() && t.weight->name == tensor) return &t;
    }
    return nullptr;
  }

  void write() {
    ModelWriter writer(options_.output, options_.input);
    for (const TensorView& v : checkpoint_->tensors()) {
      const Target* t = find(v.name);
      if (t == nullptr) {
        writer.declare(v.name, v.dtype, v.shape);
        continue;
      }
      for (const WeightSpecInfo& s : t->specs)
        writer.declare(t->layer.name + "." + s.suffix, s.dtype, s.shape);
    }
    writer.open();
    const auto count = std::count_if(targets_.begin(), targets_.end(),
                                     [](const Target& t) { return t.quantized(); });
    Progress progress("quantizing", count, options_.quiet);
    errors_.assign(targets_.size(), 0);
    for (const Group& group : groups_) {
      if (options_.cancel != nullptr && options_.cancel->load())
        throw Error(ErrorKind::kInterrupted, "interrupted; nothing was written");
      solve(group, writer);
      for (const size_t i : group.targets) progress.step(targets_[i].layer.name);
    }
    for (const TensorView& v : checkpoint_->tensors()) {
      if (find(v.name) == nullptr)
        writer.write(v.name, 0, v.shape.empty() ? 1 : v.shape[0], v.data);
    }
    write_files(writer);
    writer.finish();
  }

  // Rows [begin, end) of a target's original weight as f32.
  static void rows_of(const Target& t, int64_t begin, int64_t end, float* out, int64_t ld) {
    const auto row_bytes = static_cast<size_t>(t.layer.in_features) * t.weight->dtype.block_bytes;
    for (int64_t n = begin; n < end; ++n) {
      to_f32(t.weight->dtype.id,
             t.weight->data.subspan(static_cast<size_t>(n) * row_bytes, row_bytes),
             out + (n - begin) * ld);
    }
  }

  // Quantizes the layers of a group and notes how far their weights are from the original. The
  // emitted tensors are kept to be decoded again: the error is that of what was really written.
  void solve(const Group& group, ModelWriter& writer) {
    std::vector<std::vector<std::vector<std::byte>>> kept;  // by layer and tensor
    for (const size_t i : group.targets) {
      kept.emplace_back();
      for (const WeightSpecInfo& s : targets_[i].specs)
        kept.back().emplace_back(tensor_bytes(s.dtype, s.shape, s.suffix));
    }
    const auto target = [&](size_t layer) -> const Target& {
      if (layer >= group.targets.size()) {
        fail_plugin("format '{}': asks for layer {} of a group of {}", format_.id(), layer,
                    group.targets.size());
      }
      return targets_[group.targets[layer]];
    };
    QuantizeJob::Callbacks callbacks;
    callbacks.rows = [&](size_t layer, int64_t begin, int64_t end, float* out, int64_t ld) {
      rows_of(target(layer), begin, end, out, ld);
    };
    callbacks.emit = [&](size_t layer, std::string_view suffix, int64_t begin, int64_t end,
                         std::span<const std::byte> data) {
      const Target& t = target(layer);
      writer.write(t.layer.name + "." + std::string(suffix), begin, end, data);
      for (size_t i = 0; i < t.specs.size(); ++i) {
        if (t.specs[i].suffix != suffix) continue;
        const int64_t count = t.specs[i].shape.empty() ? 1 : t.specs[i].shape[0];
        std::vector<std::byte>& to = kept[layer][i];
        std::copy(data.begin(), data.end(),
                  to.begin() + static_cast<int64_t>(to.size()) / count * begin);
      }
    };
    const HostExec exec(pool_, -1, {}, &host_table());
    group.job->solve(exec.get(), callbacks);
    for (size_t i = 0; i < group.targets.size(); ++i) {
      errors_[group.targets[i]] = error_of(target(i), kept[i]);
    }
  }

  double error_of(const Target& t, const std::vector<std::vector<std::byte>>& kept) {
    std::vector<pluq_tensor> tensors;
    for (size_t i = 0; i < t.specs.size(); ++i) {
      pluq_tensor x{};
      x.struct_size = sizeof x;
      x.rank = static_cast<uint32_t>(t.specs[i].shape.size());
      x.name = str_of(t.specs[i].suffix);
      x.dtype = t.specs[i].dtype;
      x.device_kind = PLUQ_DEVICE_CPU;
      std::copy(t.specs[i].shape.begin(), t.specs[i].shape.end(), x.shape);
      x.data = kept[i].data();
      x.data_bytes = kept[i].size();
      tensors.push_back(x);
    }
    const json::value quantization =
        format_.quantization_config(algorithm_, settings_, t.weight->dtype, {&t.layer, 1}, {});
    const FormatConfig config = format_.create_config("safetensors", quantization, nullptr, "");
    pluq_layer_desc desc =
        whole_layer(t.layer.name, t.layer.kind, t.layer.in_features, t.layer.out_features, tensors);
    desc.max_tokens = 1;
    const MethodChoice choice = config.get_quant_method(desc, describe_cpu(pool_.size()));
    if (choice.verdict != PLUQ_VERDICT_USE) {
      fail_plugin("format '{}' does not take layer {} that it has just quantized: {}", format_.id(),
                  t.layer.name, choice.reason);
    }
    std::vector<double> wrong(static_cast<size_t>(pool_.size())), whole(wrong.size());
    const HostExec exec(pool_, 0, {}, &host_table());
    pool_.run([&](int worker, int workers) {
      const int64_t k = t.layer.in_features;
      constexpr int64_t kRows = 32;
      std::vector<float> a(static_cast<size_t>(kRows * k)), b(a.size());
      double w = 0, all = 0;
      for (int64_t n = worker * kRows; n < t.layer.out_features; n += workers * kRows) {
        const int64_t end = std::min(n + kRows, t.layer.out_features);
        rows_of(t, n, end, a.data(), k);
        choice.method.dequantize(exec.get(), tensors, n, end, b.data(), k);
        for (size_t i = 0; i < static_cast<size_t>((end - n) * k); ++i) {
          const double x = a[i], d = x - b[i];
          w += d * d;
          all += x * x;
        }
      }
      wrong[static_cast<size_t>(worker)] = w;
      whole[static_cast<size_t>(worker)] = all;
    });
    double w = 0, all = 0;
    for (size_t i = 0; i < wrong.size(); ++i) {
      w += wrong[i];
      all += whole[i];
    }
    return all > 0 ? std::sqrt(w / all) : 0;
  }

  void write_files(ModelWriter& writer) {
    std::error_code ec;
    for (const char* name : kCopied) {
      const std::string path = options_.input + "/" + name;
      if (std::filesystem::exists(path, ec))
        writer.add_file(name, read_file(path, size_t{256} << 20));
    }
    std::vector<QuantizeTarget> quantized;
    for (const Target& t : targets_) {
      if (t.quantized()) quantized.push_back(t.layer);
    }
    const json::value quantization = format_.quantization_config(
        algorithm_, settings_, targets_[0].weight->dtype, quantized, plain_);
    json::value config = config_;
    if (!quantization.is_null()) config.get_object()["quantization_config"] = quantization;
    writer.add_file("config.json", json::serialize(config) + "\n");
  }

  ThreadPool& pool_;
  const QuantizeOptions& options_;
  const FormatHandle& format_;
  std::string algorithm_;
  json::value settings_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  json::value config_;
  std::vector<Target> targets_;
  std::vector<Group> groups_;
  std::vector<std::string> plain_;
  std::vector<double> errors_;
  uint64_t output_bytes_ = 0;
};

}  // namespace

QuantizeReport quantize_model(const PluginHost& host, ThreadPool& pool,
                              const QuantizeOptions& options) {
  return Quantization(host, pool, options).run();
}

}  // namespace pluq
