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

}  // namespace
}  // namespace pluq
