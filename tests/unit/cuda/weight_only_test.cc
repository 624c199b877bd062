// SPDX-License-Identifier: Apache-2.0
// Products with 4- and 8-bit integer weights on the emulated device, all detectors on, against sums
// in f64; the repacking from each checkpoint layout, bit by bit; and W itself.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernel_device.h"
#include "pluq/pack.hpp"
#include "random_values.h"

namespace pluq {
namespace {

using cuda::OpError;
using cuda::Real;
using cuda::WeightOnly;

const cuda::QuantizedOps& ops() { return kernel_ops(); }
size_t size(int64_t n) { return static_cast<size_t>(n); }

struct Case {
  int64_t m, n, k, group;
  int bits;
  bool zeros, bf16, scales_bf16;
  int y;  // Real
  uint32_t sm_count;
};

// The layout as weight_only.h describes it, written down a second time.
std::vector<uint32_t> pack(const std::vector<uint8_t>& codes, int64_t n, int64_t k, int bits) {
  std::vector<uint32_t> out(size(n * k * bits / 32), 0);
  for (int64_t row = 0; row < n; ++row) {
    for (int64_t column = 0; column < k; ++column) {
      const uint32_t code = codes[size(row * k + column)];
      const int64_t slab = column / 16 * (n / 64) + row / 64;
      const int64_t in_row = row % 64, tile = in_row / 16, lower = in_row % 16 / 8, g = in_row % 8;
      const int64_t in_column = column % 16, upper = in_column / 8, t = in_column % 8 / 2,
                    odd = in_column % 2;
      const int64_t lane = 4 * g + t;
      if (bits == 4) {
        const int64_t word = slab * 128 + lane * 4 + tile;
        out[size(word)] |= code << (4 * (4 * odd + 2 * lower + upper));
      } else {
        const int64_t word = slab * 256 + tile / 2 * 128 + lane * 4 + tile % 2 * 2 + lower;
        out[size(word)] |= code << (8 * (2 * upper + odd));
      }
    }
  }
  return out;
}

struct Layer {
  std::vector<uint8_t> codes;   // [N, K]
  std::vector<double> values;   // [N, K]
  std::vector<uint16_t> table;  // scales and zeros
};

Layer make_layer(const Case& c, Random* random) {
  Layer out;
  const int64_t group = c.group == 0 ? c.k : c.group, groups = (c.k + group - 1) / group,
                kinds = c.zeros ? 2 : 1;
  const Real type = c.scales_bf16 ? Real::kBf16 : Real::kF16;
  const int middle = 1 << (c.bits - 1);
  for (int64_t i = 0; i < c.n * c.k; ++i)
    out.codes.push_back(static_cast<uint8_t>(random->below(1 << c.bits)));
  out.table.resize(size(groups * kinds * c.n));
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t n = 0; n < c.n; ++n) {
      out.table[size(g * kinds * c.n + n)] = to_half(type, random->real(0.01, 0.1));
      if (c.zeros) {
        const int zero = random->below(1 << c.bits);
        out.table[size((g * kinds + 1) * c.n + n)] =
            to_half(type, static_cast<float>(zero - middle));
      }
    }
  }
  out.values.resize(size(c.n * c.k));
  for (int64_t n = 0; n < c.n; ++n) {
    for (int64_t k = 0; k < c.k; ++k) {
      const int64_t g = k / group;
      const double scale = from_half(type, out.table[size(g * kinds * c.n + n)]);
      const double zero = middle + (c.zeros ? static_cast<double>(from_half(
                                                  type, out.table[size((g * kinds + 1) * c.n + n)]))
                                            : 0.0);
      out.values[size(n * c.k + k)] = scale * (out.codes[size(n * c.k + k)] - zero);
    }
  }
  return out;
}

WeightOnly describe(KernelDevice& device, uint32_t sm, const Case& c, const Layer& layer) {
  WeightOnly w;
  w.m = c.m, w.n = c.n, w.k = c.k, w.bits = c.bits, w.group = c.group, w.zeros = c.zeros;
  w.codes = device.upload(pack(layer.codes, c.n, c.k, c.bits));
  w.scales = device.upload(layer.table);
  w.scales_bf16 = c.scales_bf16;
  w.bf16 = c.bf16;
  w.sm_count = c.sm_count;
  w.sm = KernelDevice::on_gpu() ? KernelDevice::gpu_capability() : sm;
  return w;
}

void check_product(uint32_t sm, const Case& c) {
  SCOPED_TRACE(format("M %d N %d K %d group %d bits %d zeros %d bf16 %d y %d",
                      static_cast<int>(c.m), static_cast<int>(c.n), static_cast<int>(c.k),
                      static_cast<int>(c.group), c.bits, c.zeros, c.bf16, c.y));
  KernelDevice device(sm);
  Random random(static_cast<uint64_t>(c.m * 31 + c.n + c.k + c.bits));
  const Layer layer = make_layer(c, &random);
  const Real x_type = c.bf16 ? Real::kBf16 : Real::kF16, y_type = static_cast<Real>(c.y);
  const int64_t ldx = c.k + 8, ldy = c.n + 3;
  std::vector<uint16_t> x(size((c.m - 1) * ldx + c.k), 0x7fff);
  for (int64_t i = 0; i < c.m; ++i) {
    for (int64_t j = 0; j < c.k; ++j) x[size(i * ldx + j)] = to_half(x_type, random.real(-1, 1));
  }
  std::vector<float> bias;
  for (int64_t i = 0; i < c.n; ++i) bias.push_back(random.real(-1, 1));
  WeightOnly w = describe(device, sm, c, layer);
  w.x = device.upload(x), w.ldx = ldx;
  w.bias = device.upload(bias);
  w.ldy = ldy, w.y_type = c.y;
  w.y = device.raw(size(((c.m - 1) * ldy + c.n) * (y_type == Real::kF32 ? 4 : 2)));
  w.partial =
      static_cast<float*>(device.raw(size(cuda::wo_partial_bytes(c.m, c.n, c.k, c.sm_count))));
  w.counters = device.array<int32_t>(size(cuda::wo_counters(c.m, c.n)), 0);
  for (int round = 0; round < 2; ++round) {  // the counters are ready for the second one
    const OpError e = ops().weight_only(device.exec(), w);
    ASSERT_FALSE(e) << e.text;
  }
  for (int64_t i = 0; i < cuda::wo_counters(c.m, c.n); ++i) ASSERT_EQ(w.counters[i], 0);
  for (int64_t i = 0; i < c.m; ++i) {
    for (int64_t j = 0; j < c.n; ++j) {
      double want = bias[size(j)], magnitude = std::fabs(want);
      for (int64_t k = 0; k < c.k; ++k) {
        const double a = from_half(x_type, x[size(i * ldx + k)]);
        want += a * layer.values[size(j * c.k + k)];
        // A zero point is taken from the whole sum: codes count with their distance from the
        // middle.
        magnitude += std::fabs(a) * 0.1 * (c.zeros ? 1 << c.bits : 1 << (c.bits - 1));
      }
      const double got = read_y(w.y, y_type, i * ldy + j);
      const double bound = magnitude * static_cast<double>(c.k + 8) * 0x1p-24 +
                           std::fabs(want) * store_error(y_type);
      ASSERT_NEAR(got, want, bound) << "row " << i << " column " << j;
    }
  }
}

// Every tile of rows, at its edges.
TEST(CudaWeightOnly, EveryTile) {
  for (const int64_t m : {1, 3, 8, 9, 16, 17, 32, 33, 64, 65, 128, 130}) {
    const bool odd = m % 2 == 1;
    for (const int bits : {4, 8}) {
      check_product(80, {m, 128, 192, 64, bits, odd, !odd, odd, odd ? 2 : 1, 2});
    }
  }
}

TEST(CudaWeightOnly, EveryGroup) {
  for (const int64_t group : {16, 32, 64, 128, 0}) {
    for (const int bits : {4, 8}) {
      for (const bool zeros : {false, true}) {
        check_product(80, {5, 64, 320, group, bits, zeros, zeros, !zeros, 0, 1});
        check_product(90, {40, 192, 128, group, bits, zeros, !zeros, zeros, 0, 3});
      }
    }
  }
}

// Runs of stages that begin and end anywhere: one block per tile and more, many tiles per block.
TEST(CudaWeightOnly, TilesSharedByBlocks) {
  for (const uint32_t sm_count : {1, 2, 3, 7}) {
    check_product(89, {2, 64, 1536, 128, 4, true, false, false, 2, sm_count});
    check_product(89, {20, 448, 320, 64, 4, false, true, false, 2, sm_count});
    check_product(89, {70, 192, 576, 0, 8, false, false, true, 2, sm_count});
    check_product(89, {40, 192, 576, 64, 8, true, true, false, 0, sm_count});
  }
}

// More than 64 rows on 9.0: wgmma, with whole tiles, tails and tiles shared by blocks.
TEST(CudaWeightOnly, Wgmma) {
  for (const int bits : {4, 8}) {
    for (const bool zeros : {false, true}) {
      check_product(90, {65, 64, 128, 32, bits, zeros, zeros, !zeros, 0, 1});
      check_product(90, {130, 192, 192, 64, bits, zeros, !zeros, zeros, 1, 3});
      check_product(90, {200, 64, 320, 128, bits, zeros, zeros, zeros, 2, 2});
    }
    check_product(90, {66, 64, 192, 0, bits, true, false, true, 2, 1});
    check_product(90, {67, 64, 64, 16, bits, true, true, false, 0, 1});
  }
}

TEST(CudaWeightOnly, ResultsDoNotDependOnTheGpuRunning) {
  EXPECT_TRUE(cuda::wo_fits(4096, 14336, 4, 128));
  EXPECT_TRUE(cuda::wo_fits(64, 64, 8, 0));
  EXPECT_TRUE(cuda::wo_fits(64, 576, 4, 128));
  EXPECT_FALSE(cuda::wo_fits(64, 64, 3, 0));
  EXPECT_FALSE(cuda::wo_fits(96, 64, 4, 32));
  EXPECT_FALSE(cuda::wo_fits(64, 96, 4, 32));
  EXPECT_FALSE(cuda::wo_fits(64, 192, 4, 48));
  KernelDevice device;
  WeightOnly w;
  w.m = 1, w.n = 64, w.k = 192, w.bits = 4, w.group = 48;
  EXPECT_TRUE(ops().weight_only(device.exec(), w));
}

// Words of a checkpoint for these codes.
std::vector<uint32_t> store(const StoredInts& stored, const std::vector<uint8_t>& codes, int64_t n,
                            int64_t k) {
  const int bits = stored.bits;
  std::vector<uint32_t> words(size(n * k * bits / 32), 0);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < k; ++j) {
      const uint32_t code = codes[size(i * k + j)];
      if (stored.order == IntOrder::kAwq) {
        pack::put_awq_code(words.data(), stored.row_stride, j, i, code);
      } else {
        pack::put_stream_code(words.data() + i * stored.row_stride, stored.word_stride, bits, j,
                              code);
      }
    }
  }
  return words;
}

TEST(CudaWeightOnly, RepacksEveryLayoutAndOrder) {
  constexpr int64_t kN = 128, kK = 192;
  for (const int bits : {4, 8}) {
    const StoredInts layouts[] = {{IntOrder::kStream, false, bits, 1, kN},
                                  {IntOrder::kStream, false, bits, kK * bits / 32},
                                  {IntOrder::kAwq, true, bits, kN / 8}};
    for (const StoredInts& stored : layouts) {
      if (stored.order == IntOrder::kAwq && bits == 8) continue;
      for (const bool ordered : {false, true}) {
        SCOPED_TRACE(format("order %d stride %d bits %d ordered %d", static_cast<int>(stored.order),
                            static_cast<int>(stored.row_stride), bits, ordered));
        Random random(static_cast<uint64_t>(bits));
        std::vector<uint8_t> codes;
        for (int64_t i = 0; i < kN * kK; ++i)
          codes.push_back(static_cast<uint8_t>(random.below(1 << bits)));
        const std::vector<uint32_t> from = store(stored, codes, kN, kK);
        std::vector<int32_t> order;
        std::vector<uint8_t> moved = codes;
        for (int64_t j = 0; j < kK; ++j) order.push_back(static_cast<int32_t>(j * 5 % kK));
        for (int64_t i = 0; ordered && i < kN; ++i) {
          for (int64_t j = 0; j < kK; ++j)
            moved[size(i * kK + j)] = codes[size(i * kK + order[size(j)])];
        }
        KernelDevice device;
        const std::vector<uint32_t> want = pack(moved, kN, kK, bits);
        auto* out = device.array<uint32_t>(want.size(), 0xeeeeeeeeU);
        const OpError e = ops().weight_only_repack(
            device.exec(), {stored, device.upload(from), static_cast<int64_t>(from.size() * 4), kN,
                            kK, ordered ? device.upload(order) : nullptr, out});
        ASSERT_FALSE(e) << e.text;
        EXPECT_TRUE(std::equal(want.begin(), want.end(), out));
      }
    }
  }
}

TEST(CudaWeightOnly, DequantizesRows) {
  for (const int bits : {4, 8}) {
    for (const bool zeros : {false, true}) {
      const Case c{1, 192, 128, 32, bits, zeros, zeros, false, 0, 1};
      Random random(3);
      const Layer layer = make_layer(c, &random);
      KernelDevice device;
      const WeightOnly w = describe(device, 80, c, layer);
      constexpr int64_t kFirst = 48, kCount = 80;
      auto* out = device.array<uint16_t>(size(kCount * c.k), 0);
      const OpError e = ops().weight_only_dequantize(device.exec(), {w, kFirst, kCount, out});
      ASSERT_FALSE(e) << e.text;
      const Real type = c.bf16 ? Real::kBf16 : Real::kF16;
      for (int64_t i = 0; i < kCount * c.k; ++i) {
        const double want = layer.values[size(kFirst * c.k + i)];
        ASSERT_NEAR(from_half(type, out[i]), want, std::fabs(want) * store_error(type) + 1e-9) << i;
      }
    }
  }
}

TEST(CudaWeightOnly, GathersColumns) {
  constexpr int64_t kM = 3, kK = 300, kLdx = 310;
  std::vector<uint16_t> x;
  for (int i = 0; i < kM * kLdx; ++i) x.push_back(static_cast<uint16_t>(i));
  std::vector<int32_t> order;
  for (int i = 0; i < kK; ++i) order.push_back((i * 7) % kK);
  KernelDevice device;
  auto* out = device.array<uint16_t>(kM * kK, 0);
  ASSERT_FALSE(ops().gather_columns(device.exec(),
                                    {device.upload(x), kM, kK, kLdx, device.upload(order), out}));
  for (int64_t i = 0; i < kM * kK; ++i)
    ASSERT_EQ(out[i], x[size(i / kK * kLdx + order[size(i % kK)])]);
}

}  // namespace
}  // namespace pluq
