// SPDX-License-Identifier: Apache-2.0
// pluq bench-linear: one layer of a format with random weights, beside the bandwidth and peak probes of the same run.
// Several copies of the weights are used in turn, so that no cache helps.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>

#include "base/error.h"
#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "cli/common.h"
#include "cli/interrupt.h"
#include "cli/model_flags.h"
#include "device/device.h"
#include "device/exec.h"
#include "device/probes.h"
#include "plugin/host_table.h"

namespace pluq::cli {
namespace {

struct Flags {
  std::string format;
  int64_t n = 14336, k = 4096, group = 0, repeat = 5;
  std::vector<int64_t> m{1, 4, 16, 512};
  std::vector<std::string> settings;
};

constexpr uint64_t kRotate = uint64_t{256} << 20;  // distinct weight bytes that are cycled through

// The layer as the format's own quantizer writes it: random rows, round to nearest.
struct Layer {
  std::vector<std::vector<std::byte>> data;
  std::vector<std::string> names;
  std::vector<pluq_tensor> tensors;
  uint64_t bytes = 0;
};

Layer make_layer(const QuantizeJob& job, ThreadPool& pool, int64_t n, int64_t k) {
  Layer out;
  const std::vector<WeightSpecInfo> specs = job.output_specs(0);
  for (const WeightSpecInfo& s : specs) {
    out.names.push_back(s.suffix);
    out.data.emplace_back(tensor_bytes(s.dtype, s.shape, s.suffix));
    out.bytes += out.data.back().size();
  }
  QuantizeJob::Callbacks callbacks;
  callbacks.rows = [&](size_t, int64_t begin, int64_t end, float* rows, int64_t ld) {
    for (int64_t r = begin; r < end; ++r) {
      std::minstd_rand random(static_cast<uint32_t>(r + 1));
      for (int64_t i = 0; i < k; ++i) rows[(r - begin) * ld + i] = (static_cast<float>(random() & 0xffff) / 32768.0F - 1.0F) * 0.05F;
    }
  };
  callbacks.emit = [&](size_t, std::string_view suffix, int64_t begin, int64_t, std::span<const std::byte> bytes) {
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].suffix != suffix) continue;
      const size_t rows = specs[i].shape.empty() ? 1 : static_cast<size_t>(specs[i].shape[0]);
      std::copy(bytes.begin(), bytes.end(), out.data[i].begin() + static_cast<int64_t>(out.data[i].size() / rows) * begin);
    }
  };
  const HostExec exec(pool, -1, {}, &host_table());
  job.solve(exec.get(), callbacks);
  for (size_t i = 0; i < specs.size(); ++i) {
    pluq_tensor t{};
    t.struct_size = sizeof t;
    t.rank = static_cast<uint32_t>(specs[i].shape.size());
    t.name = str_of(out.names[i]);
    t.dtype = specs[i].dtype;
    t.device_kind = PLUQ_DEVICE_CPU;
    std::copy(specs[i].shape.begin(), specs[i].shape.end(), t.shape);
    t.data = out.data[i].data();
    t.data_bytes = out.data[i].size();
    out.tensors.push_back(t);
  }
  (void)n;
  return out;
}

struct Copy {
  Method method;
  Buffer buffer;
};

struct Row {
  int64_t m = 0;
  double seconds = 0, gops = 0, gb_per_s = 0, bandwidth = 0, peak = 0;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

cpu::ProbePeak peak_kind(uint32_t arithmetic, const std::string& scheme) {
  if (arithmetic == PLUQ_ARITHMETIC_INT8 || arithmetic == PLUQ_ARITHMETIC_CHECKPOINT) {
    if (scheme.rfind("int4", 0) == 0) return cpu::ProbePeak::kInt4;
    if (scheme.rfind("int", 0) == 0) return cpu::ProbePeak::kInt8;
  }
  return cpu::ProbePeak::kF32;
}

void bench_linear(const Flags& f, const CommonFlags& common) {
  const RunConfig config = merge_config(common, "");
  const auto plugins = open_plugins(config);
  const auto pool = make_pool(config);
  const FormatHandle& format = plugins->at(f.format);
  if (!format.can_quantize()) fail_usage("format '{}' cannot quantize, so no random layer can be made", f.format);
  std::vector<std::string> settings = f.settings;
  if (f.group != 0) settings.push_back(fmt::format("group_size={}", f.group));
  const boost::json::value options = format.parse_options(settings, "--set");
  const QuantizeTarget target{"layer", "linear", f.k, f.n};
  const auto bf16 = dtype_by_id(PLUQ_DTYPE_BF16);
  const auto job = format.begin_quantize("rtn", options, bf16, {&target, 1});
  const Layer layer = make_layer(*job, *pool, f.n, f.k);

  const int64_t max_m = *std::max_element(f.m.begin(), f.m.end());
  const FormatConfig format_config =
      format.create_config("safetensors", format.quantization_config("rtn", options, bf16, {&target, 1}, {}), nullptr, "");
  pluq_layer_desc desc{};
  desc.struct_size = sizeof desc;
  desc.compute = config.compute == "exact" ? PLUQ_COMPUTE_EXACT : PLUQ_COMPUTE_FAST;
  desc.activations = config.activations == "float" ? PLUQ_ACTIVATIONS_FLOAT : PLUQ_ACTIVATIONS_CHECKPOINT;
  desc.name = str_of("layer");
  desc.kind = str_of("linear");
  desc.module_class = str_of("Linear");
  desc.in_features = desc.in_end = f.k;
  desc.out_features = desc.out_end = f.n;
  desc.activation_dtype = dtype_by_id(PLUQ_DTYPE_F32);
  desc.max_tokens = max_m;
  desc.max_workspace_bytes = uint64_t{1} << 30;
  desc.tensors_known = 1;
  desc.tensors = layer.tensors.data();
  desc.tensor_stride = sizeof(pluq_tensor);
  desc.tensor_count = layer.tensors.size();
  const pluq_device device = describe_cpu(pool->size());

  std::vector<Copy> copies;
  MethodDescription info;
  uint64_t packed = 0;
  do {
    MethodChoice choice = format_config.get_quant_method(desc, device);
    if (choice.verdict != PLUQ_VERDICT_USE) fail_plugin("format '{}' does not take its own layer: {}", f.format, choice.reason);
    Copy copy{std::move(choice.method), {}};
    const Method::Plan plan = copy.method.process_plan(layer.tensors);
    copy.buffer = Buffer(plan.buffer_bytes, "the weights");
    const Buffer scratch(plan.scratch_bytes, "repacking");
    const HostExec exec(*pool, -1, {scratch.data(), scratch.size()}, &host_table());
    copy.method.process(exec.get(), layer.tensors, copy.buffer.data());
    info = copy.method.describe();
    packed += std::max<uint64_t>(plan.buffer_bytes, plan.keep_tensors ? layer.bytes : 0);
    copies.push_back(std::move(copy));
    if (plan.keep_tensors) break;  // its tensors are shared, another copy would be the same memory
  } while (packed < kRotate && copies.size() < 64);
  const uint64_t bytes = packed / copies.size();

  std::vector<float> x(static_cast<size_t>(max_m * f.k)), y(static_cast<size_t>(max_m * f.n));
  std::minstd_rand random(7);
  for (float& v : x) v = static_cast<float>(random() & 0xffff) / 32768.0F - 1.0F;
  const Buffer workspace(copies[0].method.workspace(max_m, pool->size()), "the workspace");
  const Buffer memory = bandwidth_memory();
  const Isa isa = best_isa(allowed_features());
  const cpu::ProbePeak kind = peak_kind(info.arithmetic, info.scheme);

  std::vector<Row> rows;
  std::vector<double> bandwidths, peaks;
  size_t next = 0;
  for (const int64_t m : f.m) {
    std::vector<double> seconds, bandwidth, peak;
    for (int64_t r = 0; r < f.repeat; ++r) {
      stop_if_interrupted();
      bandwidth.push_back(measure_bandwidth(*pool, isa, memory));
      peak.push_back(measure_peak(*pool, isa, kind, 0.05));
      // A round is long enough to be timed, and uses every copy in turn.
      const int64_t calls = m < 16 ? static_cast<int64_t>(copies.size()) : 1;
      const auto start = std::chrono::steady_clock::now();
      for (int64_t c = 0; c < calls; ++c) {
        const HostExec exec(*pool, -1, {workspace.data(), workspace.size()}, &host_table());
        pluq_activation in{};
        in.struct_size = sizeof in;
        in.device_kind = PLUQ_DEVICE_CPU;
        in.data = x.data();
        in.dtype = desc.activation_dtype;
        in.m = m;
        in.k = in.ld = f.k;
        pluq_output out{};
        out.struct_size = sizeof out;
        out.device_kind = PLUQ_DEVICE_CPU;
        out.data = y.data();
        out.dtype = desc.activation_dtype;
        out.m = m;
        out.n = out.ld = f.n;
        copies[next++ % copies.size()].method.apply(exec.get(), in, nullptr, out);
      }
      seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / static_cast<double>(calls));
    }
    Row row{m, median(seconds), 0, 0, median(bandwidth), median(peak)};
    row.gops = 2.0 * static_cast<double>(m) * static_cast<double>(f.n) * static_cast<double>(f.k) / row.seconds / 1e9;
    row.gb_per_s = static_cast<double>(bytes) / row.seconds / 1e9;
    bandwidths.push_back(row.bandwidth);
    peaks.push_back(row.peak);
    rows.push_back(row);
  }

  if (common.json) {
    boost::json::array out;
    for (const Row& r : rows) {
      out.push_back(boost::json::object{{"m", r.m}, {"seconds", r.seconds}, {"gops", r.gops}, {"gb_per_s", r.gb_per_s},
                                        {"share_of_bandwidth", r.gb_per_s / r.bandwidth}, {"share_of_peak", r.gops / r.peak},
                                        {"kernel", info.kernel}});
    }
    print_json(boost::json::object{{"format", f.format}, {"scheme", info.scheme}, {"n", f.n}, {"k", f.k}, {"threads", pool->size()},
                                   {"bytes", bytes}, {"bandwidth_gb_per_s", median(bandwidths)}, {"peak_gops", median(peaks)},
                                   {"rows", std::move(out)}});
    return;
  }
  fmt::print("{} {} by {}, N={} K={}, {} threads, {} copies of {:.1f} MB\n", f.format, info.scheme, info.kernel, f.n, f.k, pool->size(),
             copies.size(), static_cast<double>(bytes) / 1e6);
  fmt::print("{:>6} {:>12} {:>9} {:>9} {:>13} {:>9}\n", "M", "us", "GB/s", "GOPS", "of bandwidth", "of peak");
  for (const Row& r : rows) {
    fmt::print("{:>6} {:>12.1f} {:>9.1f} {:>9.1f} {:>12.0f}% {:>8.0f}%\n", r.m, r.seconds * 1e6, r.gb_per_s, r.gops,
               100 * r.gb_per_s / r.bandwidth, 100 * r.gops / r.peak);
  }
  fmt::print("probes of the same run: {:.1f} GB/s, {:.1f} GOPS\n", median(bandwidths), median(peaks));
}

}  // namespace

Verb add_bench_linear(CLI::App& app, CommonFlags& common) {
  CLI::App* verb = app.add_subcommand("bench-linear", "Measure one linear layer of a format with random weights");
  verb->footer("Example: pluq bench-linear --format gptq --n 14336 --k 4096 --m 1,4,16,512 --group 128");
  static Flags f;
  verb->add_option("--format", f.format, "Format id")->required()->type_name("F");
  verb->add_option("--n", f.n, "Out features (default 14336)")->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  verb->add_option("--k", f.k, "In features (default 4096)")->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  verb->add_option("--m", f.m, "Tokens, as 1,4,16,512")->delimiter(',')->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  verb->add_option("--group", f.group, "Group size, for formats that have one")->type_name("G");
  verb->add_option("--set", f.settings, "Option of the format, key=value (repeatable)")->type_name("K=V")->allow_extra_args(false);
  verb->add_option("--repeat", f.repeat, "Rounds; medians are printed (default 5)")->check(CLI::Range(int64_t{1}, int64_t{1000}));
  add_common_flags(*verb, common);
  return {verb, [&common] { bench_linear(f, common); }};
}

}  // namespace pluq::cli
