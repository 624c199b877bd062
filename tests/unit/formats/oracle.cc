// SPDX-License-Identifier: Apache-2.0
#include "unit/formats/oracle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>

namespace pluq::test {
namespace {

// ------------------------------------------------------------------ rounding of activations, as
// the checkpoint says

float to_e4m3(float x) {
  static const std::vector<double> values = [] {
    std::vector<double> v;
    for (int code = 0; code < 0x7f; ++code) v.push_back(e4m3(static_cast<uint8_t>(code)));
    return v;
  }();
  const double a = std::min(std::fabs(static_cast<double>(x)), 448.0);
  const auto above = std::lower_bound(values.begin(), values.end(), a);
  auto best = above;
  if (above != values.begin() && *above != a) {
    const double low = *(above - 1), high = *above;
    const bool tie = a - low == high - a, low_is_even = (above - 1 - values.begin()) % 2 == 0;
    if (a - low < high - a || (tie && low_is_even)) best = above - 1;
  }
  return static_cast<float>(std::copysign(*best, x));
}

void round_fp8(float* x, int64_t count, float scale) {
  if (!(scale > 0)) return;
  for (int64_t i = 0; i < count; ++i) x[i] = to_e4m3(x[i] / scale) * scale;
}

// s * (q - z) as doubles, so that nothing is lost.
void round_int8(const float* x, int64_t count, float scale, int zero, double* out) {
  for (int64_t i = 0; i < count; ++i) {
    if (!(scale > 0)) {
      out[i] = 0;
      continue;
    }
    const float q =
        std::clamp(std::nearbyint(x[i] / scale) + static_cast<float>(zero), -128.0F, 127.0F);
    out[i] = static_cast<double>(scale) * static_cast<double>(q - static_cast<float>(zero));
  }
}

float largest(const float* x, int64_t count) {
  float out = 0;
  for (int64_t i = 0; i < count; ++i) out = std::max(out, std::fabs(x[i]));
  return out;
}

void round_row_int8(const Case& c, const pluq_activation_scheme& a, const float* x, int64_t k,
                    double* out) {
  if (a.dynamic == 0) {
    round_int8(x, k, c.input_scale, c.input_zero, out);
  } else if (a.symmetric != 0) {
    round_int8(x, k, largest(x, k) / static_cast<float>(a.divisor), 0, out);
  } else {
    const float lo = std::min(*std::min_element(x, x + k), 0.0F),
                hi = std::max(*std::max_element(x, x + k), 0.0F);
    const float scale = (hi - lo) / 255.0F;
    const int zero =
        scale > 0
            ? static_cast<int>(std::nearbyint(std::clamp(-128.0F - lo / scale, -128.0F, 127.0F)))
            : 0;
    round_int8(x, k, scale, zero, out);
  }
}

}  // namespace

std::vector<double> rounded(const Case& c, const pluq_method_info& info,
                            const std::vector<float>& x, int64_t m, int64_t k) {
  std::vector<double> out(x.begin(), x.end());
  const pluq_activation_scheme& a = info.activation_scheme;
  if (info.arithmetic != PLUQ_ARITHMETIC_CHECKPOINT) return out;
  for (int64_t r = 0; r < m; ++r) {
    if (a.dtype.id == PLUQ_DTYPE_I8) {
      round_row_int8(c, a, x.data() + r * k, k, out.data() + r * k);
      continue;
    }
    std::vector<float> row(x.begin() + r * k, x.begin() + (r + 1) * k);
    if (c.bound > 0) {
      for (float& v : row) v = std::clamp(v, -c.bound, c.bound);
    }
    const int64_t size = a.strategy == PLUQ_STRATEGY_GROUP ? a.group_size : k;
    for (int64_t begin = 0; begin < k; begin += size) {
      const int64_t count = std::min(size, k - begin);
      round_fp8(row.data() + begin, count,
                a.dynamic == 0 ? c.input_scale : largest(row.data() + begin, count) / 448.0F);
    }
    std::copy(row.begin(), row.end(), out.begin() + r * k);
  }
  return out;
}

// ------------------------------------------------------------------ comparing

std::vector<double> product(const std::vector<double>& x, const std::vector<float>& w, int64_t m,
                            int64_t n, int64_t k, const float* bias) {
  std::vector<double> y(static_cast<size_t>(m * n));
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      double sum = bias == nullptr ? 0 : bias[i];
      for (int64_t j = 0; j < k; ++j)
        sum += x[static_cast<size_t>(r * k + j)] *
               static_cast<double>(w[static_cast<size_t>(i * k + j)]);
      y[static_cast<size_t>(r * n + i)] = sum;
    }
  }
  return y;
}

double row_error(const std::vector<float>& y, const std::vector<double>& want, int64_t m,
                 int64_t n) {
  double worst = 0;
  for (int64_t r = 0; r < m; ++r) {
    double off = 0, size = 0;
    for (int64_t i = r * n; i < (r + 1) * n; ++i) {
      off += std::pow(static_cast<double>(y[static_cast<size_t>(i)]) - want[static_cast<size_t>(i)],
                      2);
      size += std::pow(want[static_cast<size_t>(i)], 2);
    }
    worst = std::max(worst, size > 0 ? std::sqrt(off / size) : off > 0 ? 1.0 : 0.0);
  }
  return std::isnan(worst) ? 1e30 : worst;
}

std::vector<float> inputs(int64_t m, int64_t k) {
  Random random(7);
  std::vector<float> x = random.reals(m * k, -2, 2);
  for (int64_t r = 0; r < m; ++r) {
    x[static_cast<size_t>(r * k + k / 3)] *= 20;
    for (int64_t i = 0; i < k; ++i) {
      if (r % 8 == 3) x[static_cast<size_t>(r * k + i)] *= 1e-4F;
      if (r % 8 == 5) x[static_cast<size_t>(r * k + i)] = 0;
    }
  }
  return x;
}

namespace {

void expect_weights(const std::vector<float>& got, const std::vector<float>& w, int64_t full_k,
                    const FakeMethod& m) {
  const LayerAsk& a = m.ask();
  ASSERT_EQ(got.size(), static_cast<size_t>(m.n() * m.k()));
  for (int64_t n = 0; n < m.n(); ++n) {
    for (int64_t k = 0; k < m.k(); ++k) {
      const float want = w[static_cast<size_t>((a.out_begin + n) * full_k + a.in_begin + k)];
      const float have = got[static_cast<size_t>(n * m.k() + k)];
      ASSERT_NEAR(have, want, 1e-6 * std::fabs(want) + 1e-9)
          << "weight [" << n << ", " << k << "] of rows " << a.out_begin << "-" << a.out_end
          << ", columns " << a.in_begin << "-" << a.in_end;
    }
  }
}

// A line for tests/support/format_table.py, in the file that PLUQ_FORMAT_TABLE names: format,
// scheme, test, instruction set, arithmetic asked for, kernel, error, the method's bound.
void record(const Case& c, const FakeMethod& method, const std::string& isa, bool exact,
            double error, double bound) {
  const char* path = std::getenv("PLUQ_FORMAT_TABLE");
  if (path == nullptr) return;
  const ::testing::TestInfo* test = ::testing::UnitTest::GetInstance()->current_test_info();
  std::ofstream(path, std::ios::app)
      << c.format << '\t' << method.scheme() << '\t' << test->test_suite_name() << '.'
      << test->name() << '\t' << isa << '\t' << (exact ? "exact" : "fast") << '\t'
      << method.kernel() << '\t' << error << '\t' << bound << '\n';
}

void check_whole(const Case& c, const FakeConfig& config, const std::string& isa, bool exact,
                 bool float_activations) {
  LayerAsk ask = c.ask;
  ask.exact = exact;
  ask.float_activations = float_activations;
  FakeChoice choice = config.choose(ask, c.file, isa);
  ASSERT_EQ(choice.verdict, PLUQ_VERDICT_USE) << choice.reason;
  FakeMethod& method = *choice.method;
  method.load(method.cut(c.file), 2);
  const pluq_method_info info = method.info();
  if (!c.scheme.empty()) {
    EXPECT_EQ(method.scheme(), c.scheme);
  }
  expect_weights(method.dequantize(), c.w, c.ask.k, method);
  if (exact || float_activations) {
    EXPECT_LE(info.error_bound, 1e-5);
  }
  EXPECT_LE(info.error_bound, 0.1);
  EXPECT_GT(info.bits_per_weight, 1);
  Random random(3);
  const std::vector<float> bias = random.reals(c.ask.n, -1, 1);
  double worst = 0;
  for (const int64_t m : {int64_t{1}, int64_t{17}}) {
    const std::vector<float> x = inputs(m, c.ask.k);
    const std::vector<double> want =
        product(rounded(c, info, x, m, c.ask.k), c.w, m, c.ask.n, c.ask.k, nullptr);
    const std::vector<float> y = method.apply(x, m);
    worst = std::max(worst, row_error(y, want, m, c.ask.n));
    EXPECT_LE(worst, info.error_bound)
        << "m " << m << ", " << method.kernel() << ", " << method.scheme();
    EXPECT_EQ(y, method.apply(x, m, nullptr, 2)) << "two threads give other bits";
    std::vector<double> biased = want;
    for (size_t i = 0; i < biased.size(); ++i)
      biased[i] += static_cast<double>(bias[i % static_cast<size_t>(c.ask.n)]);
    EXPECT_LE(row_error(method.apply(x, m, bias.data()), biased, m, c.ask.n),
              info.error_bound + 1e-6);
  }
  if (!float_activations) record(c, method, isa, exact, worst, info.error_bound);
}

// Rows split: the parts side by side are the whole. Columns split: they add up to it.
void check_shards(const Case& c, const FakeConfig& config, int64_t parts, bool columns) {
  const int64_t m = 9, k = c.ask.k, n = c.ask.n;
  LayerAsk ask = c.ask;
  ask.float_activations = columns;  // rounding sees all of K
  const std::vector<float> x = inputs(m, k);
  std::vector<double> sum(static_cast<size_t>(m * n));
  pluq_method_info info{};
  for (int64_t p = 0; p < parts; ++p) {
    const int64_t full = columns ? k : n, begin = full * p / parts, end = full * (p + 1) / parts;
    (columns ? ask.in_begin : ask.out_begin) = begin;
    (columns ? ask.in_end : ask.out_end) = end;
    FakeChoice choice = config.choose(ask, c.file, isas().back());
    ASSERT_EQ(choice.verdict, PLUQ_VERDICT_USE) << choice.reason;
    FakeMethod& method = *choice.method;
    method.load(method.cut(c.file));
    info = method.info();
    expect_weights(method.dequantize(), c.w, k, method);
    std::vector<float> part;
    for (int64_t r = 0; r < m; ++r)
      part.insert(part.end(), x.begin() + r * k + method.ask().in_begin,
                  x.begin() + r * k + method.ask().in_end);
    const std::vector<float> y = method.apply(part, m);
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t i = 0; i < method.n(); ++i) {
        sum[static_cast<size_t>(r * n + method.ask().out_begin + i)] +=
            static_cast<double>(y[static_cast<size_t>(r * method.n() + i)]);
      }
    }
  }
  const std::vector<double> want = product(rounded(c, info, x, m, k), c.w, m, n, k, nullptr);
  const std::vector<float> total(sum.begin(), sum.end());
  EXPECT_LE(row_error(total, want, m, n), 2e-5)
      << parts << " shards of " << (columns ? "columns" : "rows");
}

}  // namespace

FileTensor reals(std::string name, uint32_t dtype_id, std::vector<int64_t> shape,
                 const std::vector<float>& values) {
  if (dtype_id == PLUQ_DTYPE_F32)
    return tensor(std::move(name), dtype_id, std::move(shape), values);
  std::vector<uint16_t> out;
  for (const float v : values) {
    uint32_t bits;
    std::memcpy(&bits, &v, 4);
    if (dtype_id == PLUQ_DTYPE_BF16) {
      out.push_back(static_cast<uint16_t>(bits >> 16));
    } else {  // normal f16 numbers and zero
      const uint32_t exponent = bits >> 23 & 255;
      const uint32_t half = exponent < 113 ? 0 : (exponent - 112) << 10 | (bits >> 13 & 1023);
      out.push_back(static_cast<uint16_t>((bits >> 16 & 0x8000) | half));
    }
  }
  return tensor(std::move(name), dtype_id, std::move(shape), out);
}

double e4m3(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const double value =
      exponent == 0 ? std::ldexp(mantissa / 8.0, -6) : std::ldexp(1 + mantissa / 8.0, exponent - 7);
  return (code & 0x80) != 0 ? -value : value;
}

double e5m2(uint8_t code) {
  const int exponent = code >> 2 & 31, mantissa = code & 3;
  const double value = exponent == 0 ? std::ldexp(mantissa / 4.0, -14)
                                     : std::ldexp(1 + mantissa / 4.0, exponent - 15);
  return (code & 0x80) != 0 ? -value : value;
}

void check_case(const Case& c) {
  const auto config = FakeFormat::get(c.format).config(c.config);
  for (const std::string& isa : isas()) {
    SCOPED_TRACE(isa);
    check_whole(c, *config, isa, true, false);
    check_whole(c, *config, isa, false, false);
  }
  check_whole(c, *config, isas().back(), false, true);
  for (const int64_t parts : c.k_splits) check_shards(c, *config, parts, true);
  for (const int64_t parts : c.n_splits) check_shards(c, *config, parts, false);
  // The table has CPU kernels alone; emulated devices take long.
  if (std::getenv("PLUQ_FORMAT_TABLE") == nullptr) check_on_devices(c, *config);
}

FakeChoice choose(const Case& c) {
  // The method outlives its configuration only as long as the caller keeps the format, which is
  // never unloaded.
  static std::vector<std::unique_ptr<FakeConfig>> kept;
  kept.push_back(FakeFormat::get(c.format).config(c.config));
  return kept.back()->choose(c.ask, c.file);
}

void expect_refusal(const Case& c, int32_t code, std::initializer_list<std::string> parts) {
  const auto judge = [&](int32_t got, const std::string& text) {
    EXPECT_EQ(got, code) << text;
    for (const std::string& part : parts)
      EXPECT_NE(text.find(part), std::string::npos) << text << "\nlacks: " << part;
  };
  try {
    FakeChoice choice = choose(c);
    if (choice.verdict == PLUQ_VERDICT_UNSUPPORTED)
      return judge(PLUQ_STATUS_UNSUPPORTED, choice.reason);
    if (choice.verdict != PLUQ_VERDICT_USE) {
      ADD_FAILURE() << "verdict " << choice.verdict << ": " << choice.reason;
      return;
    }
    choice.method->load(choice.method->cut(c.file));
    ADD_FAILURE() << "no refusal; expected one with '" << *parts.begin() << "'";
  } catch (const Refusal& r) {
    judge(r.code, r.text);
  }
}

}  // namespace pluq::test
