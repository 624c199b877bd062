// SPDX-License-Identifier: Apache-2.0
// The kernels of sdk/examples/cuda_log4 on the emulated device, all detectors on, against sums in
// f64. Weights are exact in f16 and bf16, so only the order of sums and the rounding of y differ.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "cuda_log4/log4_gemm.h"
#include "emulated_device.h"
#include "random_values.h"

namespace pluq {
namespace {

using cuda::Real;

size_t size(int64_t n) { return static_cast<size_t>(n); }

struct Layer {
  int64_t n, k;
  uint32_t* packed;
  float* scale;
  std::vector<double> values;  // [N, K]
};

Layer make_layer(EmulatedDevice& device, int64_t n, int64_t k) {
  Random random(static_cast<uint64_t>(n * 7 + k));
  Layer out{n,
            k,
            device.fresh<uint32_t>(size(log4::packed_words(n, k))),
            device.fresh<float>(size(n)),
            {}};
  std::vector<uint8_t> codes(size(n * k / 2));
  std::vector<float> scale(size(n));
  for (uint8_t& c : codes) c = static_cast<uint8_t>(random.bits());
  for (float& s : scale) s = random.real(0.01, 0.1);
  for (int64_t i = 0; i < n * k; ++i) {
    const int code = codes[size(i / 2)] >> (i % 2 * 4) & 15;
    out.values.push_back(static_cast<double>(scale[size(i / k)]) * ((code & 8) != 0 ? -1 : 1) *
                         std::exp2(-(code & 7)));
  }
  const auto error = log4::repack(
      device.exec(), {device.upload(codes), device.upload(scale), n, k, out.packed, out.scale});
  EXPECT_FALSE(error) << error.text;
  return out;
}

void check_gemm(EmulatedDevice& device, const Layer& l, int64_t m, Real x_type, Real y_type,
                int64_t pad, bool with_bias, int64_t splits) {
  SCOPED_TRACE(format("M %d N %d K %d x %d y %d pad %d splits %d", static_cast<int>(m),
                      static_cast<int>(l.n), static_cast<int>(l.k), static_cast<int>(x_type),
                      static_cast<int>(y_type), static_cast<int>(pad), static_cast<int>(splits)));
  Random random(static_cast<uint64_t>(m * 13 + l.k));
  log4::Gemm g{l.packed, l.scale, l.n, l.k, nullptr, splits, {}};
  g.io.m = m, g.io.ldx = l.k + pad, g.io.ldy = l.n + pad;
  g.io.x_type = x_type, g.io.y_type = y_type;
  std::vector<uint16_t> x(size((m - 1) * g.io.ldx + l.k), 0x7fff);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < l.k; ++j)
      x[size(i * g.io.ldx + j)] = to_half(x_type, random.real(-1, 1));
  }
  std::vector<float> bias;
  for (int64_t j = 0; j < l.n; ++j) bias.push_back(random.real(-1, 1));
  if (splits > 1) g.partial = device.fresh<float>(size(splits * std::min(m, log4::kFewRows) * l.n));
  g.io.x = device.upload(x);
  if (with_bias) g.io.bias = device.upload(bias);
  g.io.y = device.raw(size(((m - 1) * g.io.ldy + l.n) * (y_type == Real::kF32 ? 4 : 2)));
  const auto error = log4::gemm(device.exec(), g);
  ASSERT_FALSE(error) << error.text;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < l.n; ++j) {
      double want = with_bias ? static_cast<double>(bias[size(j)]) : 0, magnitude = 0;
      for (int64_t c = 0; c < l.k; ++c) {
        const double term = static_cast<double>(from_half(x_type, x[size(i * g.io.ldx + c)])) *
                            l.values[size(j * l.k + c)];
        want += term;
        magnitude += std::fabs(term);
      }
      const double bound = magnitude * static_cast<double>(l.k + 8) * 0x1p-24 +
                           std::fabs(want) * store_error(y_type) + 1e-7;
      ASSERT_NEAR(read_y(g.io.y, y_type, i * g.io.ldy + j), want, bound)
          << "row " << i << " column " << j;
    }
  }
}

TEST(ExampleLog4, EveryBatch) {
  EmulatedDevice device(80);
  const Layer l = make_layer(device, 72, 136);
  for (const int64_t m : {1, 2, 5, 16, 17, 33, 64, 65}) {
    check_gemm(device, l, m, Real::kBf16, Real::kBf16, m == 5 ? 3 : 0, m % 2 == 1, 1);
    check_gemm(device, l, m, Real::kF16, Real::kF32, m == 33 ? 1 : 8, m % 2 == 0, 1);
  }
}

TEST(ExampleLog4, EdgesOfTiles) {
  EmulatedDevice device(90);
  for (const auto& [n, k] :
       {std::pair<int64_t, int64_t>{1, 8}, {7, 64}, {8, 72}, {9, 56}, {65, 200}}) {
    const Layer l = make_layer(device, n, k);
    check_gemm(device, l, 3, Real::kBf16, Real::kF32, 0, true, 1);
    check_gemm(device, l, 18, Real::kF16, Real::kF16, 5, false, 1);
  }
}

TEST(ExampleLog4, PartsOfColumns) {
  EmulatedDevice device(89);
  const Layer l = make_layer(device, 40, 712);
  EXPECT_EQ(log4::splits(40, 712, 4), 6);
  EXPECT_EQ(log4::splits(4096, 4096, 4), 1);
  for (const int64_t splits : {2, 5, 6}) {
    check_gemm(device, l, 1, Real::kBf16, Real::kBf16, 0, true, splits);
    check_gemm(device, l, 16, Real::kF16, Real::kF32, 3, false, splits);
    check_gemm(device, l, 17, Real::kF16, Real::kF32, 0, false, splits);  // not split
  }
}

TEST(ExampleLog4, RefusesF32) {
  EmulatedDevice device(80);
  const Layer l = make_layer(device, 8, 64);
  log4::Gemm g{l.packed, l.scale, 8, 64, nullptr, 1, {}};
  g.io.m = 1, g.io.x_type = Real::kF32;
  const auto error = log4::gemm(device.exec(), g);
  EXPECT_EQ(error.status, PLUQ_STATUS_UNSUPPORTED);
  EXPECT_NE(error.text.find("x is F32"), std::string::npos) << error.text;
}

}  // namespace
}  // namespace pluq
