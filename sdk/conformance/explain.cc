// SPDX-License-Identifier: Apache-2.0
#include "conformance/explain.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "conformance/reference.h"

namespace pluq::conformance {
namespace {

struct Fit {
  double factor = 0;    // got = factor * guess, by least squares
  double residual = 1;  // what is left, relative to got
};

// Over rows [n0, n1) and columns [k0, k1) of got [n, k].
template <class Value>
Fit fit(const std::vector<float>& got, int64_t k, int64_t n0, int64_t n1, int64_t k0, int64_t k1,
        const Value& value) {
  double gg = 0, vv = 0, gv = 0;
  for (int64_t i = n0; i < n1; ++i) {
    for (int64_t j = k0; j < k1; ++j) {
      const auto g = static_cast<double>(got[static_cast<size_t>(i * k + j)]);
      const auto v = static_cast<double>(value(i, j));
      gg += g * g;
      vv += v * v;
      gv += g * v;
    }
  }
  if (vv == 0 || gg == 0) return {0, gg == 0 ? 0.0 : 1.0};
  return {gv / vv, std::sqrt(std::max(0.0, gg - gv * gv / vv) / gg)};
}

// The residual when every block of `rows` by `columns` has its own factor; the first two of them.
template <class Value>
double fit_blocks(const std::vector<float>& got, int64_t n, int64_t k, int64_t rows,
                  int64_t columns, const Value& value, double first[2]) {
  double left = 0, all = 0;
  int seen = 0;
  for (int64_t i = 0; i < n; i += rows) {
    for (int64_t j = 0; j < k; j += columns) {
      const int64_t i1 = std::min(i + rows, n), j1 = std::min(j + columns, k);
      const Fit f = fit(got, k, i, i1, j, j1, value);
      if (seen < 2) first[seen++] = f.factor;
      double gg = 0;
      for (int64_t r = i; r < i1; ++r) {
        for (int64_t c = j; c < j1; ++c) {
          const auto g = static_cast<double>(got[static_cast<size_t>(r * k + c)]);
          gg += g * g;
        }
      }
      left += f.residual * f.residual * gg;
      all += gg;
    }
  }
  return all == 0 ? 0 : std::sqrt(left / all);
}

constexpr double kAlike = 0.03;    // residual of weights that are the same but for rounding
constexpr double kSimilar = 0.45;  // of weights whose places are right and whose scales are others'

// The weights at other places: what most often goes wrong with an index.
std::string misplaced(const std::vector<float>& got, const std::vector<float>& want, int64_t n,
                      int64_t k) {
  const auto at = [&](int64_t i, int64_t j) {
    return i < 0 || i >= n || j < 0 || j >= k ? 0.0F : want[static_cast<size_t>(i * k + j)];
  };
  std::string best;
  double least = kSimilar;
  const auto consider = [&](const char* words, const auto& value) {
    const double residual = fit(got, k, 0, n, 0, k, value).residual;
    if (residual >= least) return;
    least = residual;
    best = words;
  };
  consider("W seems to be read as [K, N]: the weight of (n, k) is taken from element k * N + n",
           [&](int64_t i, int64_t j) { return want[static_cast<size_t>(j * n + i)]; });
  consider("column k takes the weight of column k + 1",
           [&](int64_t i, int64_t j) { return at(i, j + 1); });
  consider("column k takes the weight of column k - 1",
           [&](int64_t i, int64_t j) { return at(i, j - 1); });
  consider("row n takes the weights of row n + 1",
           [&](int64_t i, int64_t j) { return at(i + 1, j); });
  consider("row n takes the weights of row n - 1",
           [&](int64_t i, int64_t j) { return at(i - 1, j); });
  consider("columns 2j and 2j + 1 are exchanged: the halves of a byte?",
           [&](int64_t i, int64_t j) { return at(i, j ^ 1); });
  return best;
}

// What the whole of `got` is in terms of `want`; `alike` is the residual that rounding may leave.
std::string pattern(const std::vector<float>& got, const std::vector<float>& want, int64_t n,
                    int64_t k, double alike) {
  const auto same = [&](int64_t i, int64_t j) { return want[static_cast<size_t>(i * k + j)]; };
  if (std::all_of(got.begin(), got.end(), [](float v) { return v == 0; }))
    return "all of them count as 0";
  const Fit whole = fit(got, k, 0, n, 0, k, same);
  if (whole.residual < alike)
    return fmt::format("every weight counts {:.4g} times: look at the scale", whole.factor);
  double offset = 0, size = 0, left = 0;
  for (size_t i = 0; i < got.size(); ++i)
    offset += (static_cast<double>(got[i]) - static_cast<double>(want[i])) /
              static_cast<double>(got.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double d = static_cast<double>(got[i]) - static_cast<double>(want[i]) - offset;
    left += d * d;
    size += static_cast<double>(want[i]) * static_cast<double>(want[i]);
  }
  if (left < alike * alike * size)
    return fmt::format("every weight is {:.4g} too large: look at the zero point", offset);
  double first[2] = {};
  if (fit_blocks(got, n, k, 1, k, same, first) < alike) {
    return fmt::format(
        "each row has a factor of its own (row 0: {:.3g}, row 1: {:.3g}): the scales of other "
        "rows?",
        first[0], first[1]);
  }
  for (const int64_t g : {128, 64, 32, 16}) {
    if (g < k && fit_blocks(got, n, k, 1, g, same, first) < alike) {
      return fmt::format(
          "each run of {} columns has a factor of its own ({:.3g}, then {:.3g}): the scales of "
          "other "
          "groups?",
          g, first[0], first[1]);
    }
  }
  return misplaced(got, want, n, k);
}

struct Range {
  int64_t first = -1, last = -1;
  void add(int64_t i) {
    if (first < 0) first = i;
    first = std::min(first, i);
    last = std::max(last, i);
  }
  std::string text(const char* one, const char* many, int64_t of) const {
    if (first == 0 && last == of - 1) return fmt::format("all {} {}", of, many);
    if (first == last) return fmt::format("{} {} of {}", one, first, of);
    return fmt::format("{} {} to {} of {}", many, first, last, of);
  }
};

// Which elements of y are wrong.
std::string where(const WrongResult& w) {
  const int64_t n = w.in.n();
  Range rows, columns;
  std::string first;
  for (int64_t i = 0; i < w.m; ++i) {
    double size = 0;
    for (int64_t j = 0; j < n; ++j) {
      const double v = w.want[static_cast<size_t>(i * n + j)] +
                       (w.bias == nullptr ? 0 : static_cast<double>(w.bias[j]));
      size += v * v;
    }
    const double allowed = (2 * w.bound + 1e-6) * std::sqrt(size / static_cast<double>(n));
    for (int64_t j = 0; j < n; ++j) {
      const double want = w.want[static_cast<size_t>(i * n + j)] +
                          (w.bias == nullptr ? 0 : static_cast<double>(w.bias[j]));
      const auto got = static_cast<double>(w.y[static_cast<size_t>(i * n + j)]);
      if (std::fabs(got - want) <= allowed) continue;
      rows.add(i);
      columns.add(j);
      if (first.empty())
        first = fmt::format("y[{}, {}] is {:.6g}, expected {:.6g}", i, j, got, want);
    }
  }
  if (first.empty()) return {};
  return fmt::format(" {}; wrong are {} and {}.", first, rows.text("row", "rows", w.m),
                     columns.text("column", "columns", n));
}

class Explainer {
 public:
  Explainer(const WrongResult& w, const Ask& ask) : w_(w), ask_(ask) {}

  std::string look() {
    if (w_.bias != nullptr && right(w_.m, w_.gap, nullptr)) return without_bias();
    if (w_.gap > 0 && right(w_.m, 0, nullptr)) {
      return fmt::format(
          " It is right when the rows lie one behind the other: rows are x->ld and y->ld elements "
          "apart, here K + {} and N + {}, not K and N.",
          w_.gap, 2 * w_.gap);
    }
    if (w_.m > 1 && right(1, 0, nullptr)) return by_batch();
    return by_weight();
  }

 private:
  bool right(int64_t m, int64_t gap, const float* bias) const {
    const std::vector<float> y = ask_(w_.x, m, gap, bias);
    return row_error(y.data(), w_.in.n(), w_.want, m, w_.in.n()) <= w_.bound;
  }

  std::string without_bias() const {
    const bool ignored = row_error(w_.y.data(), w_.in.n(), w_.want, w_.m, w_.in.n()) <= w_.bound;
    return ignored
               ? " y is right but for the bias, which is not added: y = x W^T + bias, bias f32 "
                 "[N] or NULL."
               : " It is right without bias: bias is f32 [N], one value for each column of y, or "
                 "NULL.";
  }

  std::string by_batch() const {
    int64_t least = w_.m;
    for (const int64_t m : {2, 7, 8, 16, 17, 63, 64, 65}) {
      if (m < w_.m && !right(m, 0, nullptr)) {
        least = m;
        break;
      }
    }
    return fmt::format(
        " It is right with M = 1 and wrong from M = {} on: look at the kernel for that "
        "many rows.",
        least);
  }

  // x = one column at a time gives W as apply uses it.
  std::string by_weight() const {
    const int64_t n = w_.in.n(), k = w_.in.k();
    const pluq_activation_scheme& a = w_.in.info().activation_scheme;
    if (a.strategy != PLUQ_STRATEGY_NONE && a.dynamic == 0) return {};  // a one may be clamped
    std::vector<float> got(static_cast<size_t>(n * k));
    for (int64_t j = 0; j < k; ++j) {
      std::vector<float> x(static_cast<size_t>(k));
      x[static_cast<size_t>(j)] = 1;
      const std::vector<float> y = ask_(x, 1, 0, nullptr);
      for (int64_t i = 0; i < n; ++i)
        got[static_cast<size_t>(i * k + j)] = y[static_cast<size_t>(i)];
    }
    const std::vector<float> want = w_.in.dequantize();
    const std::string words =
        compare_weights(got, want, n, k, 4 * w_.bound + 1e-3, "apply to single columns uses");
    if (!words.empty()) return words;
    if (a.strategy != PLUQ_STRATEGY_NONE)
      return " Each weight by itself is right: look at how x is rounded; describe() publishes the "
             "scheme that the kit follows.";
    return " Each weight by itself is right: the sum along K is coarser than error_bound says.";
  }

  const WrongResult& w_;
  const Ask& ask_;
};

}  // namespace

std::string compare_weights(const std::vector<float>& got, const std::vector<float>& want,
                            int64_t n, int64_t k, double tolerance, const std::string& who) {
  float largest = 0;
  for (const float v : want) largest = std::max(largest, std::fabs(v));
  Range rows, columns;
  int64_t wrong = 0;
  std::string first;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      const float g = got[static_cast<size_t>(i * k + j)], v = want[static_cast<size_t>(i * k + j)];
      if (std::fabs(static_cast<double>(g) - static_cast<double>(v)) <=
          tolerance * static_cast<double>(largest))
        continue;
      ++wrong;
      rows.add(i);
      columns.add(j);
      if (first.empty()) first = fmt::format("W[{}, {}] as {:.6g}, expected {:.6g}", i, j, g, v);
    }
  }
  if (wrong == 0) return {};
  std::string out =
      fmt::format(" {} {}; {} of {} weights are wrong, {} and {}", who, first, wrong, n * k,
                  rows.text("row", "rows", n), columns.text("column", "columns", k));
  const std::string guess = pattern(got, want, n, k, std::max(kAlike, tolerance));
  return out + (guess.empty() ? "." : "; " + guess + ".");
}

std::string explain(const WrongResult& wrong, const Ask& ask) {
  step("asking {} more, since its y is wrong", wrong.in.text());
  std::string out;
  try {
    out = where(wrong);
    out += Explainer(wrong, ask).look();
  } catch (const std::exception&) {  // the failure itself is told all the same
  }
  return out;
}

}  // namespace pluq::conformance
