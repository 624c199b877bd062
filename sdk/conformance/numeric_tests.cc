// SPDX-License-Identifier: Apache-2.0
// Group "numerics": apply against dequantize in double, at every instruction set, batch, stride and
// compute mode.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "conformance/cases.h"
#include "conformance/reference.h"
#include "device/exec.h"

namespace pluq::conformance {
namespace {

constexpr int64_t kBatches[] = {0, 1, 2, 7, 8, 16, 17, 63, 64, 65, 512};
constexpr float kUntouched = -12345.0F;

// x and y with gaps between rows, exactly as many bytes as the last row needs, between inaccessible
// pages.
struct Matrices {
  Matrices(const std::vector<float>& values, int64_t rows, int64_t k, int64_t columns, int64_t gap)
      : ldx(k + gap),
        ldy(columns + 2 * gap),
        x(static_cast<size_t>(rows == 0 ? 0 : (rows - 1) * ldx + k) * 4, 4),
        y(static_cast<size_t>(rows == 0 ? 0 : (rows - 1) * ldy + columns) * 4, 4),
        m(rows),
        n(columns) {
    std::fill_n(x.as<float>(), x.size() / 4, std::numeric_limits<float>::quiet_NaN());
    for (int64_t i = 0; i < m; ++i) std::copy_n(values.data() + i * k, k, x.as<float>() + i * ldx);
    x.read_only();
    std::fill_n(y.as<float>(), y.size() / 4, kUntouched);
  }
  // Gaps between the rows of y are as they were.
  bool gaps_untouched() const {
    for (int64_t i = 0; i + 1 < m; ++i) {
      const float* gap = y.as<float>() + i * ldy + n;
      if (std::any_of(gap, gap + ldy - n, [](float v) { return v != kUntouched; })) return false;
    }
    return true;
  }
  int64_t ldx, ldy;
  Guarded x, y;
  int64_t m, n;
};

void apply_once(const Instance& in, ThreadPool& pool, const Matrices& a, const float* bias) {
  const Guarded workspace(in.workspace(a.m, pool.size()), 64);
  std::memset(workspace.data(), 0xff, workspace.size());  // NaN patterns
  const HostExec exec(pool, -1, workspace.bytes(), &host_table());
  step("apply of {} with M = {}, gaps of {}, {} workers", in.text(), a.m, a.ldx - in.k(),
       pool.size());
  ok(in.apply(exec.get(), a.x.as<float>(), a.ldx, a.m, bias, a.y.as<float>(), a.ldy),
     in.text() + ": apply");
  expect(workspace.intact() && a.y.intact(), "{}: apply writes outside its output or workspace",
         in.text());
  expect(a.gaps_untouched(), "{}: apply with M = {} writes between the rows of y", in.text(), a.m);
}

// One method at all batches. Returns the largest error.
double check_batches(const Instance& in, ThreadPool& pool, uint64_t seed, bool all) {
  const int64_t most = all ? 512 : 17, n = in.n(), k = in.k();
  std::vector<double> rounded;
  const std::vector<float> x = make_inputs(in, most, seed, &rounded), w = in.dequantize();
  const Guarded bias(static_cast<size_t>(n) * 4, 4);
  Random random(seed + 1);
  for (int64_t j = 0; j < n; ++j) bias.as<float>()[j] = static_cast<float>(random.real(-1, 1));
  bias.read_only();
  const std::vector<double> want = reference(rounded, w, nullptr, most, n, k);
  const std::vector<double> biased =
      reference(rounded, w, bias.as<float>(), std::min<int64_t>(most, 17), n, k);
  double worst = 0;
  for (const int64_t m : kBatches) {
    if (m > most) break;
    const Matrices a(x, m, k, n, m == 7 || m == 17 || m == 65 ? 5 : 0);
    const bool with_bias = m > 0 && m <= 17 && m % 2 == 1;
    apply_once(in, pool, a, with_bias ? bias.as<float>() : nullptr);
    const double error = row_error(a.y.as<float>(), a.ldy, with_bias ? biased : want, m, n);
    expect(error <= in.info().error_bound + 1e-6,
           "{}: with M = {} the error is {:.3e}, the method promises {:.3e}", in.text(), m, error,
           in.info().error_bound);
    worst = std::max(worst, error);
  }
  return worst;
}

std::string against_dequantize(const Subject& s, bool variants) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  int runs = 0;
  double worst = 0;
  std::vector<std::string> kernels, skipped;
  const std::vector<Case> cases = all_cases(plugin, pool, s.seed, variants);
  for (const Case& c : cases) {
    for (const Setting& setting : all_settings(1)) {
      try {
        Instance in(c, setting);
        std::string why;
        if (!in.process(pool, &why)) fail_test("{}: refuses its own layer: {}", in.text(), why);
        worst = std::max(worst, check_batches(in, pool, s.seed, !variants));
        const std::string kernel(text_of(in.info().kernel));
        if (std::find(kernels.begin(), kernels.end(), kernel) == kernels.end())
          kernels.push_back(kernel);
        ++runs;
      } catch (const Skip& e) {
        skipped.push_back(e.what());
      }
    }
  }
  if (runs == 0) throw Skip(skipped.empty() ? "no layer" : skipped[0]);
  return fmt::format("{} methods by {}; largest error {:.1e}{}", runs, fmt::join(kernels, ", "),
                     worst, skipped.empty() ? "" : fmt::format("; {} refused", skipped.size()));
}

std::string every_batch(const Subject& s) { return against_dequantize(s, false); }
std::string every_option(const Subject& s) { return against_dequantize(s, true); }

// For one instruction set the bits of a row depend neither on the batch around it nor on the number
// of workers, and the same call twice gives the same bits.
std::string same_bits(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool one(1);
  const std::vector<Case> cases = all_cases(plugin, one, s.seed, false);
  int n = 0;
  for (const Case& c : cases) {
    for (const uint32_t compute : {PLUQ_COMPUTE_EXACT, PLUQ_COMPUTE_FAST}) {
      Setting setting = best_setting(1);
      setting.compute = compute;
      Instance in(c, setting);
      std::string why;
      if (!in.process(one, &why)) fail_test("{}: refuses its own layer: {}", in.text(), why);
      std::vector<double> rounded;
      const std::vector<float> x = make_inputs(in, 65, s.seed, &rounded);
      const Matrices whole(x, 65, in.k(), in.n(), 0);
      apply_once(in, one, whole, nullptr);
      const auto same = [&](ThreadPool& pool, int64_t first, int64_t m, const char* what) {
        const Matrices a({x.begin() + first * in.k(), x.begin() + (first + m) * in.k()}, m, in.k(),
                         in.n(), 0);
        apply_once(in, pool, a, nullptr);
        expect(std::memcmp(a.y.data(), whole.y.as<float>() + first * in.n(), a.y.size()) == 0,
               "{}: the bits of rows {} to {} depend on {}", in.text(), first, first + m, what);
      };
      same(one, 0, 65, "the run");
      for (const int64_t row : {0, 31, 64}) same(one, row, 1, "the batch");
      same(one, 7, 9, "the batch");
      for (const int workers : {2, 3, 4}) {
        ThreadPool pool(workers);
        same(pool, 0, 65, "the number of workers");
        same(pool, 3, 1, "the number of workers");
      }
      ++n;
    }
  }
  return fmt::format("{} methods", n);
}

// A row with NaN or infinity may come out as anything, but never touches another row and never
// crashes.
std::string nan_and_infinity(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  int n = 0;
  for (const Case& c : all_cases(plugin, pool, s.seed, false)) {
    for (const Setting& setting : all_settings(1)) {
      std::unique_ptr<Instance> in;
      try {
        in = std::make_unique<Instance>(c, setting);
      } catch (const Skip&) {
        continue;
      }
      std::string why;
      if (!in->process(pool, &why)) fail_test("{}: refuses its own layer: {}", in->text(), why);
      for (const int64_t m : {3, 18}) {
        std::vector<double> rounded;
        std::vector<float> x = make_inputs(*in, m, s.seed, &rounded);
        const Matrices good(x, m, in->k(), in->n(), 0);
        apply_once(*in, pool, good, nullptr);
        for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                                std::numeric_limits<float>::infinity(), -3e38F}) {
          std::vector<float> y = x;
          y[static_cast<size_t>(in->k() + in->k() / 2)] = bad;
          const Matrices spoilt(y, m, in->k(), in->n(), 0);
          apply_once(*in, pool, spoilt, nullptr);
          for (int64_t row = 0; row < m; ++row) {
            const float *a = good.y.as<float>() + row * in->n(),
                        *b = spoilt.y.as<float>() + row * in->n();
            if (row != 1)
              expect(std::memcmp(a, b, static_cast<size_t>(in->n()) * 4) == 0,
                     "{}: {} in row 1 changes row {}", in->text(), bad, row);
          }
          ++n;
        }
      }
    }
  }
  return fmt::format("{} rows with NaN, infinity or huge values kept to themselves", n);
}

// All workers enter apply together, as a decode step in one region does.
std::string inside_region(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool one(1), pool(3);
  int n = 0;
  for (const Case& c : all_cases(plugin, one, s.seed, false)) {
    Instance in(c, best_setting(3));
    std::string why;
    if (!in.process(pool, &why)) fail_test("{}: refuses its own layer: {}", in.text(), why);
    for (const int64_t m : {1, 9}) {
      std::vector<double> rounded;
      const std::vector<float> x = make_inputs(in, m, s.seed, &rounded);
      const Matrices outside(x, m, in.k(), in.n(), 0), inside(x, m, in.k(), in.n(), 0);
      apply_once(in, pool, outside, nullptr);
      const Guarded workspace(in.workspace(m, pool.size()), 64);
      std::string errors[3];
      step("apply of {} inside a region, M = {}", in.text(), m);
      pool.run([&](int worker, int) {
        const HostExec exec(pool, worker, workspace.bytes(), &host_table());
        errors[worker] = take_text(in.apply(exec.get(), inside.x.as<float>(), inside.ldx, m,
                                            nullptr, inside.y.as<float>(), inside.ldy));
      });
      for (const std::string& e : errors)
        expect(e.empty(), "{}: inside a region: {}", in.text(), e);
      expect(std::memcmp(outside.y.data(), inside.y.data(), inside.y.size()) == 0,
             "{}: inside a region M = {} comes out differently", in.text(), m);
      ++n;
    }
  }
  return fmt::format("{} calls", n);
}

}  // namespace

std::vector<Test> numeric_tests() {
  return {{"numerics", "every_batch", every_batch},
          {"numerics", "every_option", every_option},
          {"numerics", "same_bits", same_bits},
          {"numerics", "nan_and_infinity", nan_and_infinity},
          {"numerics", "inside_region", inside_region}};
}

}  // namespace pluq::conformance
