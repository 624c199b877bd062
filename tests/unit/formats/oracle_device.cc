// SPDX-License-Identifier: Apache-2.0
// The part of check_case that runs on emulated CUDA devices.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "pluq/plugin.hpp"
#include "unit/formats/oracle.h"

namespace pluq::test {
namespace {

uint16_t to_word(uint32_t dtype, float v) {
  return dtype == PLUQ_DTYPE_F16 ? float_to_half(v) : float_to_bfloat(v);
}
float from_word(uint32_t dtype, uint16_t h) {
  if (dtype == PLUQ_DTYPE_F16) return Tensor::half(h);
  const uint32_t bits = static_cast<uint32_t>(h) << 16;
  float v;
  std::memcpy(&v, &bits, 4);
  return v;
}

struct Run {
  int64_t m, pad;
  uint32_t x_dtype, y_dtype;
};

// y of the method for columns [begin, end) of x, whose values become those of x_dtype.
std::vector<float> run(const FakeMethod& method, const Run& r, std::vector<float>* x, int64_t full,
                       int64_t begin, const float* bias) {
  const int64_t k = method.k(), n = method.n(), ldx = k + r.pad, ldy = n + r.pad;
  std::vector<uint16_t> words(static_cast<size_t>((r.m - 1) * ldx + k), 0x7fff);
  for (int64_t i = 0; i < r.m; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      float& v = (*x)[static_cast<size_t>(i * full + begin + j)];
      const uint16_t word = to_word(r.x_dtype, v);
      words[static_cast<size_t>(i * ldx + j)] = word;
      v = from_word(r.x_dtype, word);
    }
  }
  const std::vector<uint8_t> y =
      method.apply_on_device(words, r.x_dtype, r.m, ldx, r.y_dtype, ldy, bias);
  std::vector<float> out;
  for (int64_t i = 0; i < r.m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const auto at = static_cast<size_t>(i * ldy + j);
      float v = 0;
      uint16_t word = 0;
      if (r.y_dtype == PLUQ_DTYPE_F32) {
        std::memcpy(&v, y.data() + at * 4, 4);
      } else {
        std::memcpy(&word, y.data() + at * 2, 2);
        v = from_word(r.y_dtype, word);
      }
      out.push_back(v);
    }
  }
  return out;
}

// Formats of integer codes: the kernels load what the tensors hold in a handful of launches, and a
// product with unit vectors, which rounds nothing, is W itself, bit for bit.
void check_weights(const Case& c, const FakeMethod& method) {
  if (c.format != "gptq" && c.format != "awq" && c.format != "w8a8") return;
  constexpr uint64_t kMostLaunches = 5;
  EXPECT_LE(method.load_launches(), kMostLaunches) << method.kernel();
  constexpr int64_t kRows = 8;
  const int64_t k = method.k(), n = method.n(), full = c.ask.k;
  const int64_t n0 = method.ask().out_begin, k0 = method.ask().in_begin;
  int64_t wrong = 0;
  for (int64_t first = 0; first < k; first += kRows) {
    std::vector<uint16_t> x(static_cast<size_t>(kRows * k), 0);
    const int64_t rows = std::min(kRows, k - first);
    for (int64_t i = 0; i < rows; ++i) x[static_cast<size_t>(i * k + first + i)] = 0x3c00;
    const std::vector<uint8_t> y =
        method.apply_on_device(x, PLUQ_DTYPE_F16, kRows, k, PLUQ_DTYPE_F32, n);
    for (int64_t i = 0; i < rows * n; ++i) {
      float got;
      std::memcpy(&got, y.data() + i * 4, 4);
      const int64_t row = i % n, column = first + i / n;
      const float want = c.w[static_cast<size_t>((n0 + row) * full + k0 + column)];
      if (got == want || ++wrong > 3) continue;
      ADD_FAILURE() << "W[" << row << ", " << column << "] is " << got << " on the device, " << want
                    << " in the file; " << method.kernel();
    }
  }
}

void check_whole(const Case& c, const FakeConfig& config, const std::string& sm,
                 bool float_activations) {
  SCOPED_TRACE(sm + (float_activations ? " float activations" : ""));
  LayerAsk ask = c.ask;
  ask.exact = false;
  ask.float_activations = float_activations;
  FakeChoice choice = config.choose(ask, c.file, sm);
  ASSERT_EQ(choice.verdict, c.on_device ? PLUQ_VERDICT_USE : PLUQ_VERDICT_UNSUPPORTED)
      << choice.reason;
  if (!c.on_device) {
    EXPECT_EQ(choice.reason, "has no kernels for CUDA");
    return;
  }
  FakeMethod& method = *choice.method;
  method.load_on_device(method.cut(c.file), static_cast<uint32_t>(std::stoul(sm.substr(2))));
  const pluq_method_info info = method.info();
  EXPECT_EQ(method.kernel().substr(0, 5), "cuda_");
  EXPECT_LE(info.error_bound, 0.02);
  if (float_activations) check_weights(c, method);
  Random random(3);
  const std::vector<float> bias = random.reals(c.ask.n, -1, 1);
  std::vector<Run> runs{{1, 0, PLUQ_DTYPE_BF16, PLUQ_DTYPE_BF16},
                        {17, 8, PLUQ_DTYPE_F16, PLUQ_DTYPE_F32},
                        {5, 3, PLUQ_DTYPE_BF16, PLUQ_DTYPE_F32}};
  // Enough rows that W is widened once and multiplied by the host, and e4m3 codes offered to it.
  constexpr int64_t kSmall = 32768;
  if (sm == "sm90" && c.ask.n * c.ask.k <= kSmall) {
    if (method.kernel() == "cuda_int4_mma")
      runs.push_back({1000, 0, PLUQ_DTYPE_BF16, PLUQ_DTYPE_BF16});
    if (method.kernel() == "cuda_fp8_w8a8")
      runs.push_back({130, 0, PLUQ_DTYPE_BF16, PLUQ_DTYPE_BF16});
  }
  for (const Run& r : runs) {
    std::vector<float> x = inputs(r.m, c.ask.k);
    const bool biased = r.m == 5;
    const std::vector<float> y = run(method, r, &x, c.ask.k, 0, biased ? bias.data() : nullptr);
    const std::vector<double> want = product(rounded(c, info, x, r.m, c.ask.k), c.w, r.m, c.ask.n,
                                             c.ask.k, biased ? bias.data() : nullptr);
    EXPECT_LE(row_error(y, want, r.m, c.ask.n), info.error_bound)
        << "m " << r.m << ", " << method.kernel() << ", " << method.scheme();
  }
}

void check_shards(const Case& c, const FakeConfig& config, int64_t parts, bool columns) {
  const int64_t k = c.ask.k, n = c.ask.n;
  const Run r{9, 0, PLUQ_DTYPE_F16, PLUQ_DTYPE_F32};
  LayerAsk ask = c.ask;
  ask.exact = false;
  ask.float_activations = true;
  std::vector<float> x = inputs(r.m, k);
  std::vector<float> sum(static_cast<size_t>(r.m * n), 0);
  for (int64_t p = 0; p < parts; ++p) {
    const int64_t full = columns ? k : n, begin = full * p / parts, end = full * (p + 1) / parts;
    (columns ? ask.in_begin : ask.out_begin) = begin;
    (columns ? ask.in_end : ask.out_end) = end;
    FakeChoice choice = config.choose(ask, c.file, "sm80");
    if (choice.verdict == PLUQ_VERDICT_UNSUPPORTED && choice.reason == "has no kernels for CUDA")
      return;  // the shard begins in the middle of a group
    ASSERT_EQ(choice.verdict, PLUQ_VERDICT_USE) << choice.reason;
    FakeMethod& method = *choice.method;
    method.load_on_device(method.cut(c.file), 80);
    check_weights(c, method);
    const std::vector<float> y = run(method, r, &x, k, method.ask().in_begin, nullptr);
    for (int64_t i = 0; i < r.m; ++i) {
      for (int64_t j = 0; j < method.n(); ++j)
        sum[static_cast<size_t>(i * n + method.ask().out_begin + j)] +=
            y[static_cast<size_t>(i * method.n() + j)];
    }
  }
  const std::vector<double> want =
      product(std::vector<double>(x.begin(), x.end()), c.w, r.m, n, k, nullptr);
  EXPECT_LE(row_error(sum, want, r.m, n), 0.01)
      << parts << " shards of " << (columns ? "columns" : "rows") << " on a device";
}

}  // namespace

void check_on_devices(const Case& c, const FakeConfig& config) {
  if (c.format == "dense") return;  // the host multiplies
  try {
    check_whole(c, config, "sm80", false);
    check_whole(c, config, "sm89", false);
    if (!c.on_device) return;
    check_whole(c, config, "sm90", true);
    if (c.format == "fp8") check_whole(c, config, "sm90", false);
    if (!c.k_splits.empty()) check_shards(c, config, c.k_splits.front(), true);
    if (!c.n_splits.empty()) check_shards(c, config, c.n_splits.front(), false);
  } catch (const Refusal& r) {
    ADD_FAILURE() << "on a device: " << r.text;
  }
}

}  // namespace pluq::test
