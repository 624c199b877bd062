// SPDX-License-Identifier: Apache-2.0
// Rounding of activations and the 8-bit GEMM on the emulated device, all detectors on, against
// scalar code and sums in f64.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernel_device.h"
#include "pluq/float8.hpp"
#include "random_values.h"
#include "rounding_oracle.h"

namespace pluq {
namespace {

using cuda::ByteGemm;
using cuda::ByteKind;
using cuda::OpError;
using cuda::Real;
using cuda::RoundActivations;
using cuda::RoundMode;

const cuda::QuantizedOps& ops() { return kernel_ops(); }

// ---------------------------------------------------------------- rounding

void check_rounding(RoundActivations r, Real type, int64_t m, int64_t k, bool odd_row) {
  SCOPED_TRACE("mode " + std::to_string(static_cast<int>(r.mode)) + " M " + std::to_string(m) +
               " K " + std::to_string(k) + " type " + std::to_string(static_cast<int>(type)));
  KernelDevice device;
  Random random(static_cast<uint64_t>(k * 7 + m));
  const int64_t ld = k + 3, pitch = cuda::byte_pitch(k);
  std::vector<uint16_t> stored(static_cast<size_t>((m - 1) * ld + k), 0x7fff);
  std::vector<float> x;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      float v = i == 1 ? 0.0F : random.real(-3, 2) * (i == 2 ? 1e-3F : 1.0F);
      if (odd_row && i == 2 && j == k / 2) v = INFINITY;
      if (odd_row && i == 3 && j == k / 3) v = NAN;
      if (odd_row && i == 4) v = j == k / 2 ? NAN : 0.0F;
      const uint16_t h = to_half(type, v);
      stored[static_cast<size_t>(i * ld + j)] = h;
      x.push_back(from_half(type, h));
    }
  }
  const int64_t runs = r.mode == RoundMode::kFp8Group ? (k + r.group - 1) / r.group : 1;
  const bool int8 = static_cast<int>(r.mode) <= 2;
  const int64_t sums = r.sum_group == 0 ? 1 : (k + r.sum_group - 1) / r.sum_group;
  r.m = m, r.k = k, r.ldx = ld, r.x_type = type;
  r.x = device.upload(stored);
  auto* codes = device.array<uint8_t>(static_cast<size_t>(m * pitch * (r.as_f16 ? 2 : 1)), 0xee);
  auto* scales = device.array<float>(static_cast<size_t>(m * runs), -1);
  r.codes = codes, r.scales = scales;
  if (int8) {
    r.zeros = device.array<int32_t>(static_cast<size_t>(m), -1);
    r.sums = device.array<int32_t>(static_cast<size_t>(m * sums), -1);
  }
  const OpError e = ops().round(device.exec(), r);
  ASSERT_FALSE(e) << e.text;
  const Rounded want = round_on_host(x, m, k, r);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < pitch; ++j) {
      const int expect = j < k ? want.codes[static_cast<size_t>(i * k + j)] : 0;
      if (r.as_f16) {
        uint16_t h;
        std::memcpy(&h, codes + (i * pitch + j) * 2, 2);
        const float value = float8::from_e4m3(static_cast<uint8_t>(expect));
        ASSERT_TRUE(Tensor::half(h) == value || (std::isnan(Tensor::half(h)) && std::isnan(value)))
            << i << " " << j;
      } else {
        ASSERT_EQ(codes[i * pitch + j], expect) << i << " " << j;
      }
    }
    for (int64_t g = 0; g < runs; ++g) {
      const float s = want.scales[static_cast<size_t>(i * runs + g)], got = scales[i * runs + g];
      if (std::isnan(s)) {
        EXPECT_TRUE(std::isnan(got)) << i;
      } else {
        EXPECT_EQ(got, s) << i << " " << g;
      }
    }
    if (!int8) continue;
    EXPECT_EQ(r.zeros[i], want.zeros[static_cast<size_t>(i)]);
    for (int64_t g = 0; g < sums; ++g)
      EXPECT_EQ(r.sums[i * sums + g], want.sums[static_cast<size_t>(i * sums + g)]);
  }
}

TEST(RoundActivations, EqualsTheCpuBitForBit) {
  for (const Real type : {Real::kF16, Real::kBf16}) {
    for (const int64_t k : {1, 64, 130, 333}) {
      for (const RoundMode mode :
           {RoundMode::kInt8Token, RoundMode::kInt8TokenAsym, RoundMode::kInt8Static,
            RoundMode::kFp8Token, RoundMode::kFp8Group, RoundMode::kFp8Static}) {
        RoundActivations r;
        r.mode = mode;
        r.static_scale = 0.0131F;
        r.static_zero = mode == RoundMode::kInt8Static ? -17 : 0;
        r.group = 128;
        r.sum_group = k > 64 ? 64 : 0;
        r.as_f16 = k == 130 && static_cast<int>(mode) > 2;
        r.bound = mode == RoundMode::kFp8Token ? 1.5F : 0;
        check_rounding(r, type, 5, k, true);
      }
    }
  }
}

// ---------------------------------------------------------------- products

struct Case {
  ByteKind kind;
  int64_t m, n, k;
  int64_t a_group = 0, b_group = 0, b_rows = 1;
  bool a_zero = false, b_zero = false, bias = true;
  Real y_type = Real::kF32;
  int splits = 1;
  bool direct = false;  // 16-bit x with rows as they come
  uint32_t sm = 0, sm_count = 0;
  int64_t pad = 1;  // columns between rows of y
};

std::string text(const Case& c) {
  return format(
      "kind %d M %d N %d K %d groups %d %d rows %d zeros %d %d splits %d direct %d "
      "type %d sm %d count %d",
      static_cast<int>(c.kind), static_cast<int>(c.m), static_cast<int>(c.n), static_cast<int>(c.k),
      static_cast<int>(c.a_group), static_cast<int>(c.b_group), static_cast<int>(c.b_rows),
      c.a_zero, c.b_zero, c.splits, c.direct, static_cast<int>(c.y_type), static_cast<int>(c.sm),
      static_cast<int>(c.sm_count));
}

uint8_t fp8_code(Random& random, bool e5m2) {
  const auto code = static_cast<uint8_t>(random.bits());
  return e5m2 ? static_cast<uint8_t>(code & 0xbfU) : static_cast<uint8_t>(code & 0xf7U);
}

// y: [M, N], for comparisons between kernels.
void check_product(const Case& c, uint32_t sm, std::vector<double>* y = nullptr) {
  SCOPED_TRACE(text(c));
  KernelDevice device(sm);
  Random random(static_cast<uint64_t>(c.m * 31 + c.n * 7 + c.k));
  const bool wide = cuda::byte_kind_wide(c.kind);
  const bool bf16 = c.kind == ByteKind::kBf16E4m3 || c.kind == ByteKind::kBf16E5m2;
  const bool e5m2 = c.kind == ByteKind::kF16E5m2 || c.kind == ByteKind::kBf16E5m2;
  const Real x_type = bf16 ? Real::kBf16 : Real::kF16;
  const int64_t pitch = cuda::byte_pitch(c.k), lda = c.direct ? c.k + 8 : pitch;
  const auto size = [](int64_t n) { return static_cast<size_t>(n); };
  std::vector<double> a(size(c.m * c.k)), b(size(c.n * c.k));
  std::vector<uint8_t> a_bytes(size(((c.m - 1) * lda + (c.direct ? c.k : lda)) * (wide ? 2 : 1)),
                               0);
  std::vector<uint8_t> w(size(c.n * c.k));
  for (int64_t i = 0; i < c.m; ++i) {
    for (int64_t j = 0; j < c.k; ++j) {
      double& v = a[size(i * c.k + j)];
      if (wide) {
        const uint16_t h = to_half(x_type, random.real(-2, 2));
        std::memcpy(&a_bytes[size((i * lda + j) * 2)], &h, 2);
        v = from_half(x_type, h);
      } else {
        const uint8_t code =
            c.kind == ByteKind::kS8 ? static_cast<uint8_t>(random.bits()) : fp8_code(random, false);
        a_bytes[size(i * lda + j)] = code;
        v = c.kind == ByteKind::kS8 ? static_cast<int8_t>(code) : float8::from_e4m3(code);
      }
    }
  }
  for (int64_t i = 0; i < c.n * c.k; ++i) {
    const uint8_t code =
        c.kind == ByteKind::kS8 ? static_cast<uint8_t>(random.bits()) : fp8_code(random, e5m2);
    w[size(i)] = code;
    b[size(i)] = c.kind == ByteKind::kS8 ? static_cast<int8_t>(code)
                 : e5m2                  ? float8::from_e5m2(code)
                                         : float8::from_e4m3(code);
  }
  const int64_t a_groups = c.a_group == 0 ? 1 : (c.k + c.a_group - 1) / c.a_group;
  const int64_t b_groups = c.b_group == 0 ? 1 : (c.k + c.b_group - 1) / c.b_group;
  const int64_t b_scales = (c.n + c.b_rows - 1) / c.b_rows * b_groups;
  std::vector<float> a_scale, b_scale, bias;
  for (int64_t i = 0; i < c.m * a_groups; ++i) a_scale.push_back(random.real(0.5, 1.5));
  for (int64_t i = 0; i < b_scales; ++i) b_scale.push_back(random.real(0.001, 0.003));
  for (int64_t i = 0; i < c.n; ++i) bias.push_back(random.real(-1, 1));
  std::vector<int32_t> a_zero, b_zero, a_sum;
  for (int64_t i = 0; i < c.m; ++i) a_zero.push_back(random.below(256) - 128);
  for (int64_t i = 0; i < c.n * b_groups; ++i) b_zero.push_back(random.below(256) - 128);

  auto* packed = device.fresh<uint8_t>(size(c.n * pitch));
  OpError e = ops().pack_bytes(device.exec(), {device.upload(w), c.n, c.k, packed, pitch, wide});
  ASSERT_FALSE(e) << e.text;
  ByteGemm g;
  g.kind = c.kind, g.m = c.m, g.n = c.n, g.k = c.k, g.lda = lda;
  g.a = device.upload(a_bytes), g.b = packed;
  const bool scaled_a = !wide || c.a_group != 0;
  g.a_scale = scaled_a ? device.upload(a_scale) : nullptr;
  g.b_scale = device.upload(b_scale);
  g.a_group = c.a_group, g.b_group = c.b_group, g.b_rows = c.b_rows;
  if (c.b_zero) {
    g.b_zero = device.upload(b_zero);
    const int64_t run = c.b_group == 0 ? c.k : c.b_group;
    for (int64_t i = 0; i < c.m; ++i) {
      for (int64_t r = 0; r < b_groups; ++r) {
        double sum = 0;
        for (int64_t j = r * run; j < std::min((r + 1) * run, c.k); ++j)
          sum += a[size(i * c.k + j)];
        a_sum.push_back(static_cast<int32_t>(sum));
      }
    }
    g.a_sum = device.upload(a_sum);
  }
  if (c.a_zero) {
    g.a_zero = device.upload(a_zero);
    auto* sums = device.fresh<int32_t>(size(c.n * b_groups));
    e = ops().sum_bytes(device.exec(), {packed, c.n, c.k, pitch, c.b_group, g.b_zero, sums});
    ASSERT_FALSE(e) << e.text;
    g.b_sum = sums;
  }
  g.bias = c.bias ? device.upload(bias) : nullptr;
  g.ldy = c.n + c.pad, g.y_type = c.y_type, g.splits = c.splits;
  g.sm = c.sm, g.sm_count = c.sm_count;
  const int64_t y_bytes = c.y_type == Real::kF32 ? 4 : 2;
  g.y = device.raw(size(((c.m - 1) * g.ldy + c.n) * y_bytes));
  if (c.splits > 1) g.partial = device.fresh<float>(size(c.splits * c.m * c.n));
  e = ops().byte_gemm(device.exec(), g);
  ASSERT_FALSE(e) << e.text;

  for (int64_t i = 0; i < c.m; ++i) {
    for (int64_t n = 0; n < c.n; ++n) {
      double want = c.bias ? bias[size(n)] : 0, magnitude = std::fabs(want);
      for (int64_t j = 0; j < c.k; ++j) {
        const int64_t gb = c.b_group == 0 ? 0 : j / c.b_group;
        const double as =
            scaled_a ? a_scale[size(i * a_groups + (c.a_group == 0 ? 0 : j / c.a_group))] : 1;
        const double bs = b_scale[size(n / c.b_rows * b_groups + gb)];
        const double av = a[size(i * c.k + j)] - (c.a_zero ? a_zero[size(i)] : 0);
        const double bv = b[size(n * c.k + j)] - (c.b_zero ? b_zero[size(n * b_groups + gb)] : 0);
        want += as * bs * av * bv;
        magnitude += std::fabs(as * bs * av * bv);
      }
      const double got = read_y(g.y, c.y_type, i * g.ldy + n);
      if (y != nullptr) y->push_back(got);
      // f32 sums of K terms in any order, and storing. Sums of e4m3 products in the tensor cores of
      // a GPU keep fewer bits than f32.
      const double summing = static_cast<double>(c.k + 8) * 0x1p-24 +
                             (KernelDevice::on_gpu() && c.kind == ByteKind::kE4m3 ? 0x1p-10 : 0);
      const double bound = magnitude * summing + std::fabs(want) * store_error(c.y_type) + 1e-12;
      ASSERT_NEAR(got, want, bound) << "row " << i << " column " << n;
    }
  }
}

TEST(ByteGemm, Int8OfOddShapes) {
  for (const int64_t m : {1, 2, 5, 16, 17, 33, 64, 65, 129})
    check_product({ByteKind::kS8, m, 70, 136}, 80);
  for (const int64_t n : {1, 127, 128, 130}) check_product({ByteKind::kS8, 3, n, 64}, 80);
  for (const int64_t k : {1, 63, 65, 320}) check_product({ByteKind::kS8, 18, 40, k}, 80);
}

TEST(ByteGemm, Int8ZeroPointsAndGroups) {
  for (const bool a_zero : {false, true}) {
    for (const bool b_zero : {false, true}) {
      Case c{ByteKind::kS8, 17, 66, 200};
      c.a_zero = a_zero, c.b_zero = b_zero;
      check_product(c, 80);
      c.b_group = 64, c.m = 5;
      check_product(c, 80);
      c.b_group = 32, c.k = 416, c.splits = 3;
      check_product(c, 80);
    }
  }
}

TEST(ByteGemm, PartsOfKAreAddedInOrder) {
  for (const int splits : {2, 3, 5}) {
    Case c{ByteKind::kS8, 9, 130, 600};
    c.splits = splits, c.y_type = Real::kF16;
    check_product(c, 80);
    c.kind = ByteKind::kE4m3, c.a_group = 128, c.b_group = 128, c.b_rows = 128;
    check_product(c, 90);
  }
}

TEST(ByteGemm, Fp8OnUnitsOfSm89) {
  for (const uint32_t sm : {89U, 90U}) {
    for (const int64_t m : {1, 17, 65}) {
      Case c{ByteKind::kE4m3, m, 140, 330};
      c.y_type = Real::kBf16;
      check_product(c, sm);  // per token, per channel
      c.b_rows = 140;
      check_product(c, sm);  // per tensor
      c.a_group = 128, c.b_group = 128, c.b_rows = 128, c.bias = false;
      check_product(c, sm);  // blocks
      c.b_group = 0, c.b_rows = 1;
      check_product(c, sm);  // activations in groups only
    }
  }
}

TEST(ByteGemm, Fp8NeedsSm89) {
  if (KernelDevice::on_gpu()) GTEST_SKIP() << "what the emulator refuses";
  KernelDevice device(80);
  ByteGemm g;
  g.kind = ByteKind::kE4m3, g.m = 1, g.n = 1, g.k = 64, g.lda = 64, g.ldy = 1;
  g.a = device.array<uint8_t>(64), g.b = device.array<uint8_t>(64);
  g.a_scale = g.b_scale = device.array<float>(1, 1.0F);
  g.y_type = Real::kF32, g.y = device.array<float>(1);
  const OpError e = ops().byte_gemm(device.exec(), g);
  EXPECT_NE(e.text.find("needs sm_89"), std::string::npos) << e.text;
}

TEST(ByteGemm, SixteenBitActivations) {
  for (const ByteKind kind :
       {ByteKind::kF16E4m3, ByteKind::kF16E5m2, ByteKind::kBf16E4m3, ByteKind::kBf16E5m2}) {
    for (const int64_t m : {1, 16, 33, 65}) {
      Case c{kind, m, 72, 200};
      c.y_type = Real::kF16;
      c.direct = m != 33;
      check_product(c, 80);
    }
    Case c{kind, 5, 130, 330};
    c.a_group = 128, c.b_group = 128, c.b_rows = 128, c.splits = 2;
    check_product(c, 80);
    c.b_group = 32, c.b_rows = 1, c.a_group = 0, c.splits = 1;
    check_product(c, 80);
  }
}

TEST(ByteGemm, RefusesWhatItCannotDo) {
  KernelDevice device;
  ByteGemm g;
  g.m = 1, g.n = 1, g.k = 128, g.lda = 128, g.ldy = 1;
  g.a = device.array<uint8_t>(128), g.b = device.array<uint8_t>(128);
  g.b_group = 48;
  EXPECT_EQ(ops().byte_gemm(device.exec(), g).text, "byte_gemm: scales change within 32 columns");
  g.b_group = 0, g.lda = 100;
  EXPECT_NE(ops().byte_gemm(device.exec(), g).text.find("16 bytes"), std::string::npos);
  g.lda = 112;
  EXPECT_NE(ops().byte_gemm(device.exec(), g).text.find("padded"), std::string::npos);
}

// ---------------------------------------------------------------- products by wgmma

bool has_wgmma() { return !KernelDevice::on_gpu() || KernelDevice::gpu_capability() == 90; }

// The product by wgmma against f64, and against the kernel for other devices. The number of
// multiprocessors chooses the columns of a tile: many make it 64, one per tile of 128 columns makes
// it 128 (more than 64 columns of y), and one, whose block makes all tiles, 256 (more than 128).
void check_both(Case c) {
  std::vector<double> other, by_wgmma;
  check_product(c, 90, &other);
  c.sm = 90;
  const auto tiles = static_cast<uint32_t>((c.m + 127) / 128 * ((c.n + 127) / 128));
  for (const uint32_t count : {132U, tiles, 1U}) {
    if (count == 1 && tiles == 1) continue;
    c.sm_count = count;
    by_wgmma.clear();
    check_product(c, 90, &by_wgmma);
    if (c.kind == ByteKind::kS8) {
      EXPECT_EQ(by_wgmma, other) << text(c);
    }
  }
}

TEST(ByteWgmma, Int8OfOddShapes) {
  if (!has_wgmma()) GTEST_SKIP() << "wgmma is of compute capability 9.0";
  for (const int64_t m : {65, 129, 200}) check_both({ByteKind::kS8, m, 131, 136});
  for (const int64_t n : {1, 8, 127, 128, 257}) check_both({ByteKind::kS8, 70, n, 72});
  for (const int64_t k : {1, 63, 129, 1000}) check_both({ByteKind::kS8, 66, 40, k});
  check_both({ByteKind::kS8, 130, 270, 600});  // more tiles in a block than stages in flight
  for (const Real type : {Real::kF16, Real::kBf16, Real::kF32}) {
    for (const int64_t pad : {1, 2, 8}) {  // elements of y are stored singly, in pairs, in eights
      Case c{ByteKind::kS8, 67, pad == 8 ? 136 : 130, 96};
      c.y_type = type, c.pad = pad, c.bias = pad == 1;
      check_both(c);
    }
  }
}

TEST(ByteWgmma, Int8ZeroPointsAndGroups) {
  if (!has_wgmma()) GTEST_SKIP() << "wgmma is of compute capability 9.0";
  for (const bool a_zero : {false, true}) {
    for (const bool b_zero : {false, true}) {
      Case c{ByteKind::kS8, 66, 67, 200};
      c.a_zero = a_zero, c.b_zero = b_zero;
      check_both(c);
      c.b_group = 128, c.k = 333, c.m = 130;
      check_both(c);
      c.b_group = 256, c.k = 700, c.m = 65;
      check_both(c);
    }
  }
  Case c{ByteKind::kS8, 65, 130, 300};
  c.b_rows = 130;  // per tensor
  check_both(c);
  c.m = 130, c.k = 700, c.b_rows = 1, c.b_group = 128, c.b_zero = true;
  check_both(c);  // more tiles in a block than stages in flight
}

TEST(ByteWgmma, Fp8) {
  if (!has_wgmma()) GTEST_SKIP() << "wgmma is of compute capability 9.0";
  for (const int64_t m : {65, 129, 200}) {
    Case c{ByteKind::kE4m3, m, 261, 330};
    c.y_type = Real::kBf16;
    check_both(c);  // per token, per channel
    c.b_rows = 261;
    check_both(c);  // per tensor
    c.a_group = 128, c.b_group = 128, c.b_rows = 128, c.bias = false;
    check_both(c);  // blocks
  }
  for (const int64_t k : {1, 63, 129, 1000}) {
    Case c{ByteKind::kE4m3, 66, 40, k};
    c.a_group = 128;
    check_both(c);  // activations in groups only
    c.a_group = 0, c.b_group = 256, c.b_rows = 256;
    check_both(c);  // larger blocks
  }
  for (const Real type : {Real::kF16, Real::kBf16, Real::kF32}) {
    Case c{ByteKind::kE4m3, 67, 136, 96};
    c.y_type = type, c.pad = 8;
    check_both(c);
  }
}

// The emulated device is older than the one that is named, so the kernel with wgmma does not fit.
TEST(ByteWgmma, IsTakenWhereItFits) {
  if (KernelDevice::on_gpu()) GTEST_SKIP() << "what the emulator refuses";
  const auto takes = [](auto change) {
    KernelDevice device(89);
    ByteGemm g;
    g.m = 65, g.n = 2, g.k = 256, g.lda = 256, g.ldy = 2, g.sm = 90;
    g.a = device.array<uint8_t>(65 * 256), g.b = device.array<uint8_t>(2 * 256);
    g.a_scale = device.array<float>(65 * 8, 1.0F), g.b_scale = device.array<float>(16, 1.0F);
    g.y_type = Real::kF32, g.y = device.array<float>(65 * 2);
    change(g);
    const OpError e = ops().byte_gemm(device.exec(), g);
    EXPECT_TRUE(!e || e.text.rfind("kernel byte_wgmma_kernel: ", 0) == 0) << e.text;
    return static_cast<bool>(e);
  };
  EXPECT_TRUE(takes([](ByteGemm&) {}));
  EXPECT_TRUE(takes([](ByteGemm& g) { g.kind = ByteKind::kE4m3; }));
  EXPECT_TRUE(takes([](ByteGemm& g) { g.b_group = 128; }));
  EXPECT_TRUE(takes([](ByteGemm& g) { g.b_group = 48, g.k = 48; }));  // one group
  EXPECT_TRUE(
      takes([](ByteGemm& g) { g.kind = ByteKind::kE4m3, g.a_group = g.b_group = g.b_rows = 128; }));
  EXPECT_FALSE(takes([](ByteGemm& g) { g.sm = 0; }));
  EXPECT_FALSE(takes([](ByteGemm& g) { g.sm = 100; }));
  EXPECT_FALSE(takes([](ByteGemm& g) { g.m = 64; }));
  EXPECT_FALSE(takes([](ByteGemm& g) { g.b_group = 64; }));
  EXPECT_FALSE(takes([](ByteGemm& g) { g.kind = ByteKind::kE4m3, g.b_group = 128; }));
}

TEST(ByteWgmma, WiderTilesWhereThatSavesRounds) {
  EXPECT_EQ(cuda::byte_wgmma_columns(128, 4096, 132), 64);    // one round of any
  EXPECT_EQ(cuda::byte_wgmma_columns(512, 4096, 132), 128);   // one round, not two
  EXPECT_EQ(cuda::byte_wgmma_columns(512, 6144, 132), 256);   // one, not two or three
  EXPECT_EQ(cuda::byte_wgmma_columns(512, 28672, 132), 256);  // four, not seven or fourteen
  EXPECT_EQ(cuda::byte_wgmma_columns(65, 1, 0), 64);
  // As the tests above count on.
  EXPECT_EQ(cuda::byte_wgmma_columns(129, 261, 132), 64);
  EXPECT_EQ(cuda::byte_wgmma_columns(129, 261, 6), 128);
  EXPECT_EQ(cuda::byte_wgmma_columns(129, 261, 1), 256);
}

// A NaN in a row's scale, a code of x or W, or an infinite scale spoils its row or column, no other
// one, in a tile whose rows and columns end.
TEST(ByteWgmma, NansStayInTheirRowsAndColumns) {
  if (!has_wgmma()) GTEST_SKIP() << "wgmma is of compute capability 9.0";
  constexpr int64_t kM = 70, kN = 9, kK = 192;
  for (const ByteKind kind : {ByteKind::kS8, ByteKind::kE4m3}) {
    const bool fp8 = kind == ByteKind::kE4m3;
    KernelDevice device(90);
    std::vector<uint8_t> a(kM * kK, fp8 ? 0x38 : 1), b(kN * kK, fp8 ? 0x38 : 1);  // ones
    std::vector<float> a_scale(kM, 1.0F), b_scale(kN, 1.0F);
    a_scale[3] = NAN, a_scale[69] = INFINITY, b_scale[8] = NAN;
    if (fp8) a[5 * kK + 150] = 0x7f, b[2 * kK + 1] = 0xff;
    ByteGemm g;
    g.kind = kind, g.m = kM, g.n = kN, g.k = kK, g.lda = kK, g.ldy = kN, g.sm = 90;
    g.a = device.upload(a), g.b = device.upload(b);
    g.a_scale = device.upload(a_scale), g.b_scale = device.upload(b_scale);
    g.y_type = Real::kF16, g.y = device.array<uint16_t>(kM * kN);
    const OpError e = ops().byte_gemm(device.exec(), g);
    ASSERT_FALSE(e) << e.text;
    for (int64_t m = 0; m < kM; ++m) {
      for (int64_t n = 0; n < kN; ++n) {
        const double y = read_y(g.y, Real::kF16, m * kN + n);
        const bool spoilt = m == 3 || n == 8 || (fp8 && (m == 5 || n == 2));
        EXPECT_EQ(std::isnan(y), spoilt) << m << ' ' << n;
        if (!spoilt) {
          EXPECT_EQ(y, m == 69 ? INFINITY : 192.0) << m << ' ' << n;
        }
      }
    }
  }
}

TEST(Upload, CarriesAnyNumberOfBytes) {
  for (const int64_t bytes : {1, 3072, 3073, 10001}) {
    KernelDevice device;
    std::vector<uint8_t> source(static_cast<size_t>(bytes));
    Random random(9);
    for (uint8_t& v : source) v = static_cast<uint8_t>(random.bits());
    auto* out = device.array<uint8_t>(source.size());
    const OpError e = ops().upload(device.exec(), source.data(), bytes, out);
    ASSERT_FALSE(e) << e.text;
    EXPECT_TRUE(std::equal(source.begin(), source.end(), out));
  }
}

}  // namespace
}  // namespace pluq
