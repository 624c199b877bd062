// SPDX-License-Identifier: Apache-2.0
#include "conformance/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "pluq/float8.hpp"

namespace pluq::conformance {
namespace {

// v in units of the scale, as the scheme's code, in units of the scale again.
double round_to(uint32_t dtype, double v) {
  switch (dtype) {
    case PLUQ_DTYPE_I8:
      return std::nearbyint(v);  // clamped by the caller, who knows the zero point
    case PLUQ_DTYPE_F8_E4M3:
      return static_cast<double>(float8::from_e4m3(float8::to_e4m3(static_cast<float>(v))));
    case PLUQ_DTYPE_BF16:
      return static_cast<double>(bf16_to_f32(f32_to_bf16(static_cast<float>(v))));
    case PLUQ_DTYPE_F16:
      return static_cast<double>(f16_to_f32(f32_to_f16(static_cast<float>(v))));
    default:
      fail_test("publishes activations of {}, which the kit cannot round", dtype_name(dtype));
  }
}

struct Scale {
  double scale = 1, zero = 0;
};

// Rounds one run of columns that share a scale; values next to a tie move onto their code first.
void round_run(uint32_t dtype, const Scale& s, const std::vector<size_t>& columns, float* x,
               double* out) {
  for (const size_t c : columns) {
    const double unit = static_cast<double>(x[c]) / s.scale;
    const double code = round_to(dtype, unit);
    const double margin = std::fabs(unit) * 1e-4 + 1e-4;
    if (round_to(dtype, unit - margin) != code || round_to(dtype, unit + margin) != code)
      x[c] = static_cast<float>(code * s.scale);
    double q = round_to(dtype, static_cast<double>(x[c]) / s.scale);
    if (dtype == PLUQ_DTYPE_I8) q = std::clamp(q + s.zero, -128.0, 127.0) - s.zero;
    out[c] = q * s.scale;
  }
}

Scale dynamic_scale(const pluq_activation_scheme& a, const std::vector<size_t>& columns,
                    const float* x) {
  float lo = 0, hi = 0, top = 0;
  for (const size_t c : columns) {
    lo = std::min(lo, x[c]);
    hi = std::max(hi, x[c]);
    top = std::max(top, std::fabs(x[c]));
  }
  expect(a.divisor > 0, "publishes dynamic activations with divisor {}", a.divisor);
  if (a.symmetric != 0) return {top > 0 ? static_cast<double>(top) / a.divisor : 1, 0};
  const double scale =
      hi > lo ? (static_cast<double>(hi) - static_cast<double>(lo)) / a.divisor : 1;
  return {scale, std::clamp(std::nearbyint(-128 - static_cast<double>(lo) / scale), -128.0, 127.0)};
}

// Moves the ends of an asymmetric run onto whole codes, so that neither scale nor zero point is
// next to a tie.
void settle_range(double divisor, const std::vector<size_t>& columns, float* x) {
  float lo = 0, hi = 0;
  for (const size_t c : columns) {
    lo = std::min(lo, x[c]);
    hi = std::max(hi, x[c]);
  }
  if (!(hi > lo)) return;
  const double scale = (static_cast<double>(hi) - static_cast<double>(lo)) / divisor;
  const double below = std::nearbyint(-static_cast<double>(lo) / scale);
  const auto new_lo = static_cast<float>(-below * scale),
             new_hi = static_cast<float>((divisor - below) * scale);
  for (const size_t c : columns) {
    x[c] = x[c] == lo ? new_lo : x[c] == hi ? new_hi : std::clamp(x[c], new_lo, new_hi);
  }
}

double value_of(const pluq_tensor& t, size_t i) {
  const auto* p = static_cast<const std::byte*>(t.data) + i * t.dtype.block_bytes;
  if (t.dtype.id == PLUQ_DTYPE_I8) return static_cast<double>(static_cast<int8_t>(*p));
  if (t.dtype.id == PLUQ_DTYPE_F8_E4M3)
    return static_cast<double>(float8::from_e4m3(static_cast<uint8_t>(*p)));
  return static_cast<double>(to_f32(t.dtype.id, {p, t.dtype.block_bytes})[0]);
}

Scale static_scale(const Instance& in, const pluq_activation_scheme& a) {
  const std::string_view suffix = text_of(a.static_scale_suffix);
  const pluq_tensor* scale = in.tensor(suffix);
  expect(scale != nullptr, "publishes a static scale in '{}', which the layer does not have",
         suffix);
  Scale s{value_of(*scale, 0), 0};
  if (a.symmetric == 0) {
    const pluq_tensor* zero = in.tensor("input_zero_point");
    if (zero != nullptr) s.zero = value_of(*zero, 0);
  }
  return s;
}

}  // namespace

std::vector<float> make_inputs(const Instance& in, int64_t m, uint64_t seed,
                               std::vector<double>* rounded) {
  const auto k = static_cast<size_t>(in.k());
  Random random(seed);
  std::vector<float> x(static_cast<size_t>(m) * k);
  for (float& v : x) v = static_cast<float>(random.real(-1, 1) + random.real(-1, 1));
  rounded->assign(x.begin(), x.end());
  const pluq_activation_scheme& a = in.info().activation_scheme;
  if (a.strategy == PLUQ_STRATEGY_NONE) return x;
  expect(a.strategy <= PLUQ_STRATEGY_GROUP,
         "publishes the activation strategy {}, which the kit cannot follow", a.strategy);
  expect(a.strategy != PLUQ_STRATEGY_TENSOR || a.dynamic == 0,
         "publishes dynamic scales per tensor: rows would depend on each other");
  const size_t run = a.strategy == PLUQ_STRATEGY_GROUP ? static_cast<size_t>(a.group_size) : k;
  expect(run > 0, "publishes activation groups of {}", a.group_size);
  for (int64_t row = 0; row < m; ++row) {
    float* at = x.data() + static_cast<size_t>(row) * k;
    double* out = rounded->data() + static_cast<size_t>(row) * k;
    for (size_t first = 0; first < k; first += run) {
      std::vector<size_t> columns;
      for (size_t c = first; c < std::min(first + run, k); ++c)
        columns.push_back(a.permutation == nullptr ? c : static_cast<size_t>(a.permutation[c]));
      if (a.dynamic != 0 && a.symmetric == 0) settle_range(a.divisor, columns, at);
      round_run(a.dtype.id, a.dynamic != 0 ? dynamic_scale(a, columns, at) : static_scale(in, a),
                columns, at, out);
    }
  }
  return x;
}

namespace {

// Every value of the type, and none next to a tie of the scheme; zero is far from all ties.
void round_short_run(const Instance& in, const pluq_activation_scheme& a,
                     const std::vector<size_t>& columns, float* x, double* out) {
  if (a.dynamic != 0 && a.symmetric == 0 && columns.size() > 1) {
    for (const size_t c : columns) x[c] = std::clamp(x[c], -1.0F, 1.5F);
    x[columns[0]] = -1.0F;  // 255 steps over 2.5: the zero point is a whole number
    x[columns[1]] = 1.5F;
  }
  const Scale s = a.dynamic != 0 ? dynamic_scale(a, columns, x) : static_scale(in, a);
  for (const size_t c : columns) {
    const double unit = static_cast<double>(x[c]) / s.scale;
    const double margin = std::fabs(unit) * 1e-4 + 1e-4;
    if (round_to(a.dtype.id, unit - margin) != round_to(a.dtype.id, unit + margin)) x[c] = 0;
  }
  round_run(a.dtype.id, s, columns, x, out);
}

}  // namespace

std::vector<float> make_short_inputs(const Instance& in, uint32_t dtype, int64_t m, uint64_t seed,
                                     std::vector<double>* rounded) {
  const auto k = static_cast<size_t>(in.k());
  Random random(seed);
  std::vector<float> x(static_cast<size_t>(m) * k);
  for (float& v : x) {
    const auto value = static_cast<float>(random.real(-1, 1) + random.real(-1, 1));
    v = dtype == PLUQ_DTYPE_BF16 ? bf16_to_f32(f32_to_bf16(value)) : f16_to_f32(f32_to_f16(value));
  }
  rounded->assign(x.begin(), x.end());
  const pluq_activation_scheme& a = in.info().activation_scheme;
  if (a.strategy == PLUQ_STRATEGY_NONE) return x;
  const size_t run = a.strategy == PLUQ_STRATEGY_GROUP ? static_cast<size_t>(a.group_size) : k;
  expect(run > 0, "publishes activation groups of {}", a.group_size);
  for (int64_t row = 0; row < m; ++row) {
    for (size_t first = 0; first < k; first += run) {
      std::vector<size_t> columns;
      for (size_t c = first; c < std::min(first + run, k); ++c)
        columns.push_back(a.permutation == nullptr ? c : static_cast<size_t>(a.permutation[c]));
      round_short_run(in, a, columns, x.data() + static_cast<size_t>(row) * k,
                      rounded->data() + static_cast<size_t>(row) * k);
    }
  }
  return x;
}

QuantizedInputs quantize_inputs(const Instance& in, const std::vector<float>& x, int64_t m) {
  const pluq_activation_scheme& a = in.info().activation_scheme;
  expect(a.strategy != PLUQ_STRATEGY_NONE && a.permutation == nullptr &&
             (a.dtype.id == PLUQ_DTYPE_I8 || a.dtype.id == PLUQ_DTYPE_F8_E4M3),
         "{} says that it takes rounded activations, but publishes strategy {} and {}", in.text(),
         a.strategy, dtype_name(a.dtype.id));
  const auto k = static_cast<size_t>(in.k());
  const size_t run = a.strategy == PLUQ_STRATEGY_GROUP ? static_cast<size_t>(a.group_size) : k;
  QuantizedInputs out;
  out.ld = (in.k() + 63) / 64 * 64;
  out.codes.assign(static_cast<size_t>(m * out.ld), 0);
  for (size_t row = 0; row < static_cast<size_t>(m); ++row) {
    const float* from = x.data() + row * k;
    uint8_t* to = out.codes.data() + row * static_cast<size_t>(out.ld);
    for (size_t first = 0; first < k; first += run) {
      std::vector<size_t> columns;
      for (size_t c = first; c < std::min(first + run, k); ++c) columns.push_back(c);
      const Scale s = a.dynamic != 0 ? dynamic_scale(a, columns, from) : static_scale(in, a);
      out.scales.push_back(static_cast<float>(s.scale));
      if (a.symmetric == 0) out.zeros.push_back(static_cast<int32_t>(s.zero));
      for (const size_t c : columns) {
        const float unit = from[c] / out.scales.back();
        to[c] = a.dtype.id == PLUQ_DTYPE_I8
                    ? static_cast<uint8_t>(static_cast<int8_t>(std::clamp(
                          std::nearbyint(static_cast<double>(unit)) + s.zero, -128.0, 127.0)))
                    : float8::to_e4m3(unit);
      }
    }
  }
  return out;
}

std::vector<double> reference(const std::vector<double>& rounded, const std::vector<float>& weight,
                              const float* bias, int64_t m, int64_t n, int64_t k) {
  std::vector<double> y(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const double* a = rounded.data() + i * k;
      const float* w = weight.data() + j * k;
      double sum = bias == nullptr ? 0 : static_cast<double>(bias[j]);
      for (int64_t c = 0; c < k; ++c) sum += a[c] * static_cast<double>(w[c]);
      y[static_cast<size_t>(i * n + j)] = sum;
    }
  }
  return y;
}

double row_error(const float* y, int64_t ldy, const std::vector<double>& want, int64_t m,
                 int64_t n) {
  double worst = 0;
  for (int64_t i = 0; i < m; ++i) {
    double difference = 0, size = 0;
    for (int64_t j = 0; j < n; ++j) {
      const double w = want[static_cast<size_t>(i * n + j)],
                   d = static_cast<double>(y[i * ldy + j]) - w;
      difference += d * d;
      size += w * w;
    }
    const double error = std::sqrt(difference / std::max(size, 1e-30));
    worst = std::isfinite(error) ? std::max(worst, error) : HUGE_VAL;
  }
  return worst;
}

}  // namespace pluq::conformance
