// SPDX-License-Identifier: Apache-2.0
// pluq bench-linear: one layer of a format with random weights, beside the bandwidth and peak
// probes of the same run.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <chrono>
#include <random>

#include "base/error.h"
#include "cli/common.h"
#include "cli/interrupt.h"
#include "cli/model_flags.h"
#include "cli/random_layer.h"
#include "device/probes.h"
#include "device/runtime.h"

namespace pluq::cli {
namespace {

struct Flags {
  std::string format;
  int64_t n = 14336, k = 4096, group = 0, repeat = 5;
  std::vector<int64_t> m{1, 4, 16, 512};
  std::vector<std::string> settings;
};

constexpr uint64_t kRotate = uint64_t{256} << 20;  // distinct weight bytes that are cycled through

struct Row {
  int64_t m = 0;
  double seconds = 0, gops = 0, gb_per_s = 0, bandwidth = 0, peak = 0;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

cpu::ProbePeak peak_kind(const MethodDescription& info) {
  if (info.arithmetic == PLUQ_ARITHMETIC_INT8 || info.arithmetic == PLUQ_ARITHMETIC_CHECKPOINT) {
    if (info.scheme.rfind("int4", 0) == 0) return cpu::ProbePeak::kInt4;
    if (info.scheme.rfind("int", 0) == 0) return cpu::ProbePeak::kInt8;
  }
  return cpu::ProbePeak::kF32;
}

// Probes and rounds of the layer in turn, for each M.
std::vector<Row> measure(const Flags& f, RandomLayer& layer, ThreadPool& pool) {
  const int64_t max_m = *std::max_element(f.m.begin(), f.m.end());
  std::vector<float> x(static_cast<size_t>(max_m * f.k)), y(static_cast<size_t>(max_m * f.n));
  std::minstd_rand random(7);
  for (float& v : x) v = static_cast<float>(random() & 0xffff) / 32768.0F - 1.0F;
  const Buffer memory = bandwidth_memory();
  const Isa isa = best_isa(allowed_features());
  const cpu::ProbePeak kind = peak_kind(layer.info());

  std::vector<Row> rows;
  for (const int64_t m : f.m) {
    std::vector<double> seconds, bandwidth, peak;
    for (int64_t r = 0; r < f.repeat; ++r) {
      stop_if_interrupted();
      bandwidth.push_back(measure_bandwidth(pool, isa, memory));
      peak.push_back(measure_peak(pool, isa, kind, 0.05));
      // A round is long enough to be timed, and uses every copy in turn.
      const int64_t calls = m < 16 ? static_cast<int64_t>(layer.copies()) : 1;
      const auto start = std::chrono::steady_clock::now();
      for (int64_t c = 0; c < calls; ++c) layer.apply(x.data(), m, y.data());
      const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
      seconds.push_back(elapsed.count() / static_cast<double>(calls));
    }
    Row row{m, median(seconds), 0, 0, median(bandwidth), median(peak)};
    row.gops = 2.0 * static_cast<double>(m) * static_cast<double>(f.n) * static_cast<double>(f.k) /
               row.seconds / 1e9;
    row.gb_per_s = static_cast<double>(layer.bytes()) / row.seconds / 1e9;
    rows.push_back(row);
  }
  return rows;
}

double median_of(const std::vector<Row>& rows, double Row::*member) {
  std::vector<double> values;
  for (const Row& r : rows) values.push_back(r.*member);
  return median(values);
}

void print_rows_json(const Flags& f, const RandomLayer& layer, int threads,
                     const std::vector<Row>& rows) {
  boost::json::array out;
  for (const Row& r : rows) {
    out.push_back(boost::json::object{{"m", r.m},
                                      {"seconds", r.seconds},
                                      {"gops", r.gops},
                                      {"gb_per_s", r.gb_per_s},
                                      {"share_of_bandwidth", r.gb_per_s / r.bandwidth},
                                      {"share_of_peak", r.gops / r.peak},
                                      {"kernel", layer.info().kernel}});
  }
  print_json(boost::json::object{{"format", f.format},
                                 {"scheme", layer.info().scheme},
                                 {"n", f.n},
                                 {"k", f.k},
                                 {"threads", threads},
                                 {"bytes", layer.bytes()},
                                 {"bandwidth_gb_per_s", median_of(rows, &Row::bandwidth)},
                                 {"peak_gops", median_of(rows, &Row::peak)},
                                 {"rows", std::move(out)}});
}

void print_rows(const Flags& f, const RandomLayer& layer, int threads,
                const std::vector<Row>& rows) {
  fmt::print("{} {} by {}, N={} K={}, {} threads, {} copies of {:.1f} MB\n", f.format,
             layer.info().scheme, layer.info().kernel, f.n, f.k, threads, layer.copies(),
             static_cast<double>(layer.bytes()) / 1e6);
  fmt::print("{:>6} {:>12} {:>9} {:>9} {:>13} {:>9}\n", "M", "us", "GB/s", "GOPS", "of bandwidth",
             "of peak");
  for (const Row& r : rows) {
    fmt::print("{:>6} {:>12.1f} {:>9.1f} {:>9.1f} {:>12.0f}% {:>8.0f}%\n", r.m, r.seconds * 1e6,
               r.gb_per_s, r.gops, 100 * r.gb_per_s / r.bandwidth, 100 * r.gops / r.peak);
  }
  fmt::print("probes of the same run: {:.1f} GB/s, {:.1f} GOPS\n", median_of(rows, &Row::bandwidth),
             median_of(rows, &Row::peak));
}

void bench_linear(const Flags& f, const CommonFlags& common) {
  const RunConfig config = merge_config(common, "");
  if (parse_device(config.device).kind != PLUQ_DEVICE_CPU) {
    fail_usage("bench-linear measures the CPU, not --device {}; pluq bench runs a model there",
               printable(config.device));
  }
  const auto plugins = open_plugins(config);
  const auto pool = make_pool(config);
  RandomLayerOptions options;
  options.n = f.n;
  options.k = f.k;
  options.settings = f.settings;
  if (f.group != 0) options.settings.push_back(fmt::format("group_size={}", f.group));
  options.compute = config.compute == "exact" ? PLUQ_COMPUTE_EXACT : PLUQ_COMPUTE_FAST;
  options.activations =
      config.activations == "float" ? PLUQ_ACTIVATIONS_FLOAT : PLUQ_ACTIVATIONS_CHECKPOINT;
  options.max_m = *std::max_element(f.m.begin(), f.m.end());
  options.rotate_bytes = kRotate;
  RandomLayer layer(plugins->at(f.format), options, *pool);
  const std::vector<Row> rows = measure(f, layer, *pool);
  if (common.json) {
    print_rows_json(f, layer, pool->size(), rows);
  } else {
    print_rows(f, layer, pool->size(), rows);
  }
}

}  // namespace

Verb add_bench_linear(CLI::App& app, CommonFlags& common) {
  CLI::App* verb = app.add_subcommand("bench-linear",
                                      "Measure one linear layer of a format with random weights");
  verb->footer(
      "Example: pluq bench-linear --format gptq --n 14336 --k 4096 --m 1,4,16,512 --group 128");
  static Flags f;
  verb->add_option("--format", f.format, "Format id")->required()->type_name("F");
  verb->add_option("--n", f.n, "Out features (default 14336)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  verb->add_option("--k", f.k, "In features (default 4096)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  verb->add_option("--m", f.m, "Tokens, as 1,4,16,512")
      ->delimiter(',')
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  verb->add_option("--group", f.group, "Group size, for formats that have one")->type_name("G");
  verb->add_option("--set", f.settings, "Option of the format, key=value (repeatable)")
      ->type_name("K=V")
      ->allow_extra_args(false);
  verb->add_option("--repeat", f.repeat, "Rounds; medians are printed (default 5)")
      ->check(CLI::Range(int64_t{1}, int64_t{1000}));
  add_common_flags(*verb, common);
  return {verb, [&common] { bench_linear(f, common); }};
}

}  // namespace pluq::cli
