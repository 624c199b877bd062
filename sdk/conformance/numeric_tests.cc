// SPDX-License-Identifier: Apache-2.0
// Group "numerics": apply against dequantize in double, at every instruction set, batch, stride and
// compute mode.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "checkpoint/convert.h"
#include "conformance/cases.h"
#include "conformance/explain.h"
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
  // y without the gaps.
  std::vector<float> rows() const {
    std::vector<float> out(static_cast<size_t>(m * n));
    for (int64_t i = 0; i < m; ++i) std::copy_n(y.as<float>() + i * ldy, n, out.data() + i * n);
    return out;
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
  expect(a.gaps_untouched(),
         "{}: apply with M = {} writes between the rows of y: they are y->ld = {} elements apart, "
         "not N = {}",
         in.text(), a.m, a.ldy, a.n);
}

// Fails with what can be found out about a wrong y.
[[noreturn]] void fail_wrong(const Instance& in, ThreadPool& pool, const std::vector<float>& x,
                             const std::vector<double>& want, const Matrices& a, const float* bias,
                             double error) {
  const int64_t gap = a.ldx - in.k();
  const Ask ask = [&](const std::vector<float>& values, int64_t m, int64_t between,
                      const float* added) {
    const Matrices again(values, m, in.k(), in.n(), between);
    const Guarded workspace(in.workspace(m, pool.size()), 64);
    const HostExec exec(pool, -1, workspace.bytes(), &host_table());
    ok(in.apply(exec.get(), again.x.as<float>(), again.ldx, m, added, again.y.as<float>(),
                again.ldy),
       in.text());
    return again.rows();
  };
  const std::vector<float> y = a.rows();
  const double bound = in.info().error_bound + 1e-6;
  const std::string what =
      fmt::format("{}: with M = {}{}{} the error is {:.3e}, the method promises {:.3e}.", in.text(),
                  a.m, bias == nullptr ? "" : ", bias", gap == 0 ? "" : ", gaps between rows",
                  error, in.info().error_bound);
  throw Failure(what + explain({in, x, want, bias, a.m, gap, y, bound}, ask));
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
    if (!(error <= in.info().error_bound + 1e-6))
      fail_wrong(in, pool, x, want, a, with_bias ? bias.as<float>() : nullptr, error);
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

// The method over a layer, ready; null when it refuses the setting or, with a reason, the values.
std::unique_ptr<Instance> processed(const Case& c, const Setting& setting, ThreadPool& pool,
                                    bool may_refuse) {
  std::unique_ptr<Instance> in;
  try {
    in = std::make_unique<Instance>(c, setting);
  } catch (const Skip&) {
    return nullptr;
  }
  std::string why;
  if (in->process(pool, &why)) return in;
  expect(may_refuse, "{}: refuses its own layer: {}", in->text(), why);
  expect(!why.empty(), "{}: refuses weights that are not finite without a reason", in->text());
  return nullptr;
}

// Row 1 of y after `bad` came into row 1 of x: a NaN makes all of it NaN, an infinity leaves
// nothing finite.
void check_spoilt_row(const Instance& in, float bad, const float* y) {
  const pluq_activation_scheme& a = in.info().activation_scheme;
  const bool clamps = a.strategy != PLUQ_STRATEGY_NONE && a.dynamic == 0;
  if (std::isfinite(bad) || (std::isinf(bad) && clamps)) return;
  for (int64_t j = 0; j < in.n(); ++j) {
    const bool holds = std::isnan(bad) ? std::isnan(y[j]) : !std::isfinite(y[j]);
    expect(holds, "{}: {} in row 1 of x gives {} in row 1, column {} of y", in.text(), bad, y[j],
           j);
  }
}

// NUMBERS in abi.h: what is not finite in a row of x shows in all of that row of y, and in no
// other.
std::string nan_and_infinity(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  const float inf = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  int n = 0;
  for (const Case& c : all_cases(plugin, pool, s.seed, false)) {
    for (const Setting& setting : all_settings(1)) {
      const std::unique_ptr<Instance> in = processed(c, setting, pool, false);
      if (in == nullptr) continue;
      const int64_t k = in->k();
      const std::pair<float, int64_t> spoilers[] = {{nan, 0},     {nan, k / 2},  {-nan, k - 1},
                                                    {inf, k / 2}, {-inf, k - 1}, {-3e38F, k / 2}};
      for (const int64_t m : {3, 18}) {
        std::vector<double> rounded;
        const std::vector<float> x = make_inputs(*in, m, s.seed, &rounded);
        const Matrices good(x, m, k, in->n(), 0);
        apply_once(*in, pool, good, nullptr);
        for (const auto& [bad, column] : spoilers) {
          std::vector<float> spoilt_x = x;
          spoilt_x[static_cast<size_t>(k + column)] = bad;
          const Matrices spoilt(spoilt_x, m, k, in->n(), 0);
          apply_once(*in, pool, spoilt, nullptr);
          for (int64_t row = 0; row < m; ++row) {
            const float *a = good.y.as<float>() + row * in->n(),
                        *b = spoilt.y.as<float>() + row * in->n();
            if (row != 1)
              expect(std::memcmp(a, b, static_cast<size_t>(in->n()) * 4) == 0,
                     "{}: {} in row 1 changes row {}", in->text(), bad, row);
          }
          check_spoilt_row(*in, bad, spoilt.y.as<float>() + in->n());
          ++n;
        }
      }
    }
  }
  return fmt::format("{} rows with NaN, infinity or huge values kept to themselves", n);
}

// `bad` as bytes of a tensor of this type. Blocks of GGUF carry f16 scales at their ends: `place`
// says where. Bytes (which may be exponents) and 8-bit floats take their NaN. Nothing for others.
std::vector<std::byte> bad_bytes(const pluq_dtype& dtype, float bad) {
  const auto bytes = [](auto v) {
    std::vector<std::byte> b(sizeof v);
    std::memcpy(b.data(), &v, sizeof v);
    return b;
  };
  if (dtype.id >= PLUQ_DTYPE_GGML_BASE || dtype.id == PLUQ_DTYPE_F16) return bytes(f32_to_f16(bad));
  if (dtype.id == PLUQ_DTYPE_BF16) return bytes(f32_to_bf16(bad));
  if (dtype.id == PLUQ_DTYPE_F32) return bytes(bad);
  if (dtype.id == PLUQ_DTYPE_F8_E4M3) return bytes(uint8_t{0x7f});
  if (dtype.id == PLUQ_DTYPE_F8_E8M0 || dtype.id == PLUQ_DTYPE_U8) return bytes(uint8_t{0xff});
  return {};
}

// The layer with one element (of a block: its scale at `place` from the end, or its first) of
// tensor `index` replaced. False when its type has nothing like it.
bool spoil_weights(const Case& c, size_t index, float bad, size_t place, Case* out) {
  const pluq_tensor& t = c.tensors[index];
  const std::vector<std::byte> bits = bad_bytes(t.dtype, bad);
  if (bits.empty() || t.data_bytes < t.dtype.block_bytes) return false;
  out->format = c.format;
  out->raw = c.raw;
  out->label = fmt::format("{} with {} in '{}'", c.label, bad, text_of(t.name));
  out->quantization = c.quantization;
  out->n = c.n;
  out->k = c.k;
  out->tensors = c.tensors;
  out->data.emplace_back(t.data_bytes, 1);
  std::memcpy(out->data.back().data(), t.data, t.data_bytes);
  const size_t unit = t.dtype.block_bytes;
  const size_t at = t.data_bytes / unit / 2 * unit + (place > 0 && unit > 8 ? unit - place : 0);
  std::memcpy(out->data.back().data() + at, bits.data(), bits.size());
  out->data.back().read_only();
  out->tensors[index].data = out->data.back().data();
  return true;
}

// What is not finite in row n of W, as dequantize gives it, is NaN in column n of y after a NaN and
// never finite after an infinity; the other columns are right. Returns the number of columns that
// are not finite.
int64_t check_spoilt_columns(const Instance& in, ThreadPool& pool, uint64_t seed, float spoiler) {
  constexpr int64_t kRows = 3;
  const int64_t n = in.n(), k = in.k();
  const std::vector<float> w = in.dequantize();
  std::vector<double> rounded;
  const std::vector<float> x = make_inputs(in, kRows, seed, &rounded);
  const std::vector<double> want = reference(rounded, w, nullptr, kRows, n, k);
  const Matrices a(x, kRows, k, n, 0);
  apply_once(in, pool, a, nullptr);
  int64_t spoilt = 0;
  double difference[kRows] = {}, size[kRows] = {};
  for (int64_t j = 0; j < n; ++j) {
    const auto row = w.begin() + j * k;
    const bool bad = std::any_of(row, row + k, [](float v) { return !std::isfinite(v); });
    spoilt += bad ? 1 : 0;
    for (int64_t i = 0; i < kRows; ++i) {
      const float got = a.y.as<float>()[i * n + j];
      const double exact = want[static_cast<size_t>(i * n + j)];
      expect(!bad || (std::isnan(spoiler) ? std::isnan(got) : !std::isfinite(got)),
             "{}: row {} of W is not finite, but y[{}, {}] is {}", in.text(), j, i, j, got);
      if (bad) continue;
      difference[i] += (static_cast<double>(got) - exact) * (static_cast<double>(got) - exact);
      size[i] += exact * exact;
    }
  }
  for (int64_t i = 0; i < kRows && spoilt < n; ++i) {
    const double error = std::sqrt(difference[i] / std::max(size[i], 1e-30));
    expect(error <= in.info().error_bound + 1e-6,
           "{}: the other columns have an error of {:.3e}, the method promises {:.3e}", in.text(),
           error, in.info().error_bound);
  }
  return spoilt;
}

// NUMBERS in abi.h for the weights: scales, zero points and codes that are not finite.
std::string nan_weights(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  int checked = 0, refused = 0;
  for (const Case& c : all_cases(plugin, pool, s.seed, false)) {
    for (size_t t = 0; t < c.tensors.size(); ++t) {
      for (const float bad :
           {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        for (const size_t place : {0, 2, 4}) {
          Case spoilt;
          if (place > 0 && c.tensors[t].dtype.block_bytes <= 8) break;
          if (!spoil_weights(c, t, bad, place, &spoilt)) break;
          for (const Setting& setting : all_settings(1)) {
            const std::unique_ptr<Instance> in = processed(spoilt, setting, pool, true);
            if (in == nullptr) {
              ++refused;
              continue;
            }
            const pluq_activation_scheme& a = in->info().activation_scheme;
            if (a.dynamic == 0 && text_of(a.static_scale_suffix) == text_of(c.tensors[t].name))
              continue;
            if (check_spoilt_columns(*in, pool, s.seed, bad) > 0) ++checked;
          }
        }
      }
    }
  }
  if (checked + refused == 0) throw Skip("no tensor of its layers can hold a NaN that matters");
  return fmt::format("{} layers with NaN or infinity show it where it belongs, {} refused", checked,
                     refused);
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
  return {
      {"numerics", "every_batch", every_batch}, {"numerics", "every_option", every_option},
      {"numerics", "same_bits", same_bits},     {"numerics", "nan_and_infinity", nan_and_infinity},
      {"numerics", "nan_weights", nan_weights}, {"numerics", "inside_region", inside_region}};
}

}  // namespace pluq::conformance
