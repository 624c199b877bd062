// SPDX-License-Identifier: Apache-2.0
// Mistakes around wgmma, one in each kernel: what is in flight, its fences and the async proxy.
// Each is named with the line; kernels without one are silent and give the right sums.
#define PLUQ_CUDA_EMULATE 1
#include "emulated_device.h"
#include "pluq/cuda/cuda.hpp"

namespace pluq {
namespace {

using namespace cuda;

enum class Bug {
  kNone,
  kStoredEarly,
  kConvertedEarly,
  kSharedEarly,
  kIntegerEarly,
  kSumsWritten,
  kFragmentWritten,
  kTileWritten,
  kTileCopied,
  kTileOfOtherWarps,
  kNoFence,
  kNoFenceInSecondRound,
  kNoCommit,
  kNoWait,
  kWaitOfTooFew,
  kOtherShape,
  kNoProxyFence,
  kProxyFenceTooEarly,
  kNoProxyFenceAfterCopy,
  // None of these is a mistake.
  kSecondRoundUntouched,
  kProxyFenceOfReaders,
  kTwoGroups,
};

// y[t] = the first accumulator of thread t: two rounds of A[64, 16] * B[16, 8], both all ones.
template <Bug bug>
PLUQ_KERNEL(128, 1)
void wgmma_bugs_kernel(gmem<const uint16_t> ones, gmem<float> y, gmem<uint16_t> y16) {
  PLUQ_DYNAMIC_SMEM(raw);
  PLUQ_STATIC_SMEM(float, exchange, 128);
  const int t = static_cast<int>(thread_idx().x);
  const auto tile = raw.view<uint16_t>(0, 64 * 16), columns = raw.view<uint16_t>(2048, 16 * 16);
  if (bug == Bug::kProxyFenceTooEarly) fence_async_proxy();
  if (bug == Bug::kNoProxyFenceAfterCopy) {
    cp_async16(tile, t * 8, ones, t * 8);
    cp_async_commit();
    cp_async_wait<0>();
  } else {
    tile.store16(t * 8, u32x4{{0x3c003c00U, 0x3c003c00U, 0x3c003c00U, 0x3c003c00U}});
  }
  columns.store(t, 0x3c00);
  columns.store(128 + t, 0x3c00);
  if (bug != Bug::kNoProxyFence && bug != Bug::kProxyFenceTooEarly &&
      bug != Bug::kNoProxyFenceAfterCopy && bug != Bug::kProxyFenceOfReaders)
    fence_async_proxy();
  sync_threads();
  if (bug == Bug::kProxyFenceOfReaders) fence_async_proxy();

  float d[4] = {0, 0, 0, 0}, other[4] = {0, 0, 0, 0}, wide[8] = {};
  uint32_t fragment[4] = {0x3c003c00U, 0x3c003c00U, 0x3c003c00U, 0x3c003c00U};
  const auto a = matrix_desc(tile, 0, Swizzle::kNone, 128, 256);
  const auto b = matrix_desc(columns, 0, Swizzle::kNone, 128, 256);
  const auto round = [&](bool fence, bool from_registers) {
    if (fence) wgmma_fence();
    if (from_registers) {
      wgmma_f16_rs<8>(d, fragment, b);
    } else {
      wgmma_f16<8>(d, a, b);
    }
    if (bug != Bug::kNoCommit) wgmma_commit();
  };
  round(bug != Bug::kNoFence, bug == Bug::kFragmentWritten);
  if (bug == Bug::kStoredEarly) y.store(t, d[0]);
  if (bug == Bug::kConvertedEarly) y16.store(t, f32_to_f16(d[0] * 2 - 1));
  if (bug == Bug::kSharedEarly) exchange.store(t, d[0] + d[1]);
  if (bug == Bug::kIntegerEarly) y.store(t, static_cast<float>(round_to_int(d[0] * 3)));
  if (bug == Bug::kSumsWritten) d[1] = 0;
  if (bug == Bug::kFragmentWritten) fragment[2] = 0;
  if (bug == Bug::kTileWritten && t == 0) tile.store(8, 0);
  if (bug == Bug::kTileCopied && t == 0) cp_async16(tile, 8, ones, 0);
  if (bug == Bug::kTwoGroups) {
    wgmma_f16<8>(other, a, b);
    wgmma_commit();
    wgmma_wait<1>();
    y.store(t, d[0]);
  }
  if (bug == Bug::kOtherShape) wgmma_f16<16>(d[0] > 1 ? wide : d, a, b);
  if (bug == Bug::kNoWait) return;
  wgmma_wait<(bug == Bug::kWaitOfTooFew ? 1 : 0)>();
  if (bug == Bug::kTileOfOtherWarps && t == 0) tile.store(0, 0);
  if (bug != Bug::kSecondRoundUntouched) d[3] += 1;
  round(bug != Bug::kNoFenceInSecondRound && bug != Bug::kSecondRoundUntouched, false);
  wgmma_wait<0>();
  y.store(t, d[0] + other[0]);
}

template <Bug bug>
LaunchError run(float* first = nullptr, uint32_t checks = PLUQ_EMU_CHECK_ALL) {
  EmulatedDevice device(90, checks);
  float* y = device.fresh<float>(128);
  const auto error = launch(&wgmma_bugs_kernel<bug>,
                            LaunchShape{{1, 1, 1}, 128, 4096, "wgmma_bugs"}, Stream(device.exec()),
                            gmem<const uint16_t>(device.array<uint16_t>(1024, 0x3c00), 1024),
                            gmem<float>(y, 128), gmem<uint16_t>(device.fresh<uint16_t>(128), 128));
  if (first != nullptr) *first = y[77];
  return error;
}

template <Bug bug>
void expect(const std::string& part) {
  const LaunchError error = run<bug>();
  ASSERT_TRUE(error) << "not noticed: " << part;
  EXPECT_EQ(error.text.find("kernel wgmma_bugs, block (0, 0, 0), thread ("), 0U) << error.text;
  EXPECT_NE(error.text.find("at planted_wgmma_bugs_test.cc:"), std::string::npos) << error.text;
  EXPECT_NE(error.text.find(part), std::string::npos) << error.text;
}

TEST(CudaPlantedWgmmaBugs, CorrectKernelsAreSilent) {
  float first = 0;
  for (const LaunchError& e : {run<Bug::kNone>(&first), run<Bug::kSecondRoundUntouched>(),
                               run<Bug::kProxyFenceOfReaders>()})
    EXPECT_FALSE(e) << e.text;
  EXPECT_EQ(first, 32);
  const LaunchError two = run<Bug::kTwoGroups>(&first);
  EXPECT_FALSE(two) << two.text;
  EXPECT_EQ(first, 48);
}

TEST(CudaPlantedWgmmaBugs, AccumulatorsUsedBeforeTheWait) {
  const std::string early = "before a wgmma_wait covers the wgmma at planted_wgmma_bugs_test.cc:";
  expect<Bug::kStoredEarly>("uses accumulators " + early);
  expect<Bug::kSharedEarly>("uses accumulators " + early);
  expect<Bug::kConvertedEarly>("are used before a wgmma_wait covers it");
  expect<Bug::kIntegerEarly>("are used before a wgmma_wait covers it");
  expect<Bug::kSumsWritten>("the accumulators were written " + early);
  expect<Bug::kFragmentWritten>("the registers of A were written " + early);
  expect<Bug::kWaitOfTooFew>("the accumulators were written " + early);
}
TEST(CudaPlantedWgmmaBugs, TilesWrittenBeforeTheWait) {
  expect<Bug::kTileWritten>("writes shared memory that a wgmma may still read");
  expect<Bug::kTileCopied>("writes shared memory that a wgmma may still read");
  expect<Bug::kTileOfOtherWarps>("not every warp has waited for it");
}
TEST(CudaPlantedWgmmaBugs, FencesAndGroups) {
  expect<Bug::kNoFence>("no wgmma_fence between other accesses to the registers");
  expect<Bug::kNoFenceInSecondRound>("no wgmma_fence between other accesses to the registers");
  expect<Bug::kNoCommit>("the accumulators were written before a wgmma_wait");
  expect<Bug::kNoWait>("no wgmma_wait covers this wgmma before the thread leaves the kernel");
  expect<Bug::kOtherShape>("which has another shape");
}
TEST(CudaPlantedWgmmaBugs, OrdinaryWritesWithoutAProxyFence) {
  const std::string proxy = "after an ordinary write, without fence_async_proxy in between";
  expect<Bug::kNoProxyFence>(proxy);
  expect<Bug::kProxyFenceTooEarly>(proxy);
  expect<Bug::kNoProxyFenceAfterCopy>(proxy);
}
TEST(CudaPlantedWgmmaBugs, DetectorsCanBeSwitchedOff) {
  EXPECT_FALSE(run<Bug::kNoProxyFence>(nullptr, PLUQ_EMU_CHECK_ALL & ~PLUQ_EMU_CHECK_PROXY));
  EXPECT_FALSE(run<Bug::kNoFence>(nullptr, PLUQ_EMU_CHECK_ALL & ~PLUQ_EMU_CHECK_WGMMA));
  EXPECT_FALSE(run<Bug::kStoredEarly>(nullptr, PLUQ_EMU_CHECK_GLOBAL));
}

}  // namespace
}  // namespace pluq
