// SPDX-License-Identifier: Apache-2.0
// sm_90: wgmma fragments and shared-memory layouts (PTX ISA 9.2, 9.7.15.5.1), mbarriers and bulk
// copies in a producer and consumer pipeline, and what a mistake in one is called.
#define PLUQ_CUDA_EMULATE 1
#include <random>

#include "emulated_device.h"
#include "pluq/cuda/cuda.hpp"
#include "ptx_tables.h"

namespace pluq {
namespace {

using namespace cuda;

enum class Kind { kF16, kBf16, kE4m3, kS8 };

constexpr int bytes_of(Kind kind) { return kind == Kind::kF16 || kind == Kind::kBf16 ? 2 : 1; }

uint32_t code(Kind kind, int v) {
  if (kind == Kind::kF16) return f32_to_f16(static_cast<float>(v));
  if (kind == Kind::kBf16) return f32_to_bf16(static_cast<float>(v));
  return kind == Kind::kS8 ? static_cast<uint8_t>(v) : f32_to_e4m3(static_cast<float>(v));
}

template <Kind kind, int N, bool registers, class Sum>
void issue(Sum* d, const uint32_t* ra, MatrixDesc a, MatrixDesc b, bool accumulate) {
  if constexpr (kind == Kind::kF16) {
    registers ? wgmma_f16_rs<N>(d, ra, b, accumulate) : wgmma_f16<N>(d, a, b, accumulate);
  } else if constexpr (kind == Kind::kBf16) {
    registers ? wgmma_bf16_rs<N>(d, ra, b, accumulate) : wgmma_bf16<N>(d, a, b, accumulate);
  } else if constexpr (kind == Kind::kE4m3) {
    registers ? wgmma_e4m3_rs<N>(d, ra, b, accumulate) : wgmma_e4m3<N>(d, a, b, accumulate);
  } else {
    registers ? wgmma_s8_rs<N>(d, ra, b, accumulate) : wgmma_s8<N>(d, a, b, accumulate);
  }
}

// Two steps of 32 bytes of K. a and b are images of shared memory, ra the registers [step][128][4].
template <Kind kind, int N, bool registers, bool swizzled>
PLUQ_KERNEL(128, 1)
void wgmma_kernel(gmem<const uint32_t> a, gmem<const uint32_t> b, gmem<const uint32_t> ra,
                  gmem<float> y) {
  using Sum = std::conditional_t<kind == Kind::kS8, int32_t, float>;
  PLUQ_DYNAMIC_SMEM(raw);
  const int t = static_cast<int>(thread_idx().x);
  const auto sa = raw.view<uint32_t>(0, 64 * 32), sb = raw.view<uint32_t>(64 * 128, N * 32);
  for (int i = t; i < 64 * 32; i += 128) sa.store(i, a.load(i));
  for (int i = t; i < N * 32; i += 128) sb.store(i, b.load(i));
  fence_async_proxy();
  sync_threads();
  set_max_registers_down<24>();
  set_max_registers_up<240>();
  Sum d[N / 2];
  wgmma_fence_registers<N / 2>(d);
  for (int step = 0; step < 2; ++step) {
    uint32_t words[4];
    for (int i = 0; i < 4; ++i) words[i] = ra.load((step * 128 + t) * 4 + i);
    const auto kind_of = swizzled ? Swizzle::k128B : Swizzle::kNone;
    // Not swizzled: four blocks of 128 bytes per 8 rows, K first.
    const uint32_t next = swizzled ? 32 : 256, stride = swizzled ? 1024 : 512;
    const auto da =
        advance(matrix_desc(sa, 0, kind_of, 128, stride), next * static_cast<uint32_t>(step));
    const auto db =
        advance(matrix_desc(sb, 0, kind_of, 128, stride), next * static_cast<uint32_t>(step));
    wgmma_fence();
    issue<kind, N, registers>(d, words, da, db, step > 0);
    wgmma_commit();
    wgmma_wait<0>();
  }
  for (int i = 0; i < N / 2; ++i) y.store(t * (N / 2) + i, static_cast<float>(d[i]));
}

template <Kind kind, int N, bool registers, bool swizzled>
void check_wgmma() {
  constexpr int kBytes = bytes_of(kind), kStep = 32 / kBytes, kK = 2 * kStep;
  EmulatedDevice device(90);
  std::mt19937 random(11);
  std::vector<int> a(64 * kK), b(N * kK);
  for (auto* m : {&a, &b})
    for (int& v : *m) v = static_cast<int>(random() % 15) - 7;
  std::vector<uint32_t> ia(64 * 32, 0), ib(N * 32, 0), ra(2 * 128 * 4, 0);
  const auto put = [&](std::vector<uint32_t>& image, int row, int k, int value) {
    const int byte = k * kBytes;
    const auto at =
        static_cast<uint32_t>(swizzled ? row * 128 + kSwizzle128[row % 8][byte / 16] * 16
                                       : row / 8 * 512 + byte / 16 * 128 + row % 8 * 16);
    image[(at + static_cast<uint32_t>(byte % 16)) / 4] |= code(kind, value) << 8 * (byte % 4);
  };
  for (int m = 0; m < 64; ++m) {
    for (int k = 0; k < kK; ++k) {
      put(ia, m, k, a[static_cast<size_t>(m * kK + k)]);
      // 9.7.15.5.1.1.1, and for 8 bits m64nNk32: warp w holds rows 16w to 16w + 15, as the A of
      // m16n8k16 and m16n8k32.
      Owner o{};
      if constexpr (kBytes == 2) {
        o = kA16[m % 16][k % kStep];
      } else {
        o = kA32[m % 16][k % kStep];
      }
      const int thread = m / 16 * 32 + o.lane, per_word = 4 / kBytes;
      ra[static_cast<size_t>((k / kStep * 128 + thread) * 4 + o.i / per_word)] |=
          code(kind, a[static_cast<size_t>(m * kK + k)]) << 8 * kBytes * (o.i % per_word);
    }
  }
  for (int n = 0; n < N; ++n)
    for (int k = 0; k < kK; ++k) put(ib, n, k, b[static_cast<size_t>(n * kK + k)]);
  float* y = device.array<float>(128 * N / 2);
  const auto error =
      launch(&wgmma_kernel<kind, N, registers, swizzled>,
             LaunchShape{{1, 1, 1}, 128, 64 * 128 + N * 128, "wgmma"}, Stream(device.exec()),
             gmem<const uint32_t>(device.upload(ia)), gmem<const uint32_t>(device.upload(ib)),
             gmem<const uint32_t>(device.upload(ra)), gmem<float>(y));
  ASSERT_FALSE(error) << error.text;
  for (int m = 0; m < 64; ++m) {
    for (int n = 0; n < N; ++n) {
      int want = 0;
      for (int k = 0; k < kK; ++k)
        want += a[static_cast<size_t>(m * kK + k)] * b[static_cast<size_t>(n * kK + k)];
      // 9.7.15.5.1.1.1, accumulator D: in chunks of 8 columns, each as the C of m16n8.
      const Owner o = kC[m % 16][n % 8];
      const int thread = m / 16 * 32 + o.lane;
      ASSERT_EQ(y[thread * (N / 2) + n / 8 * 4 + o.i], want) << m << ' ' << n;
    }
  }
}

template <Kind kind>
void check_kind() {
  check_wgmma<kind, 8, false, false>();
  check_wgmma<kind, 8, true, true>();
  check_wgmma<kind, 64, false, true>();
  check_wgmma<kind, 64, true, false>();
}

TEST(CudaHopper, WgmmaF16) { check_kind<Kind::kF16>(); }
TEST(CudaHopper, WgmmaBf16) { check_kind<Kind::kBf16>(); }
TEST(CudaHopper, WgmmaE4m3) { check_kind<Kind::kE4m3>(); }
TEST(CudaHopper, WgmmaS8) { check_kind<Kind::kS8>(); }
TEST(CudaHopper, WgmmaOf256Columns) { check_wgmma<Kind::kF16, 256, true, true>(); }

TEST(CudaHopper, SwizzledPlaces) {
  for (uint32_t row = 0; row < 24; ++row) {
    for (uint32_t chunk = 0; chunk < 8; ++chunk)
      EXPECT_EQ(swizzled_128b(row, chunk),
                row * 128 + static_cast<uint32_t>(kSwizzle128[row % 8][chunk]) * 16);
  }
}

// 9.7.15.5.1.2.2, the fields of a matrix descriptor: address / 16 at bits 0 to 13, leading offset
// / 16 at 16 to 29, stride offset / 16 at 32 to 45, base offset 0 at 49 to 51, swizzling at 62, 63.
TEST(CudaHopper, MatrixDescriptors) {
  EXPECT_EQ(matrix_desc_bits(0x3fff0, Swizzle::kNone, 0, 0), 0x3fffU);
  EXPECT_EQ(matrix_desc_bits(0, Swizzle::kNone, 128, 0), uint64_t{8} << 16);
  EXPECT_EQ(matrix_desc_bits(0, Swizzle::kNone, 0, 256), uint64_t{16} << 32);
  EXPECT_EQ(matrix_desc_bits(1024, Swizzle::k128B, 0, 1024),
            64U | uint64_t{1} << 16 | uint64_t{64} << 32 | uint64_t{1} << 62);
}

enum class Bug {
  kNone,
  kNoFullWait,
  kNoEmptyWait,
  kLateEmptyWait,
  kNoInit,
  kTooManyBytes,
  kTooFewBytes,
  kTooFewArrivals,
  kWrongParity,
  kNoInitFence,
  kFilledBefore
};

// Warp 0 copies tiles of 256 floats into two stages, warps 1 to 3 sum them up.
template <Bug bug>
PLUQ_KERNEL(128, 1)
void pipeline_kernel(gmem<const float> x, gmem<float> y, int steps) {
  PLUQ_DYNAMIC_SMEM(raw);
  PLUQ_STATIC_SMEM(uint64_t, bars, 4);  // full 0, 1, empty 0, 1
  const auto stage = [&](int s) {
    return raw.view<float>(static_cast<uint32_t>(s & 1) * 1024, 256);
  };
  if (thread_idx().x == 0 && bug != Bug::kNoInit) {
    for (int i = 0; i < 2; ++i) mbar_init(bars, i, 1);
    for (int i = 2; i < 4; ++i) mbar_init(bars, i, bug == Bug::kTooFewArrivals ? 4 : 3);
    if (bug != Bug::kNoInitFence) fence_mbar_init();
  }
  if (bug == Bug::kFilledBefore) stage(0).store(static_cast<int64_t>(thread_idx().x), 0);
  sync_threads();
  if (warp_id() == 0) {
    for (int s = 0; s < steps && lane_id() == 0; ++s) {
      const uint32_t round = static_cast<uint32_t>(s / 2);
      if (bug == Bug::kLateEmptyWait) bulk_copy(stage(s), 0, x, s * 256, 1024, bars, s & 1);
      if (bug != Bug::kNoEmptyWait) mbar_wait(bars, 2 + (s & 1), (round & 1) ^ 1);
      mbar_arrive_expect(bars, s & 1,
                         bug == Bug::kTooManyBytes  ? 1040
                         : bug == Bug::kTooFewBytes ? 1008
                                                    : 1024);
      if (bug != Bug::kLateEmptyWait) bulk_copy(stage(s), 0, x, s * 256, 1024, bars, s & 1);
    }
    return;
  }
  float sum = 0;
  for (int s = 0; s < steps; ++s) {
    const uint32_t parity = static_cast<uint32_t>(s / 2) & 1;
    if (bug != Bug::kNoFullWait)
      mbar_wait(bars, s & 1, bug == Bug::kWrongParity ? parity ^ 1 : parity);
    for (int i = static_cast<int>(thread_idx().x) - 32; i < 256; i += 96) sum += stage(s).load(i);
    sync_warp();
    if (lane_id() == 0) mbar_arrive(bars, 2 + (s & 1));
  }
  sum = warp_sum(sum);
  if (lane_id() == 0) y.store(warp_id() - 1, sum);
}

template <Bug bug>
LaunchError run(double* total = nullptr, uint32_t sm = 90) {
  EmulatedDevice device(sm);
  std::vector<float> x(5 * 256);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 11);
  float* y = device.array<float>(3);
  const auto error =
      launch(&pipeline_kernel<bug>, LaunchShape{{1, 1, 1}, 128, 2048, "pipeline"},
             Stream(device.exec()), gmem<const float>(device.upload(x)), gmem<float>(y), 5);
  if (total != nullptr) *total = static_cast<double>(y[0]) + y[1] + y[2];
  return error;
}

TEST(CudaHopper, BulkCopiesThroughMbarriers) {
  double total = 0, want = 0;
  const auto error = run<Bug::kNone>(&total);
  ASSERT_FALSE(error) << error.text;
  for (int i = 0; i < 5 * 256; ++i) want += i % 11;
  EXPECT_EQ(total, want);
}

void expect(const LaunchError& error, const std::string& part) {
  ASSERT_TRUE(error) << "the mistake was not noticed";
  EXPECT_NE(error.text.find(part), std::string::npos) << error.text;
}

TEST(CudaHopper, Mistakes) {
  expect(run<Bug::kNoFullWait>(), "reads shared memory that");
  expect(run<Bug::kNoEmptyWait>(), "more than its 1 arrivals in one phase");
  expect(run<Bug::kLateEmptyWait>(), "reads shared memory that a bulk copy has not finished");
  expect(run<Bug::kNoInit>(), "no mbarrier was initialised");
  expect(run<Bug::kTooManyBytes>(), "deadlock");
  expect(run<Bug::kTooManyBytes>(),
         "is in phase 0 and lacks 0 of 1 arrivals and 16 bytes that it was told to expect");
  expect(run<Bug::kTooFewBytes>(), "16 bytes more have come than it was told to expect");
  expect(run<Bug::kTooFewArrivals>(), "wait in mbarrier wait at hopper_test.cc:");
  expect(run<Bug::kTooFewArrivals>(), "lacks 1 of 4 arrivals");
  expect(run<Bug::kWrongParity>(), "reads shared memory that");
  expect(run<Bug::kNoInitFence>(), "was initialised without fence_mbar_init");
  expect(run<Bug::kFilledBefore>(), "without fence_async_proxy in between");
  expect(run<Bug::kNone>(nullptr, 89), "needs sm_90, the emulated device is sm_89");
}

}  // namespace
}  // namespace pluq
