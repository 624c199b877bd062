// SPDX-License-Identifier: Apache-2.0
// pluq bench MODEL: tokens per second of prefill and decode, beside the memory bandwidth of the
// same run.
#include <boost/json/object.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "base/error.h"
#include "cli/common.h"
#include "cli/interrupt.h"
#include "cli/model_flags.h"
#include "device/probes.h"

namespace pluq::cli {
namespace {

struct Flags {
  std::string model;
  int64_t prefill = 512, decode = 64, repeat = 3;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

struct Timed {
  std::vector<double> prefill, decode, bandwidth;  // seconds, seconds, GB/s per round
};

Timed measure(const Flags& f, const OpenModel& open) {
  Timed t;
  const int64_t vocab = open.loaded.model->config().vocab_size;
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < f.prefill; ++i)
    ids.push_back(static_cast<int32_t>((i * 7919 + 17) % vocab));
  const Buffer memory = bandwidth_memory();
  Session session = open.session();
  if (f.prefill + f.decode > session.context()) {
    fail_usage("--prefill {} and --decode {} do not fit the context of {}; use a larger --context",
               f.prefill, f.decode, session.context());
  }
  const auto seconds = [](auto start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  for (int64_t r = 0; r < f.repeat; ++r) {
    stop_if_interrupted();
    t.bandwidth.push_back(measure_bandwidth(*open.pool, best_isa(allowed_features()), memory));
    session.clear();
    auto start = std::chrono::steady_clock::now();
    session.prefill(ids);
    t.prefill.push_back(seconds(start));
    start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < f.decode; ++i) {
      session.extend({&ids[static_cast<size_t>(i % f.prefill)], 1}).best();
    }
    t.decode.push_back(seconds(start));
  }
  return t;
}

void bench(const Flags& f, const CommonFlags& common) {
  const OpenModel open = open_model(common, f.model, /*need_tokenizer=*/false);
  const Timed t = measure(f, open);
  // Every decoded token reads all weights but the embedding table, of which it reads one row, and
  // the KV cache.
  uint64_t bytes = 0;
  for (const LayerReport& l : open.loaded.model->layers()) {
    if (l.kind != "embedding") bytes += l.bytes;
  }
  const double prefill = median(t.prefill), decode = median(t.decode),
               bandwidth = median(t.bandwidth);
  const double used = f.decode > 0 && decode > 0 ? static_cast<double>(bytes) *
                                                       static_cast<double>(f.decode) / decode / 1e9
                                                 : 0;
  if (common.json) {
    const auto phase = [](int64_t tokens, double s) {
      return boost::json::object{
          {"tokens", tokens},
          {"seconds", s},
          {"tokens_per_second", s > 0 ? static_cast<double>(tokens) / s : 0}};
    };
    print_json(boost::json::object{{"prefill", phase(f.prefill, prefill)},
                                   {"decode", phase(f.decode, decode)},
                                   {"bytes_per_token", bytes},
                                   {"bandwidth_gb_per_s", bandwidth},
                                   {"share_of_bandwidth", bandwidth > 0 ? used / bandwidth : 0}});
    return;
  }
  fmt::print(
      "prefill {} tokens: {:.1f} tokens/s\ndecode {} tokens: {:.1f} tokens/s, {:.1f} MB per token, "
      "{:.1f} GB/s, "
      "{:.0f} % of the {:.1f} GB/s that reading memory gives\n",
      f.prefill, static_cast<double>(f.prefill) / prefill, f.decode,
      decode > 0 ? static_cast<double>(f.decode) / decode : 0, static_cast<double>(bytes) / 1e6,
      used, bandwidth > 0 ? 100 * used / bandwidth : 0, bandwidth);
}

}  // namespace

Verb add_bench(CLI::App& app, CommonFlags& common) {
  CLI::App* verb = app.add_subcommand("bench", "Measure prefill and decode of a model");
  verb->footer("Example: pluq bench ./model --prefill 512 --decode 64 --json");
  static Flags f;
  verb->add_option("MODEL", f.model, "Model directory (or `model` of --config)");
  verb->add_option("--prefill", f.prefill, "Tokens of the prompt (default 512)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  verb->add_option("--decode", f.decode, "Tokens to decode (default 64)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24));
  verb->add_option("--repeat", f.repeat, "Rounds; medians are printed (default 3)")
      ->check(CLI::Range(int64_t{1}, int64_t{1000}));
  add_common_flags(*verb, common);
  return {verb, [&common] { bench(f, common); }};
}

}  // namespace pluq::cli
