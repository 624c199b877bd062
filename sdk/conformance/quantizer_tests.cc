// SPDX-License-Identifier: Apache-2.0
// Group "quantizer": what a format's quantizer writes, and what it does when the host cannot go on.
#include <cmath>

#include "checkpoint/dtype.h"
#include "conformance/cases.h"
#include "conformance/explain.h"
#include "device/exec.h"

namespace pluq::conformance {
namespace {

// What the quantizer wrote means what it was given, as far as its bits go: dequantize is the truth
// of all other tests, so its own mistakes show nowhere else.
std::string round_trip(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  int n = 0;
  double least = 1;
  for (const Case& c : all_cases(plugin, pool, s.seed, true)) {
    if (c.original.empty()) continue;
    const Instance in(c, best_setting(1));
    const std::vector<float> w = in.dequantize();
    double ww = 0, oo = 0, wo = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      const auto a = static_cast<double>(w[i]), b = static_cast<double>(c.original[i]);
      ww += a * a;
      oo += b * b;
      wo += a * b;
    }
    // Two bits still keep 0.9 of the spread in place. A factor is not the rounding's.
    const double alike = ww == 0 ? 0 : wo / std::sqrt(ww * oo), factor = ww == 0 ? 0 : wo / oo;
    if (!(alike >= 0.8 && factor >= 0.75 && factor <= 1.3)) {
      fail_test("{}: dequantize of what its own quantizer wrote does not give back the weights.{}",
                c.label, compare_weights(w, c.original, c.n, c.k, 0.3, "dequantize gives"));
    }
    least = std::min(least, alike);
    ++n;
  }
  if (n == 0) throw Skip("no quantizer");
  return fmt::format("{} layers come back, the coarsest with a correlation of {:.3f}", n, least);
}

// A host whose n-th callback of a solve fails.
struct FailingHost {
  int64_t calls = 0, fail_at = -1;

  static pluq_status* call(const pluq_quantize_context* c) {
    auto& host = *static_cast<FailingHost*>(c->user);
    if (host.calls++ != host.fail_at) return nullptr;
    return host_table().status_new(&host_table(), PLUQ_STATUS_INTERNAL, "refused by the test", 19);
  }
  static pluq_status* rows(const pluq_quantize_context* c, size_t, int64_t begin, int64_t end,
                           float* out, int64_t ld) {
    if (pluq_status* status = call(c)) return status;
    for (int64_t r = begin; r < end; ++r) std::fill_n(out + (r - begin) * ld, ld, 0.25F);
    return nullptr;
  }
  static pluq_status* emit(const pluq_quantize_context* c, size_t, pluq_str, int64_t, int64_t,
                           const void*, uint64_t) {
    return call(c);
  }
};

// One solve of a layer [64, 256]; the text of its error, or empty.
std::string solve(const pluq_quantizer& api, void* format, const std::string& algorithm,
                  FailingHost* host) {
  const pluq_quantize_layer layer{sizeof layer, 0, str_of("layer"), str_of("linear"), 256, 64};
  pluq_quantize_request request{};
  request.struct_size = sizeof request;
  request.algorithm = str_of(algorithm);
  request.model_dtype = dtype_by_id(PLUQ_DTYPE_BF16);
  request.layers = &layer;
  request.layer_stride = sizeof layer;
  request.layer_count = 1;
  uint32_t statistics = 0;
  void* job = nullptr;
  if (pluq_status* status = api.begin(format, &request, &statistics, &job))
    throw Skip("begin of its quantizer: " + take_text(status));
  ThreadPool pool(1);
  const HostExec exec(pool, -1, {}, &host_table());
  pluq_quantize_context context{};
  context.struct_size = sizeof context;
  context.host = &host_table();
  context.exec = exec.get();
  context.user = host;
  context.rows = &FailingHost::rows;
  context.emit = &FailingHost::emit;
  context.hessian = [](const pluq_quantize_context* c, float*, int64_t) {
    return FailingHost::call(c);
  };
  context.input_stats = [](const pluq_quantize_context* c, float*, float*) {
    return FailingHost::call(c);
  };
  std::string text;
  if (pluq_status* status = api.solve(job, &context)) {
    text = take_text(status);
    if (text.empty()) text = "(no text)";
  }
  api.end(job);
  return text;
}

// Every callback of a solve fails in turn: the status is handed on, each time.
std::string failing_callbacks(const Subject& s) {
  const Ready plugin = ready(s);
  int64_t failures = 0;
  for (size_t i = 0; i < plugin.raw.size(); ++i) {
    const FormatHandle& f = *plugin.formats[i];
    if (!f.can_quantize()) continue;
    const pluq_format& raw = plugin.raw[i];
    const auto& api =
        *static_cast<const pluq_quantizer*>(raw.api->get_extension(raw.self, PLUQ_QUANTIZER));
    const std::string algorithm = f.algorithms().at(0);
    FailingHost fine;
    step("quantizing with callbacks that work");
    const std::string error = solve(api, raw.self, algorithm, &fine);
    expect(error.empty(), "solve fails: {}", error);
    // The first ones and the last: a layer may take hundreds of calls.
    for (int64_t n = 0; n < fine.calls; n += n < 8 || n + 9 > fine.calls ? 1 : fine.calls - 16) {
      FailingHost host;
      host.fail_at = n;
      step("quantizing while call {} of rows or emit fails", n);
      const std::string text = solve(api, raw.self, algorithm, &host);
      expect(!text.empty(),
             "solve succeeds although call {} of its {} calls of rows and emit failed", n,
             fine.calls);
      ++failures;
    }
  }
  if (failures == 0) throw Skip("no quantizer");
  return fmt::format("{} failures of rows and emit are handed on", failures);
}

}  // namespace

std::vector<Test> quantizer_tests() {
  return {{"quantizer", "round_trip", round_trip},
          {"quantizer", "failing_callbacks", failing_callbacks}};
}

}  // namespace pluq::conformance
