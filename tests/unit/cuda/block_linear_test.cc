// SPDX-License-Identifier: Apache-2.0
// The dequantizing GEMV and GEMM of every block format on the emulated device, all detectors on,
// against the SDK's scalar decoders and sums in f64.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernel_device.h"
#include "pluq/float4.hpp"
#include "pluq/float8.hpp"
#include "pluq/gguf.hpp"
#include "pluq/pack.hpp"
#include "random_values.h"

namespace pluq {
namespace {

using cuda::BlockFormat;
using cuda::BlockLinear;
using cuda::BlockWeights;
using cuda::OpError;
using cuda::Real;

const cuda::QuantizedOps& ops() { return kernel_ops(); }
size_t size(int64_t n) { return static_cast<size_t>(n); }

// Weights on the device, and what they are, [N, K].
struct Weights {
  BlockWeights w;
  std::vector<double> values;
};

// y = x W^T with rows of x `pad` elements apart beyond K.
void check_linear(KernelDevice& device, const Weights& weights, int64_t m, Real x_type, Real y_type,
                  int64_t pad, bool scaled) {
  const int64_t n = weights.w.n, k = weights.w.k, ldx = k + pad;
  SCOPED_TRACE(format("format %d M %d N %d K %d x %d y %d pad %d",
                      static_cast<int>(weights.w.format), static_cast<int>(m), static_cast<int>(n),
                      static_cast<int>(k), static_cast<int>(x_type), static_cast<int>(y_type),
                      static_cast<int>(pad)));
  Random random(static_cast<uint64_t>(m * 13 + k));
  std::vector<uint16_t> x(size((m - 1) * ldx + k), 0x7fff);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < k; ++j) x[size(i * ldx + j)] = to_half(x_type, random.real(-1, 1));
  }
  std::vector<float> bias, scale;
  for (int64_t i = 0; i < n; ++i) bias.push_back(random.real(-1, 1));
  for (int64_t i = 0; i < m; ++i) scale.push_back(scaled ? random.real(0.5, 2) : 1);
  BlockLinear l;
  l.w = weights.w;
  l.m = m, l.x = device.upload(x), l.ldx = ldx, l.x_type = x_type;
  l.row_scale = scaled ? device.upload(scale) : nullptr;
  l.bias = device.upload(bias);
  l.ldy = n + 3, l.y_type = y_type;
  l.y = device.raw(size(((m - 1) * l.ldy + n) * (y_type == Real::kF32 ? 4 : 2)));
  const OpError e = ops().block_linear(device.exec(), l);
  ASSERT_FALSE(e) << e.text;
  // The GEMM rounds W to the type of x, the GEMV does not.
  const double w_error = m > cuda::kGemvRows ? store_error(x_type) : 0;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double want = bias[size(j)], magnitude = 0;
      for (int64_t c = 0; c < k; ++c) {
        const double term = scale[size(i)] *
                            static_cast<double>(from_half(x_type, x[size(i * ldx + c)])) *
                            weights.values[size(j * k + c)];
        want += term;
        magnitude += std::fabs(term);
      }
      const double got = read_y(l.y, y_type, i * l.ldy + j);
      // f16's smallest step is 2^-24, of which rounding a small W may lose a half per column.
      const double small = x_type == Real::kF16 && m > cuda::kGemvRows
                               ? static_cast<double>(k) * scale[size(i)] * 0x1p-25
                               : 0;
      const double bound = magnitude * (w_error + static_cast<double>(k + 8) * 0x1p-24) + small +
                           (std::fabs(want) + magnitude * w_error) * store_error(y_type) + 1e-7;
      ASSERT_NEAR(got, want, bound) << "row " << i << " column " << j;
    }
  }
}

void check_all_shapes(KernelDevice& device, const Weights& w) {
  for (const int64_t m : {1, 2, 5, 8, 9, 17, 65}) {
    const Real type = m % 2 == 0 ? Real::kBf16 : Real::kF16;
    check_linear(device, w, m, type, m == 5 ? Real::kF32 : type, m == 2 ? 1 : 8, m == 5 || m == 17);
  }
}

// ---------------------------------------------------------------- integer codes

struct IntCase {
  int bits;
  int64_t n, k, group;  // group 0: one
  bool zeros = false, ordered = false, offsets = false;
  int64_t k_begin = 0;
};

Weights make_int(KernelDevice& device, const IntCase& c) {
  Random random(static_cast<uint64_t>(c.bits * 100 + c.k));
  Weights out;
  BlockWeights& w = out.w;
  w.format = BlockFormat::kInt;
  w.n = c.n, w.k = c.k, w.bits = c.bits, w.group = c.group, w.k_begin = c.k_begin;
  w.groups = c.group == 0 ? 1 : (c.k_begin + c.k + c.group - 1) / c.group;
  w.code_pitch = cuda::code_pitch(c.k, c.bits);
  w.zero = static_cast<float>(1 << (c.bits - 1));
  w.offsets = c.offsets;
  std::vector<uint32_t> words(size(c.n * w.code_pitch), 0);
  std::vector<float> scales, zeros;
  std::vector<int32_t> order;
  for (int64_t i = 0; i < w.groups * c.n; ++i) {
    scales.push_back(random.real(0.01, 0.05));
    zeros.push_back(c.offsets ? random.real(-1, 1) : static_cast<float>(random.below(1 << c.bits)));
  }
  for (int64_t k = 0; k < c.k; ++k) order.push_back(random.below(static_cast<int>(w.groups)));
  for (int64_t n = 0; n < c.n; ++n) {
    for (int64_t k = 0; k < c.k; ++k) {
      const auto code = static_cast<uint32_t>(random.below(1 << c.bits));
      pack::put_stream_code(words.data() + n * w.code_pitch, 1, c.bits, k, code);
      const int64_t g = c.ordered ? order[size(k)] : c.group == 0 ? 0 : (c.k_begin + k) / c.group;
      const double s = scales[size(g * c.n + n)];
      const double z = c.zeros ? zeros[size(g * c.n + n)] : w.zero;
      out.values.push_back(c.offsets ? s * code + z : s * (code - z));
    }
  }
  w.codes = device.upload(words), w.codes_bytes = static_cast<int64_t>(words.size() * 4);
  w.scales = device.upload(scales);
  w.zeros = c.zeros ? device.upload(zeros) : nullptr;
  w.order = c.ordered ? device.upload(order) : nullptr;
  return out;
}

TEST(BlockLinear, IntegerCodesOfEveryWidth) {
  for (int bits = 2; bits <= 8; ++bits) {
    KernelDevice device;
    check_all_shapes(device, make_int(device, {bits, 19, 136, 32, bits % 2 == 0}));
  }
}

TEST(BlockLinear, IntegerCodesOfAnyGroupAndOrder) {
  KernelDevice device;
  check_all_shapes(device, make_int(device, {4, 66, 100, 0}));
  check_all_shapes(device, make_int(device, {3, 7, 90, 10, true}));
  check_all_shapes(device, make_int(device, {4, 9, 96, 24, true, true}));
  check_all_shapes(device, make_int(device, {5, 9, 64, 48, true, false, false, 16}));
  check_all_shapes(device, make_int(device, {4, 9, 64, 32, true, false, true}));
}

TEST(BlockLinear, Int8Rows) {
  KernelDevice device;
  Random random(3);
  Weights out;
  BlockWeights& w = out.w;
  w.format = BlockFormat::kByte;
  w.n = 11, w.k = 83, w.group = 20, w.groups = 5, w.codes_bytes = w.n * w.k;
  std::vector<uint8_t> codes;
  std::vector<float> scales, zeros;
  for (int64_t i = 0; i < w.n * w.groups; ++i) {
    scales.push_back(random.real(0.001, 0.005));
    zeros.push_back(static_cast<float>(random.below(256) - 128));
  }
  for (int64_t i = 0; i < w.n * w.k; ++i) {
    const auto code = static_cast<uint8_t>(random.bits());
    const int64_t g = i / w.k * w.groups + i % w.k / w.group;
    codes.push_back(code);
    out.values.push_back(static_cast<double>(scales[size(g)]) *
                         (static_cast<int8_t>(code) - zeros[size(g)]));
  }
  w.codes = device.upload(codes), w.scales = device.upload(scales), w.zeros = device.upload(zeros);
  check_all_shapes(device, out);
}

// ---------------------------------------------------------------- 4-bit floats and tables

TEST(BlockLinear, Nf4WithBlocksThatSpanRows) {
  for (const int64_t k : {128, 96, 74}) {
    KernelDevice device;
    Random random(static_cast<uint64_t>(k));
    Weights out;
    BlockWeights& w = out.w;
    w.format = BlockFormat::kNf4;
    w.n = 21, w.k = k, w.group = 64;
    std::vector<float> table(16);
    for (float& v : table) v = random.real(-1, 1);
    w.table = device.upload(table);
    std::vector<uint8_t> codes(size(w.n * k / 2));
    for (uint8_t& v : codes) v = static_cast<uint8_t>(random.bits());
    std::vector<float> scales;
    for (int64_t i = 0; i < (w.n * k + 63) / 64; ++i) scales.push_back(random.real(0.01, 0.1));
    for (int64_t i = 0; i < w.n * k; ++i) {
      const int code = codes[size(i / 2)] >> (i % 2 == 0 ? 4 : 0) & 15;
      out.values.push_back(static_cast<double>(table[size(code)]) * scales[size(i / 64)]);
    }
    w.codes = device.upload(codes), w.scales = device.upload(scales);
    check_all_shapes(device, out);
  }
}

TEST(BlockLinear, FourBitFloats) {
  for (const bool mx : {true, false}) {
    for (const int64_t k : {128, 90}) {
      KernelDevice device;
      Random random(static_cast<uint64_t>(k));
      Weights out;
      BlockWeights& w = out.w;
      const int64_t group = mx ? 32 : 16;
      w.format = mx ? BlockFormat::kMxfp4 : BlockFormat::kNvfp4;
      w.n = 18, w.k = k, w.group = group, w.groups = (k + group - 1) / group;
      w.divisor = mx ? 1 : 2700.5F;
      std::vector<uint8_t> codes(size(w.n * k / 2)), scales(size(w.n * w.groups));
      for (uint8_t& v : codes) v = static_cast<uint8_t>(random.bits());
      for (uint8_t& v : scales)
        v = static_cast<uint8_t>(mx ? 115 + random.below(8) : 1 + random.below(126));
      for (int64_t i = 0; i < w.n * k; ++i) {
        const uint8_t s = scales[size(i / k * w.groups + i % k / group)];
        const double scale = mx ? float4::from_e8m0(s) : float8::from_e4m3(s) / w.divisor;
        out.values.push_back(float4::from_e2m1(codes[size(i / 2)] >> (i % 2 * 4) & 15) * scale);
      }
      w.codes = device.upload(codes), w.scale_bytes = device.upload(scales);
      check_all_shapes(device, out);
    }
  }
}

// ---------------------------------------------------------------- GGUF

TEST(BlockLinear, EveryBlockTypeOfGguf) {
  for (const uint32_t type : {2U, 3U, 6U, 7U, 8U, 10U, 11U, 12U, 13U, 14U}) {
    SCOPED_TRACE(type);
    KernelDevice device;
    Random random(type);
    const gguf::BlockSize block = gguf::block_size(type);
    const int64_t k = block.elements == 32 ? 96 : 512, n = 10;
    Weights out;
    BlockWeights& w = out.w;
    w.format = BlockFormat::kGguf;
    w.n = n, w.k = k, w.type = static_cast<int32_t>(type);
    std::vector<uint8_t> bytes(size(n * k / block.elements * block.bytes));
    for (uint8_t& v : bytes) v = static_cast<uint8_t>(random.bits());
    for (int64_t b = 0; b < n * k / block.elements; ++b) {  // scales of a usual size
      const auto set = [&](int at) {
        const uint16_t h = float_to_half(random.real(0.001, 0.004));
        std::memcpy(&bytes[size(b * block.bytes + at)], &h, 2);
      };
      const bool at_end = type == 10 || type == 11 || type == 14;
      if (!at_end) set(0);
      if (type == 3 || type == 7 || type == 12 || type == 13) set(2);
      if (type == 10) set(80), set(82);
      if (type == 11) set(108);
      if (type == 14) set(208);
    }
    std::vector<float> row(size(k));
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_TRUE(gguf::dequantize_row(type, bytes.data() + i * (k / block.elements) * block.bytes,
                                       row.data(), k));
      out.values.insert(out.values.end(), row.begin(), row.end());
    }
    w.codes = device.upload(bytes);
    check_all_shapes(device, out);
  }
}

TEST(BlockLinear, RefusesWhatIsNotBuilt) {
  KernelDevice device;
  BlockLinear l;
  l.w.format = BlockFormat::kGguf, l.w.type = 99, l.w.n = 1, l.m = 1;
  EXPECT_EQ(ops().block_linear(device.exec(), l).text,
            "block_linear, block type of GGUF: kind 99 is not linked into this plugin");
  l.w.type = 12, l.w.n = 0, l.w.codes = device.upload(std::vector<uint8_t>(160)) + 2;
  EXPECT_EQ(ops().block_linear(device.exec(), l).text,
            "block_linear: blocks of GGUF do not begin at a multiple of 16 bytes");
  l.w.format = BlockFormat::kInt, l.w.n = 1, l.x_type = Real::kF32;
  EXPECT_EQ(ops().block_linear(device.exec(), l).status, PLUQ_STATUS_UNSUPPORTED);
}

}  // namespace
}  // namespace pluq
