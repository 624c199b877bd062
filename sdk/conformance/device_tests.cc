// SPDX-License-Identifier: Apache-2.0
// Group "device": formats with CUDA kernels on the emulated device, once per family of GPUs,
// through the engine's runtime: apply against dequantize in double, and what is not finite.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "checkpoint/dtype.h"
#include "conformance/cases.h"
#include "conformance/explain.h"
#include "conformance/on_device.h"
#include "conformance/reference.h"
#include "device/cuda/emulated_runtime.h"

namespace pluq::conformance {
namespace {

constexpr int64_t kMost = 65;
constexpr uint32_t kTypes[] = {PLUQ_DTYPE_F16, PLUQ_DTYPE_BF16};

// The Ms that a case is run with. The smallest layer with default options has them all; the others
// take turns, so that each meets one row, a few rows, a whole tile and more than a tile.
std::vector<int64_t> batches(bool all, uint32_t dtype) {
  if (all) return {0, 1, 2, 7, 8, 16, 17, 63, 64, 65};
  return dtype == PLUQ_DTYPE_F16 ? std::vector<int64_t>{1, 16, 65} : std::vector<int64_t>{2, 17};
}

struct Run {
  OnDevice& layer;
  bool all;  // every M, bias, gaps and the refusals; else a few Ms
  uint64_t seed;
};
using Check = void (*)(const Run&);

// Every case at both activation types. `variants`: every choice of every option.
std::string on_device(const Subject& s, uint32_t capability, bool variants, Check check) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  // The detectors of shared memory make it slower, so they watch the small layers only.
  const auto watched = std::make_shared<EmulatedRuntime>(capability, PLUQ_EMU_CHECK_ALL),
             plain = std::make_shared<EmulatedRuntime>(capability, PLUQ_EMU_CHECK_GLOBAL);
  std::vector<std::string> kernels;
  std::string refused;
  int runs = 0;
  const FormatHandle* seen = nullptr;
  for (const Case& c : all_cases(plugin, pool, s.seed, variants)) {
    const bool first = c.format != seen;
    seen = c.format;
    for (const uint32_t dtype : kTypes) {
      for (const bool head : {false, true}) {
        if (head && !first) continue;
        try {
          OnDevice layer(c, dtype, first ? watched : plain, head);
          check({layer, first && !head, s.seed});
          const std::string kernel(text_of(layer.instance().info().kernel));
          if (std::find(kernels.begin(), kernels.end(), kernel) == kernels.end())
            kernels.push_back(kernel);
          ++runs;
        } catch (const Skip& e) {
          refused = e.what();
        }
      }
    }
  }
  if (runs == 0) throw Skip("nothing to try on CUDA: " + refused);
  return fmt::format("{} layers on {} by {}", runs, plain->name(), fmt::join(kernels, ", "));
}

void workspace_one_short(const Run& r, const std::vector<float>& x) {
  for (const int64_t m : {1, 64}) {
    if (r.layer.instance().workspace(m, 1) == 0) continue;
    pluq_status* status = r.layer.refused(x, {.m = m, .workspace_missing = 1});
    expect(status != nullptr, "{}: accepts a workspace one byte smaller than workspace({}) = {}",
           r.layer.instance().text(), m, r.layer.instance().workspace(m, 1));
    const int32_t code = host_table().status_code(status);
    take_text(status);
    expect(code == PLUQ_STATUS_INVALID,
           "{}: refuses a small workspace with status {}, not INVALID ({})",
           r.layer.instance().text(), code, PLUQ_STATUS_INVALID);
  }
}

void against_dequantize(const Run& r) {
  const Instance& in = r.layer.instance();
  const int64_t n = in.n(), k = in.k();
  std::vector<double> rounded;
  const std::vector<float> x = make_short_inputs(in, r.layer.dtype(), kMost, r.seed, &rounded);
  const std::vector<float> w = in.dequantize();
  std::vector<float> bias(static_cast<size_t>(n));
  Random random(r.seed + 1);
  for (float& v : bias) v = static_cast<float>(random.real(-1, 1));
  const std::vector<double> want = reference(rounded, w, nullptr, kMost, n, k),
                            biased = reference(rounded, w, bias.data(), kMost, n, k);
  const double bound = in.info().error_bound + r.layer.output_error();
  for (const int64_t m : batches(r.all, r.layer.dtype())) {
    const bool with_bias = m % 2 == 1;
    const OnDevice::Call call{.m = m,
                              .gap = m == 7 || m == 17 || m == 65 ? 8 : 0,
                              .bias = with_bias ? bias.data() : nullptr};
    const std::vector<float> y = r.layer.apply(x, call);
    const double error = row_error(y.data(), n, with_bias ? biased : want, m, n);
    if (!(error <= bound)) {
      const Ask ask = [&](const std::vector<float>& values, int64_t rows, int64_t between,
                          const float* added) {
        return r.layer.apply(values, {.m = rows, .gap = between, .bias = added});
      };
      const std::string what = fmt::format(
          "{}: with M = {}{}{} the error is {:.3e}; the method promises {:.3e} before rounding y.",
          in.text(), m, with_bias ? ", bias" : "", call.gap > 0 ? ", gaps between rows" : "", error,
          in.info().error_bound);
      throw Failure(what + explain({in, x, want, call.bias, m, call.gap, y, bound}, ask));
    }
    if (r.all && m == 17)
      expect(y == r.layer.apply(x, call), "{}: the same call gives other bits the second time",
             in.text());
  }
  if (r.all) workspace_one_short(r, x);
}

template <uint32_t kCapability>
std::string emulated(const Subject& s) {
  return on_device(s, kCapability, true, against_dequantize);
}

// NUMBERS in abi.h on the device.
void spoil_rows(const Run& r) {
  const Instance& in = r.layer.instance();
  const int64_t n = in.n(), k = in.k();
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              inf = std::numeric_limits<float>::infinity();
  const pluq_activation_scheme& a = in.info().activation_scheme;
  const bool clamps = a.strategy != PLUQ_STRATEGY_NONE && a.dynamic == 0;
  for (const int64_t m : {3, 17}) {
    std::vector<double> rounded;
    const std::vector<float> x = make_short_inputs(in, r.layer.dtype(), m, r.seed, &rounded);
    const std::vector<float> good = r.layer.apply(x, {.m = m});
    for (const float bad : {nan, inf}) {
      std::vector<float> spoilt = x;
      spoilt[static_cast<size_t>(k + k / 2)] = bad;
      const std::vector<float> y = r.layer.apply(spoilt, {.m = m});
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          const float v = y[static_cast<size_t>(i * n + j)];
          const bool holds = i != 1            ? v == good[static_cast<size_t>(i * n + j)]
                             : std::isnan(bad) ? std::isnan(v)
                                               : clamps || !std::isfinite(v);
          expect(holds, "{}: with M = {}, {} in row 1 of x gives y[{}, {}] = {}; expected {}",
                 in.text(), m, bad, i, j, v,
                 i != 1            ? "the same value as without it"
                 : std::isnan(bad) ? "NaN"
                                   : "NaN or infinity");
        }
      }
    }
  }
}

template <uint32_t kCapability>
std::string emulated_nan(const Subject& s) {
  return on_device(s, kCapability, false, spoil_rows);
}

// Rounded activations from the host, without x itself.
void rounded_inputs(const Run& r) {
  const Instance& in = r.layer.instance();
  if ((in.info().flags & PLUQ_METHOD_TAKES_QUANTIZED) == 0)
    throw Skip("takes no rounded activations");
  std::vector<double> rounded;
  const std::vector<float> x = make_short_inputs(in, r.layer.dtype(), kMost, r.seed, &rounded);
  const std::vector<double> want =
      reference(rounded, in.dequantize(), nullptr, kMost, in.n(), in.k());
  for (const int64_t m : {1, 17, 65}) {
    const std::vector<float> y = r.layer.apply(x, {.m = m, .rounded = true});
    const double error = row_error(y.data(), in.n(), want, m, in.n());
    expect(error <= in.info().error_bound + r.layer.output_error(),
           "{}: with M = {} rounded activations from the host give an error of {:.3e}; the method "
           "promises {:.3e} before rounding y",
           in.text(), m, error, in.info().error_bound);
  }
}

// At 8.9, where fp8 codes have units.
std::string emulated_rounded(const Subject& s) { return on_device(s, 89, false, rounded_inputs); }

}  // namespace

std::vector<Test> device_tests() {
  return {{"device", "emulated_sm80", emulated<80>}, {"device", "emulated_sm89", emulated<89>},
          {"device", "emulated_sm90", emulated<90>}, {"device", "nan_sm80", emulated_nan<80>},
          {"device", "nan_sm90", emulated_nan<90>},  {"device", "rounded_sm89", emulated_rounded}};
}

}  // namespace pluq::conformance
