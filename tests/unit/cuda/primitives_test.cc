// SPDX-License-Identifier: Apache-2.0
// Primitives through the emulated device: barriers, shuffles, copies, products.
#define PLUQ_CUDA_EMULATE 1
#include "emulated_device.h"
#include "pluq/cuda/cuda.hpp"

namespace pluq {
namespace {

using namespace cuda;

PLUQ_KERNEL(64, 1) void reverse_kernel(gmem<const int32_t> x, gmem<int32_t> y) {
  PLUQ_DYNAMIC_SMEM(raw);
  PLUQ_STATIC_SMEM(int32_t, total, 2);
  const auto tile = raw.view<int32_t>(0, 64);
  const int t = static_cast<int>(thread_idx().x), at = static_cast<int>(block_idx().x) * 64;
  tile.store(t, x.load(at + t));
  const int32_t sum = warp_sum(x.load(at + t));
  if (lane_id() == 0) total.store(warp_id(), sum);
  sync_threads();
  y.store(at + t, tile.load(63 - t) + total.load(0) + total.load(1));
}

TEST(CudaPrimitives, BarriersAndShuffles) {
  EmulatedDevice device;
  std::vector<int32_t> x(192);
  for (int i = 0; i < 192; ++i) x[static_cast<size_t>(i)] = i * i;
  int32_t* y = device.array<int32_t>(192);
  const auto error =
      launch(&reverse_kernel, LaunchShape{{3, 1, 1}, 64, 256, "reverse"}, Stream(device.exec()),
             gmem<const int32_t>(device.upload(x)), gmem<int32_t>(y, 192));
  ASSERT_FALSE(error) << error.text;
  for (int b = 0; b < 3; ++b) {
    int32_t sum = 0;
    for (int i = 0; i < 64; ++i) sum += x[static_cast<size_t>(64 * b + i)];
    for (int i = 0; i < 64; ++i)
      EXPECT_EQ(y[64 * b + i], x[static_cast<size_t>(64 * b + 63 - i)] + sum);
  }
}

// c[16, 8] = a[16, 16] * b[16, 8] through cp.async, ldmatrix and mma; b is given as [8, 16].
PLUQ_KERNEL(32, 1)
void product_kernel(gmem<const uint16_t> a, gmem<const uint16_t> b, gmem<float> c) {
  PLUQ_DYNAMIC_SMEM(raw);
  const auto sa = raw.view<uint16_t>(0, 256), sb = raw.view<uint16_t>(512, 128);
  const int lane = lane_id(), g = lane / 4, t = lane % 4;
  cp_async16(sa, lane * 8, a, lane * 8);
  if (lane < 16) cp_async16(sb, lane * 8, b, lane * 8);
  cp_async_commit();
  cp_async_wait<0>();
  sync_threads();
  uint32_t ra[4], rb[2];
  ldmatrix_x4(ra, sa, (lane & 15) * 16 + (lane >> 4) * 8);
  ldmatrix_x2(rb, sb, (lane & 7) * 16 + (lane >> 3 & 1) * 8);
  float sum[4] = {0, 0, 0, 0};
  mma_m16n8k16_f16(sum, ra, rb);
  for (int i = 0; i < 4; ++i) c.store((i < 2 ? g : g + 8) * 8 + 2 * t + (i & 1), sum[i]);
}

TEST(CudaPrimitives, ProductThroughSharedMemory) {
  EmulatedDevice device;
  std::vector<uint16_t> a(256), b(128);
  for (size_t i = 0; i < 256; ++i) a[i] = f32_to_f16(static_cast<float>(i % 37) - 18.0F);
  for (size_t i = 0; i < 128; ++i) b[i] = f32_to_f16(static_cast<float>(i % 23) / 4 - 3.0F);
  float* c = device.array<float>(128);
  const auto error = launch(&product_kernel, LaunchShape{{1, 1, 1}, 32, 768, "product"},
                            Stream(device.exec()), gmem<const uint16_t>(device.upload(a)),
                            gmem<const uint16_t>(device.upload(b)), gmem<float>(c));
  ASSERT_FALSE(error) << error.text;
  for (size_t m = 0; m < 16; ++m) {
    for (size_t n = 0; n < 8; ++n) {
      float want = 0;
      for (size_t k = 0; k < 16; ++k) want += f16_to_f32(a[m * 16 + k]) * f16_to_f32(b[n * 16 + k]);
      EXPECT_EQ(c[m * 8 + n], want) << m << ' ' << n;
    }
  }
}

// Warp 0 fills, warp 1 reads: two named barriers, one thread side arriving only.
template <bool wrong>
PLUQ_KERNEL(96, 1)
void hand_over_kernel(gmem<int32_t> y, int rounds) {
  PLUQ_STATIC_SMEM(int32_t, slot, 32);
  const int lane = lane_id();
  int32_t sum = 0;
  for (int r = 0; r < rounds; ++r) {
    if (warp_id() == 0) {
      if (r > 0 && !wrong) named_sync(2, 64);  // emptied
      slot.store(lane, r * 32 + lane);
      named_arrive(1, 64);  // filled
    } else if (warp_id() == 1) {
      named_sync(1, 64);
      sum += slot.load(31 - lane);
      if (r + 1 < rounds) named_arrive(2, 64);
    }
  }
  if (warp_id() == 1) y.store(lane, sum);
}

TEST(CudaPrimitives, NamedBarriersHandOver) {
  EmulatedDevice device;
  int32_t* y = device.array<int32_t>(32);
  const LaunchShape shape{{1, 1, 1}, 96, 0, "hand_over"};
  const auto error =
      launch(&hand_over_kernel<false>, shape, Stream(device.exec()), gmem<int32_t>(y), 3);
  ASSERT_FALSE(error) << error.text;
  for (int lane = 0; lane < 32; ++lane) EXPECT_EQ(y[lane], 3 * (31 - lane) + 96);
  EXPECT_TRUE(launch(&hand_over_kernel<true>, shape, Stream(device.exec()), gmem<int32_t>(y), 3));
}

// Blocks add their parts in ascending order, each waiting for the one below.
PLUQ_KERNEL(64, 1) void ordered_sum_kernel(gmem<float> total, gmem<int32_t> turn) {
  PLUQ_STATIC_SMEM(int32_t, count, 1);
  const auto block = static_cast<int32_t>(block_idx().x);
  if (thread_idx().x == 0) count.store(0, 0);
  sync_threads();
  atomic_add(count, 0, 1);
  sync_threads();
  if (thread_idx().x != 0) return;
  wait_equal(turn, 0, block);
  total.store(0, total.load(0) * 2 + static_cast<float>(count.load(0) + block));
  thread_fence();
  release_store(turn, 0, block + 1);
}

TEST(CudaPrimitives, BlocksWaitForLowerOnes) {
  EmulatedDevice device;
  float* total = device.array<float>(1);
  const auto error =
      launch(&ordered_sum_kernel, LaunchShape{{4, 1, 1}, 64, 0, "ordered_sum"},
             Stream(device.exec()), gmem<float>(total), gmem<int32_t>(device.array<int32_t>(1)));
  ASSERT_FALSE(error) << error.text;
  EXPECT_EQ(total[0], ((64.0F * 2 + 65) * 2 + 66) * 2 + 67);
}

PLUQ_KERNEL(64, 1) void atomics_kernel(gmem<int32_t> y, gmem<float> largest) {
  const auto t = static_cast<int32_t>(thread_idx().x);
  atomic_add(y, 0, t);
  atomic_max(y, 1, t * 7 % 64);
  atomic_cas(y, 2, t, t + 1);  // ascending threads: each finds what the one before left
  if (t == 5) atomic_exch(y, 3, 9);
  atomic_max(largest, 0, static_cast<float>(-t) - 1.0F);
}

TEST(CudaPrimitives, Atomics) {
  EmulatedDevice device;
  int32_t* y = device.array<int32_t>(4);
  float* largest = device.array<float>(1, -100.0F);
  const auto error = launch(&atomics_kernel, LaunchShape{{1, 1, 1}, 64, 0, "atomics"},
                            Stream(device.exec()), gmem<int32_t>(y), gmem<float>(largest));
  ASSERT_FALSE(error) << error.text;
  EXPECT_EQ(y[0], 64 * 63 / 2);
  EXPECT_EQ(y[1], 63);
  EXPECT_EQ(y[2], 64);
  EXPECT_EQ(y[3], 9);
  EXPECT_EQ(largest[0], -1.0F);
}

// Copies of 4 and 8 bytes, of which some are not valid, and every width of the cached loads.
PLUQ_KERNEL(32, 1) void widths_kernel(gmem<const uint32_t> x, gmem<uint32_t> y) {
  PLUQ_STATIC_SMEM(uint32_t, four, 32);
  PLUQ_STATIC_SMEM(uint32_t, eight, 64);
  const int t = static_cast<int>(thread_idx().x);
  cp_async4(four, t, x, t, t % 3 != 0);
  cp_async8(eight, 2 * t, x, 2 * t, t % 5 != 0);
  cp_async_wait_all();  // also of what was not committed
  uint32_t sum = four.load(t) + eight.load_as<u32x2>(2 * t).v[1];
  sum += x.load_nc<u32x4>(4).v[t % 4] * 3 + x.load_nc<u32x2>(6).v[t % 2] * 5 + x.load_nc(t) * 7;
  sum += x.load_once<u32x4>(8).v[t % 4] * 11 + x.load_once(t) * 13;
  sum += x.load_cg<u32x4>(12).v[t % 4] * 17 + x.load_cg(t) * 19;
  sum += x.as<const uint8_t>().load_nc(4 * t) * 23;
  const auto at = static_cast<int64_t>(t + 32 * block_idx().x);
  y.store_as<uint32_t>(at, sum + block_dim().x * 1000 + grid_dim().x * 100000);
  if (x.load(0) != 0) device_trap("element 0 is not zero");
}

TEST(CudaPrimitives, WidthsAndCachedLoads) {
  EmulatedDevice device;
  std::vector<uint32_t> x(64);
  for (uint32_t i = 0; i < 64; ++i) x[i] = i * i;
  auto* y = device.fresh<uint32_t>(64);
  const LaunchShape shape{{2, 1, 1}, 32, 0, "widths"};
  auto* dx = device.upload(x);
  const auto run = [&] {
    return launch(&widths_kernel, shape, Stream(device.exec()), gmem<const uint32_t>(dx, 64),
                  gmem<uint32_t>(y, 64));
  };
  const auto error = run();
  ASSERT_FALSE(error) << error.text;
  for (uint32_t i = 0; i < 64; ++i) {
    const uint32_t t = i % 32;
    uint32_t want = (t % 3 != 0 ? x[t] : 0) + (t % 5 != 0 ? x[2 * t + 1] : 0) + 232000;
    want += x[4 + t % 4] * 3 + x[6 + t % 2] * 5 + x[t] * 7 + x[8 + t % 4] * 11 + x[t] * 13;
    want += x[12 + t % 4] * 17 + x[t] * 19 + (x[t] & 255) * 23;
    EXPECT_EQ(y[i], want) << i;
  }
  dx[0] = 1;
  EXPECT_NE(run().text.find("element 0 is not zero"), std::string::npos);
}

// A host of the first revision: its table ends before the slots of later detectors, whose bits it
// never sets.
TEST(CudaPrimitives, RunsOnAnOlderHost) {
  constexpr uint32_t kFirstDetectors = 15;
  EmulatedDevice device(80, kFirstDetectors);
  pluq_cuda_emulator old = *cuda_emulator::table();
  old.struct_size = offsetof(pluq_cuda_emulator, global_access);
  auto* turn = device.array<int32_t>(1);
  const auto launch_on = [&](const pluq_cuda_emulator& api) {
    return launch(&ordered_sum_kernel, LaunchShape{{2, 1, 1}, 64, 0, "ordered_sum"},
                  Stream(device.emulator().stream(), &api), gmem<float>(device.array<float>(1), 1),
                  gmem<int32_t>(turn, 1));
  };
  const auto error = launch_on(old);
  EXPECT_FALSE(error) << error.text;
  EXPECT_EQ(turn[0], 2);
  old.struct_size -= 8;
  EXPECT_EQ(launch_on(old).status, PLUQ_STATUS_UNSUPPORTED);
}

}  // namespace
}  // namespace pluq
