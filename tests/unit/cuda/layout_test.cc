// SPDX-License-Identifier: Apache-2.0
// The warp-wide products and ldmatrix against tables transcribed from the PTX ISA (ptx_tables.h).
#define PLUQ_CUDA_EMULATE 1
#include <random>

#include "emulated_device.h"
#include "pluq/cuda/cuda.hpp"
#include "ptx_tables.h"

namespace pluq {
namespace {

using namespace cuda;

enum class Kind { kF16, kBf16, kS8, kE4m3 };

// Registers per lane in, accumulators out: a [32][4], b [32][2], c [32][4] words.
template <Kind kind>
PLUQ_KERNEL(32, 1)
void mma_kernel(gmem<const uint32_t> a, gmem<const uint32_t> b, gmem<uint32_t> c) {
  const int lane = lane_id();
  uint32_t ra[4], rb[2];
  for (int i = 0; i < 4; ++i) ra[i] = a.load(lane * 4 + i);
  for (int i = 0; i < 2; ++i) rb[i] = b.load(lane * 2 + i);
  if constexpr (kind == Kind::kS8) {
    int32_t sum[4];
    for (int i = 0; i < 4; ++i) sum[i] = static_cast<int32_t>(c.load(lane * 4 + i));
    mma_m16n8k32_s8(sum, ra, rb);
    for (int i = 0; i < 4; ++i) c.store(lane * 4 + i, static_cast<uint32_t>(sum[i]));
  } else {
    float sum[4];
    for (int i = 0; i < 4; ++i) sum[i] = bits_float(c.load(lane * 4 + i));
    if constexpr (kind == Kind::kF16) mma_m16n8k16_f16(sum, ra, rb);
    if constexpr (kind == Kind::kBf16) mma_m16n8k16_bf16(sum, ra, rb);
    if constexpr (kind == Kind::kE4m3) mma_m16n8k32_e4m3(sum, ra, rb);
    for (int i = 0; i < 4; ++i) c.store(lane * 4 + i, float_bits(sum[i]));
  }
}

// A small integer, exact in every type, as the type's code.
uint32_t code(Kind kind, int v) {
  switch (kind) {
    case Kind::kF16:
      return f32_to_f16(static_cast<float>(v));
    case Kind::kBf16:
      return f32_to_bf16(static_cast<float>(v));
    case Kind::kS8:
      return static_cast<uint8_t>(v);
    case Kind::kE4m3:
      return f32_to_e4m3(static_cast<float>(v));
  }
  return 0;
}

template <Kind kind, size_t K>
void check_mma(const Owner (&ta)[16][K], const Owner (&tb)[K][8], uint32_t bits) {
  EmulatedDevice device(89);
  std::mt19937 random(7);
  const auto draw = [&] { return static_cast<int>(random() % 31) - 15; };
  int a[16][K], b[K][8], c[16][8];
  std::vector<uint32_t> ra(128, 0), rb(64, 0), rc(128, 0);
  const uint32_t per_word = 32 / bits;
  const auto put = [&](std::vector<uint32_t>& r, int words, Owner o, uint32_t value) {
    const auto i = static_cast<uint32_t>(o.i);
    r[static_cast<size_t>(o.lane * words) + i / per_word] |= value << bits * (i % per_word);
  };
  for (size_t m = 0; m < 16; ++m)
    for (size_t k = 0; k < K; ++k) put(ra, 4, ta[m][k], code(kind, a[m][k] = draw()));
  for (size_t k = 0; k < K; ++k)
    for (size_t n = 0; n < 8; ++n) put(rb, 2, tb[k][n], code(kind, b[k][n] = draw()));
  for (size_t m = 0; m < 16; ++m) {
    for (size_t n = 0; n < 8; ++n) {
      c[m][n] = draw();
      rc[static_cast<size_t>(kC[m][n].lane * 4 + kC[m][n].i)] =
          kind == Kind::kS8 ? static_cast<uint32_t>(c[m][n])
                            : float_bits(static_cast<float>(c[m][n]));
    }
  }
  uint32_t* out = device.upload(rc);
  const auto error = launch(&mma_kernel<kind>, LaunchShape{{1, 1, 1}, 32, 0, "mma"},
                            Stream(device.exec()), gmem<const uint32_t>(device.upload(ra)),
                            gmem<const uint32_t>(device.upload(rb)), gmem<uint32_t>(out));
  ASSERT_FALSE(error) << error.text;
  for (size_t m = 0; m < 16; ++m) {
    for (size_t n = 0; n < 8; ++n) {
      int want = c[m][n];
      for (size_t k = 0; k < K; ++k) want += a[m][k] * b[k][n];
      const uint32_t got = out[kC[m][n].lane * 4 + kC[m][n].i];
      EXPECT_EQ(kind == Kind::kS8 ? static_cast<double>(static_cast<int32_t>(got))
                                  : static_cast<double>(bits_float(got)),
                want)
          << m << ' ' << n;
    }
  }
}

TEST(CudaLayouts, MmaM16n8k16F16) { check_mma<Kind::kF16>(kA16, kB16, 16); }
TEST(CudaLayouts, MmaM16n8k16Bf16) { check_mma<Kind::kBf16>(kA16, kB16, 16); }
TEST(CudaLayouts, MmaM16n8k32S8) { check_mma<Kind::kS8>(kA32, kB32, 8); }
TEST(CudaLayouts, MmaM16n8k32E4m3) { check_mma<Kind::kE4m3>(kA32, kB32, 8); }

TEST(CudaLayouts, E4m3NeedsSm89) {
  EmulatedDevice device(80);
  const std::vector<uint32_t> zeros(128, 0);
  const auto error =
      launch(&mma_kernel<Kind::kE4m3>, LaunchShape{{1, 1, 1}, 32, 0, "mma"}, Stream(device.exec()),
             gmem<const uint32_t>(device.upload(zeros)), gmem<const uint32_t>(device.upload(zeros)),
             gmem<uint32_t>(device.upload(zeros)));
  EXPECT_NE(error.text.find("needs sm_89, the emulated device is sm_80"), std::string::npos)
      << error.text;
}

// 9.7.14.5.15, ldmatrix: threads 0-7, 8-15, 16-23, 24-31 hold the row addresses of matrices 0 to 3,
// of x2 only the first two; what each thread receives is in kLdmatrix and kLdmatrixTrans.
PLUQ_KERNEL(32, 1) void ldmatrix_kernel(gmem<uint32_t> out) {
  PLUQ_DYNAMIC_SMEM(raw);
  const auto s = raw.view<uint16_t>(0, 256);
  const int lane = lane_id();
  for (int i = 0; i < 8; ++i) s.store(lane * 8 + i, static_cast<uint16_t>(lane * 8 + i));
  sync_warp();
  uint32_t r[12];
  const int row = 31 - lane;  // matrix m, row r is row 31 - (8m + r) of the array
  ldmatrix_x4(r, s, row * 8);
  ldmatrix_x4_trans(r + 4, s, row * 8);
  ldmatrix_x2(r + 8, s, row * 8);
  ldmatrix_x2_trans(r + 10, s, row * 8);
  for (int i = 0; i < 12; ++i) out.store(lane * 12 + i, r[i]);
}

TEST(CudaLayouts, Ldmatrix) {
  EmulatedDevice device;
  uint32_t* out = device.array<uint32_t>(32 * 12);
  const auto error = launch(&ldmatrix_kernel, LaunchShape{{1, 1, 1}, 32, 512, "ldmatrix"},
                            Stream(device.exec()), gmem<uint32_t>(out));
  ASSERT_FALSE(error) << error.text;
  const auto element = [](int matrix, int row, int column) {
    return static_cast<uint32_t>((31 - 8 * matrix - row) * 8 + column);
  };
  for (int lane = 0; lane < 32; ++lane) {
    for (int m = 0; m < 4; ++m) {
      const auto word = [&](const Pair& p) {
        return element(m, p.row[0], p.column[0]) | element(m, p.row[1], p.column[1]) << 16;
      };
      const uint32_t plain = word(kLdmatrix[lane]), trans = word(kLdmatrixTrans[lane]);
      EXPECT_EQ(out[lane * 12 + m], plain);
      EXPECT_EQ(out[lane * 12 + 4 + m], trans);
      if (m >= 2) continue;
      EXPECT_EQ(out[lane * 12 + 8 + m], plain);
      EXPECT_EQ(out[lane * 12 + 10 + m], trans);
    }
  }
}

PLUQ_KERNEL(32, 1) void exchange_kernel(gmem<int32_t> out) {
  const int lane = lane_id();
  out.store(lane, shfl(lane * 3, 5));
  out.store(32 + lane, shfl_xor(lane, 9));
  out.store(64 + lane, shfl_up(lane, 3));
  out.store(96 + lane, shfl_down(lane, 4));
  out.store(128 + lane, static_cast<int32_t>(ballot_sync(lane % 3 == 0)));
  out.store(160 + lane, (any_sync(lane == 31) ? 1 : 0) + (all_sync(lane < 31) ? 2 : 0) +
                            (all_sync(lane < 32) ? 4 : 0));
  if (lane >= 16) out.store(192 + lane, shfl_xor(lane, 1, 0xffff0000U));
  out.store(224 + lane, warp_max(lane * 37 % 32));
  const float v = 1.0F / static_cast<float>(lane + 1);
  float sum = v;
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += shfl_xor(sum, lanes);
  out.store(256 + lane, float_bits(warp_sum(v)) == float_bits(sum) ? 1 : 0);
}

// 9.7.9.6, shfl.sync: up and down keep the own value at the end of the warp.
TEST(CudaLayouts, Exchanges) {
  EmulatedDevice device;
  int32_t* out = device.array<int32_t>(288);
  const auto error = launch(&exchange_kernel, LaunchShape{{1, 1, 1}, 32, 0, "exchange"},
                            Stream(device.exec()), gmem<int32_t>(out));
  ASSERT_FALSE(error) << error.text;
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT_EQ(out[lane], 15);
    EXPECT_EQ(out[32 + lane], lane ^ 9);
    EXPECT_EQ(out[64 + lane], lane < 3 ? lane : lane - 3);
    EXPECT_EQ(out[96 + lane], lane > 27 ? lane : lane + 4);
    EXPECT_EQ(static_cast<uint32_t>(out[128 + lane]), 0x49249249U);
    EXPECT_EQ(out[160 + lane], 5);
    EXPECT_EQ(out[192 + lane], lane >= 16 ? lane ^ 1 : 0);
    EXPECT_EQ(out[224 + lane], 31);
    EXPECT_EQ(out[256 + lane], 1);  // bit for bit what the shuffles give
  }
}

}  // namespace
}  // namespace pluq
