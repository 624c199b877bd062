// SPDX-License-Identifier: Apache-2.0
// Kernels with one mistake each: the emulator must name it, with the line of the mistake; the same
// kernels without it are silent, and so are the detectors that are switched off.
#define PLUQ_CUDA_EMULATE 1
#include "emulated_device.h"
#include "pluq/cuda/cuda.hpp"

namespace pluq {
namespace {

using namespace cuda;

enum class Bug {
  kNone,
  kMissingBarrier,
  kMissingTrailingBarrier,
  kMissingWait,
  kTileOffByOne,
  kGlobalOutOfBounds,
  kGlobalBelow,
  kMisalignedGlobal,
  kMisalignedShared,
  kUninitialised,
  kWrongShuffleMask,
  kShuffleFromAbsentLane,
  kDivergence,
  kEarlyReturn,
  kMissingSyncWarp,
  kWaitsForHigherBlock,
  kBarrierCount,
  kViewTooLarge,
};

// Two stages of 64 x 8 values: copied by cp.async, read by the other warps, summed up.
template <Bug bug>
PLUQ_KERNEL(64, 1)
void pipeline_kernel(gmem<const uint16_t> x, gmem<float> y, gmem<int32_t> flags, int steps) {
  PLUQ_DYNAMIC_SMEM(raw);
  PLUQ_STATIC_SMEM(float, sums, 2);
  const int t = static_cast<int>(thread_idx().x);
  const auto stage = [&](int s) {
    const uint32_t rows = bug == Bug::kViewTooLarge ? 200 : 64;
    return raw.view<uint16_t>(static_cast<uint32_t>(s & 1) * 1024, rows * 8);
  };
  const auto copy = [&](int s) {
    if (s < steps) cp_async16(stage(s), t * 8, x, (s * 64 + t) * 8);
    cp_async_commit();
  };
  float sum = 0;
  for (int i = 0; i < 16; ++i) raw.view<uint16_t>(0, 1024).store(i * 64 + t, 0);
  sync_threads();
  copy(0);
  for (int s = 0; s < steps; ++s) {
    copy(s + 1);
    if (bug != Bug::kMissingWait) cp_async_wait<1>();
    if (bug != Bug::kMissingBarrier) sync_threads();
    const int other = bug == Bug::kTileOffByOne ? 64 - t : 63 - t;
    for (int i = 0; i < 8; ++i) sum += f16_to_f32(stage(s).load(other * 8 + i));
    if (bug != Bug::kMissingTrailingBarrier) sync_threads();
  }
  if (bug == Bug::kUninitialised) sum += raw.view<float>(2048, 64).load(t);
  if (bug == Bug::kMisalignedShared) sum += static_cast<float>(raw.load_as<u32x4>(8).v[0]);
  if (bug == Bug::kMisalignedGlobal) sum += static_cast<float>(x.load_as<u32x4>(4).v[0]);
  if (bug == Bug::kGlobalOutOfBounds) sum += f16_to_f32(x.load(steps * 512 + t));
  if (bug == Bug::kGlobalBelow) sum += f16_to_f32((x + -t).load(0));
  if (bug == Bug::kWrongShuffleMask) sum += shfl_xor(sum, 1, lane_id() < 16 ? kFullMask : 0xffffU);
  if (bug == Bug::kShuffleFromAbsentLane && lane_id() < 16) sum += shfl_xor(sum, 16, 0xffffU);
  if (bug == Bug::kDivergence && lane_id() == 3) sync_threads();
  if (bug == Bug::kEarlyReturn && t == 40) return;
  sum = warp_sum(sum);
  if (bug == Bug::kMissingSyncWarp && warp_id() == 0) {
    raw.view<float>(0, 32).store(lane_id(), sum);
    sum = raw.view<float>(0, 32).load(lane_id() ^ 1);
  }
  if (bug == Bug::kBarrierCount) named_sync(1, warp_id() == 0 ? 64 : 32);
  if (lane_id() == 0) sums.store(warp_id(), sum);
  sync_threads();
  if (bug == Bug::kWaitsForHigherBlock && t == 0) {
    wait_equal(flags, block_idx().x == 0 ? 1 : 0, 1);
  }
  if (t == 0) {
    release_add(flags, static_cast<int64_t>(block_idx().x), 1);
    y.store(block_idx().x, sums.load(0) + sums.load(1));
  }
}

template <Bug bug>
LaunchError run(uint32_t checks = PLUQ_EMU_CHECK_ALL, float* first = nullptr) {
  EmulatedDevice device(80, checks);
  constexpr int kSteps = 3;
  std::vector<uint16_t> x(kSteps * 512);
  for (size_t i = 0; i < x.size(); ++i) x[i] = f32_to_f16(static_cast<float>(i % 7));
  float* y = device.array<float>(2);
  const auto error = launch(
      &pipeline_kernel<bug>, LaunchShape{{2, 1, 1}, 64, 2048 + 256, "pipeline"},
      Stream(device.exec()), gmem<const uint16_t>(device.upload(x), static_cast<int64_t>(x.size())),
      gmem<float>(y), gmem<int32_t>(device.array<int32_t>(2)), kSteps);
  if (first != nullptr) *first = y[0];
  return error;
}

void expect(const LaunchError& error, const std::vector<std::string>& parts) {
  ASSERT_TRUE(error) << "the mistake was not noticed";
  EXPECT_EQ(error.text.find("kernel pipeline, block ("), 0U) << error.text;
  EXPECT_NE(error.text.find("planted_bugs_test.cc:"), std::string::npos) << error.text;
  for (const auto& part : parts) EXPECT_NE(error.text.find(part), std::string::npos) << error.text;
}

TEST(CudaPlantedBugs, TheCorrectKernelIsSilent) {
  float sum = 0, want = 0;
  const auto error = run<Bug::kNone>(PLUQ_EMU_CHECK_ALL, &sum);
  EXPECT_FALSE(error) << error.text;
  for (int i = 0; i < 3 * 512; ++i) want += static_cast<float>(i % 7);
  EXPECT_EQ(sum, want);
}

TEST(CudaPlantedBugs, MissingBarrier) {
  expect(run<Bug::kMissingBarrier>(), {"without a barrier"});
}
TEST(CudaPlantedBugs, MissingTrailingBarrier) {
  expect(run<Bug::kMissingTrailingBarrier>(),
         {"reads shared memory that a cp.async has not", "warp 0"});
}
TEST(CudaPlantedBugs, MissingWait) {
  expect(run<Bug::kMissingWait>(), {"cp.async has not finished"});
}
TEST(CudaPlantedBugs, TileOffByOne) {
  expect(run<Bug::kTileOffByOne>(), {"of 512", "out of bounds"});
}
TEST(CudaPlantedBugs, GlobalOutOfBounds) {
  expect(run<Bug::kGlobalOutOfBounds>(), {"of 1536", "out of bounds"});
}
TEST(CudaPlantedBugs, GlobalBelow) {
  expect(run<Bug::kGlobalBelow>(), {"element -", "of 1536", "out of bounds"});
}
TEST(CudaPlantedBugs, MisalignedGlobal) {
  expect(run<Bug::kMisalignedGlobal>(), {"global load of 16 bytes", "not a multiple of 16"});
}
TEST(CudaPlantedBugs, MisalignedShared) {
  expect(run<Bug::kMisalignedShared>(), {"shared load of 16 bytes", "byte 8", "multiple of 16"});
}
TEST(CudaPlantedBugs, Uninitialised) {
  expect(run<Bug::kUninitialised>(), {"nobody has written", "byte 2"});
}
TEST(CudaPlantedBugs, WrongShuffleMask) {
  expect(run<Bug::kWrongShuffleMask>(), {"is not in its own mask 0x0000ffff"});
}
TEST(CudaPlantedBugs, ShuffleFromAbsentLane) {
  expect(run<Bug::kShuffleFromAbsentLane>(), {"reads lane ", "which is not in the mask"});
}
TEST(CudaPlantedBugs, Divergence) { expect(run<Bug::kDivergence>(), {"lane 3", "barrier"}); }
TEST(CudaPlantedBugs, EarlyReturn) {
  expect(run<Bug::kEarlyReturn>(),
         {"deadlock", "warp 1 lanes 0x00000100 have returned", "wait in warp_sum"});
}
TEST(CudaPlantedBugs, MissingSyncWarp) {
  expect(run<Bug::kMissingSyncWarp>(), {"without a barrier"});
}
TEST(CudaPlantedBugs, WaitsForHigherBlock) {
  expect(run<Bug::kWaitsForHigherBlock>(), {"block (0, 0, 0)", "higher-numbered block"});
}
TEST(CudaPlantedBugs, BarrierCount) {
  expect(run<Bug::kBarrierCount>(), {"deadlock", "warp 0 lanes 0xffffffff wait in a barrier"});
}
TEST(CudaPlantedBugs, ViewTooLarge) {
  expect(run<Bug::kViewTooLarge>(), {"larger than its array"});
}

TEST(CudaPlantedBugs, DetectorsCanBeSwitchedOff) {
  EXPECT_FALSE(run<Bug::kMissingBarrier>(PLUQ_EMU_CHECK_INIT));
  EXPECT_FALSE(run<Bug::kMissingTrailingBarrier>(PLUQ_EMU_CHECK_INIT));
  EXPECT_FALSE(run<Bug::kUninitialised>(PLUQ_EMU_CHECK_RACES));
  EXPECT_FALSE(run<Bug::kMissingSyncWarp>(0));
  EXPECT_TRUE(run<Bug::kTileOffByOne>(0));  // bounds are always looked at
}

enum class Reads { kLoad, kVector, kCopy, kAtomic, kWritesFirst };

// One thread reads element 9 of x, which nobody wrote unless it does so itself.
template <Reads how>
PLUQ_KERNEL(32, 1)
void fresh_kernel(gmem<int32_t> x, gmem<int32_t> y) {
  PLUQ_STATIC_SMEM(int32_t, tile, 4);
  if (thread_idx().x != 3) return;
  int32_t v = 0;
  if (how == Reads::kWritesFirst) x.store(9, 5), v = x.load(9);
  if (how == Reads::kLoad) v = x.load(9);
  if (how == Reads::kVector) v = static_cast<int32_t>(x.load16(8).v[0]);
  if (how == Reads::kCopy) cp_async16(tile, 0, x, 8);
  if (how == Reads::kAtomic) v = atomic_add(x, 9, 1);
  y.store(0, v);
}

template <Reads how>
LaunchError run_fresh(uint32_t checks = PLUQ_EMU_CHECK_ALL) {
  EmulatedDevice device(80, checks);
  auto* x = device.fresh<int32_t>(16);
  x[8] = 7;
  device.note_written(x + 8, 4);
  return launch(&fresh_kernel<how>, LaunchShape{{1, 1, 1}, 32, 0, "fresh"}, Stream(device.exec()),
                gmem<int32_t>(x, 16), gmem<int32_t>(device.fresh<int32_t>(1), 1));
}

TEST(CudaPlantedBugs, UninitialisedDeviceMemory) {
  for (const LaunchError& error : {run_fresh<Reads::kLoad>(), run_fresh<Reads::kVector>(),
                                   run_fresh<Reads::kCopy>(), run_fresh<Reads::kAtomic>()}) {
    ASSERT_TRUE(error) << "the mistake was not noticed";
    for (const char* part :
         {"kernel fresh, block (0, 0, 0), thread (3, 0, 0)",
          "planted_bugs_test.cc:", "device memory that nobody has written", "byte 36 of 64 bytes"})
      EXPECT_NE(error.text.find(part), std::string::npos) << error.text;
  }
  const auto silent = run_fresh<Reads::kWritesFirst>();
  EXPECT_FALSE(silent) << silent.text;
  EXPECT_FALSE(run_fresh<Reads::kLoad>(PLUQ_EMU_CHECK_ALL & ~PLUQ_EMU_CHECK_GLOBAL_INIT));
}

enum class Between {
  kNone,
  kNoWriterFence,
  kNoReaderFence,
  kNoWriterBarrier,
  kNoReaderBarrier,
  kNoCounter,
  kSameElement,
  kReadThenWritten,
  kThreadsOfOneBlock,
};

// Three blocks leave parts of a sum; whoever comes last adds them up. y [4], x [2].
template <Between bug>
PLUQ_KERNEL(64, 1)
void parts_kernel(gmem<float> part, gmem<int32_t> counter, gmem<float> y, gmem<float> x,
                  gmem<uint16_t> halves) {
  PLUQ_STATIC_SMEM(int32_t, last, 1);
  const int t = static_cast<int>(thread_idx().x), block = static_cast<int>(block_idx().x);
  part.store(block * 64 + t, static_cast<float>(block + t));
  if (t == 0) halves.store(block, 7);  // two blocks in one word of 4 bytes
  if (bug == Between::kSameElement && t == 9) y.store(3, 1);
  if (bug == Between::kReadThenWritten && t == 0) {
    const float v = x.load(1 - block % 2);
    if (block == 2) x.store(1, v);
  }
  if (bug == Between::kThreadsOfOneBlock && t > 0) y.store(0, part.load(block * 64 + t - 1));
  if (bug != Between::kNoWriterFence) thread_fence();
  if (bug != Between::kNoWriterBarrier) sync_threads();
  if (t == 0) {
    last.store(0, bug == Between::kNoCounter ? block == 2 : atomic_add(counter, 0, 1) == 2);
  }
  sync_threads();
  if (last.load(0) == 0) return;
  if (bug != Between::kNoReaderFence) thread_fence();
  float sum = 0;
  for (int b = 0; b < 3; ++b) sum += part.load_cg(b * 64 + t);
  part.store(t, sum);
  if (bug != Between::kNoReaderBarrier) sync_threads();
  if (t == 0) {
    for (int i = 1; i < 64; ++i) sum += part.load(i);
    y.store(0, sum);
    counter.store(0, 0);
  }
}

template <Between bug>
LaunchError run_parts(float* sum = nullptr, uint32_t checks = PLUQ_EMU_CHECK_ALL) {
  EmulatedDevice device(80, checks);
  float* y = device.fresh<float>(4);
  const auto error =
      launch(&parts_kernel<bug>, LaunchShape{{3, 1, 1}, 64, 0, "parts"}, Stream(device.exec()),
             gmem<float>(device.fresh<float>(192), 192), gmem<int32_t>(device.array<int32_t>(1), 1),
             gmem<float>(y, 4), gmem<float>(device.array<float>(2), 2),
             gmem<uint16_t>(device.fresh<uint16_t>(3), 3));
  if (sum != nullptr) *sum = y[0];
  return error;
}

template <Between bug>
void expect_between(const std::string& part, const std::string& other) {
  const LaunchError error = run_parts<bug>();
  ASSERT_TRUE(error) << "the mistake was not noticed";
  EXPECT_EQ(error.text.find("kernel parts, block ("), 0U) << error.text;
  for (const std::string& p : {std::string("planted_bugs_test.cc:"), part, other})
    EXPECT_NE(error.text.find(p), std::string::npos) << error.text;
}

TEST(CudaPlantedBugs, RacesInDeviceMemory) {
  float sum = 0;
  const LaunchError silent = run_parts<Between::kNone>(&sum);
  EXPECT_FALSE(silent) << silent.text;
  EXPECT_EQ(sum, 3 * 64 * 63 / 2 + 64 * 3);
  const std::string block = "another block wrote, without release and acquire in between",
                    other = "the other is block (0, 0, 0), thread (";
  expect_between<Between::kNoWriterFence>("reads device memory that " + block, other);
  expect_between<Between::kNoReaderFence>("reads device memory that " + block, other);
  expect_between<Between::kNoWriterBarrier>("reads device memory that " + block, other);
  expect_between<Between::kNoCounter>("reads device memory that " + block, other);
  expect_between<Between::kSameElement>("writes device memory that " + block, other);
  expect_between<Between::kReadThenWritten>("writes device memory that another block read",
                                            "byte 4 of 8 bytes");
  expect_between<Between::kThreadsOfOneBlock>("another thread wrote, without a barrier", other);
  expect_between<Between::kNoReaderBarrier>("another thread", "block (2, 0, 0), thread (");
  EXPECT_FALSE(
      run_parts<Between::kSameElement>(nullptr, PLUQ_EMU_CHECK_ALL & ~PLUQ_EMU_CHECK_GLOBAL_RACES));
}

enum class Chain { kNone, kNoBarrierAfterWait, kNoBarrierBeforeRelease, kPlainFlag };

// Each block adds one to what the block before it left, neighbours exchanged. y [3][64].
template <Chain bug>
PLUQ_KERNEL(64, 1)
void chain_kernel(gmem<int32_t> y, gmem<int32_t> done) {
  const int t = static_cast<int>(thread_idx().x), block = static_cast<int>(block_idx().x);
  if (block > 0 && t == 0) wait_equal(done, block - 1, 1);
  if (bug != Chain::kNoBarrierAfterWait) sync_threads();
  y.store(block * 64 + t, block == 0 ? t : y.load((block - 1) * 64 + (t ^ 33)) + 1);
  if (bug != Chain::kNoBarrierBeforeRelease) sync_threads();
  if (t != 0) return;
  if (bug == Chain::kPlainFlag) {
    done.store(block, 1);
  } else {
    release_store(done, block, 1);
  }
}

template <Chain bug>
LaunchError run_chain(int32_t* third = nullptr) {
  EmulatedDevice device(80);
  auto* y = device.fresh<int32_t>(192);
  const auto error =
      launch(&chain_kernel<bug>, LaunchShape{{3, 1, 1}, 64, 0, "chain"}, Stream(device.exec()),
             gmem<int32_t>(y, 192), gmem<int32_t>(device.array<int32_t>(3), 3));
  if (third != nullptr) *third = y[128 + 7];
  return error;
}

TEST(CudaPlantedBugs, BlocksThatWaitForOneAnother) {
  int32_t third = 0;
  const LaunchError silent = run_chain<Chain::kNone>(&third);
  EXPECT_FALSE(silent) << silent.text;
  EXPECT_EQ(third, 7 + 2);
  for (const LaunchError& error :
       {run_chain<Chain::kNoBarrierAfterWait>(), run_chain<Chain::kNoBarrierBeforeRelease>(),
        run_chain<Chain::kPlainFlag>()}) {
    ASSERT_TRUE(error) << "the mistake was not noticed";
    for (const char* part : {"kernel chain, block (1, 0, 0)", "without release and acquire",
                             "the other is block (0, 0, 0)", "at planted_bugs_test.cc:"})
      EXPECT_NE(error.text.find(part), std::string::npos) << error.text;
  }
}

PLUQ_KERNEL(32, 1) void nothing_kernel(gmem<const float> x) { (void)x; }

TEST(CudaPlantedBugs, ArgumentsOutsideOfDeviceMemory) {
  EmulatedDevice device;
  const std::vector<float> host(8);
  const LaunchShape shape{{1, 1, 1}, 32, 0, "nothing"};
  const auto wild =
      launch(&nothing_kernel, shape, Stream(device.exec()), gmem<const float>(host.data()));
  EXPECT_EQ(wild.status, PLUQ_STATUS_INVALID);
  EXPECT_NE(wild.text.find("nothing: argument 0"), std::string::npos) << wild.text;
  const float* x = device.array<float>(8);
  EXPECT_TRUE(launch(&nothing_kernel, shape, Stream(device.exec()), gmem<const float>(x, 9)));
  EXPECT_FALSE(launch(&nothing_kernel, shape, Stream(device.exec()), gmem<const float>(x, 8)));
  EXPECT_FALSE(launch(&nothing_kernel, shape, Stream(device.exec()), gmem<const float>(nullptr)));
}

struct Parameters {  // launch() does not look into a struct
  gmem<const float> x;
};
PLUQ_KERNEL(32, 1) void parameters_kernel(Parameters p, gmem<float> y) {
  y.store(lane_id(), p.x.load(lane_id()));
}

TEST(CudaPlantedBugs, ACountLargerThanTheAllocation) {
  for (const uint32_t checks : {PLUQ_EMU_CHECK_ALL, PLUQ_EMU_CHECK_RACES}) {
    EmulatedDevice device(80, checks);
    const float* x = device.array<float>(31);
    const LaunchShape shape{{1, 1, 1}, 32, 0, "parameters"};
    const auto launch_with = [&](gmem<const float> g) {
      return launch(&parameters_kernel, shape, Stream(device.exec()), Parameters{g},
                    gmem<float>(device.array<float>(32)));
    };
    const auto false_count = launch_with(gmem<const float>(x, 32));
    if (checks == PLUQ_EMU_CHECK_ALL) {
      EXPECT_NE(false_count.text.find("not whole, in a device allocation"), std::string::npos)
          << false_count.text;
    }
    const auto no_count = launch_with(gmem<const float>(x));
    EXPECT_TRUE(no_count);
    EXPECT_NE(no_count.text.find("load of 4 bytes"), std::string::npos) << no_count.text;
  }
}

TEST(CudaPlantedBugs, WrongShapes) {
  EmulatedDevice device(89);
  const float* x = device.array<float>(8);
  const auto run = [&](uint32_t threads, uint32_t smem) {
    return launch(&nothing_kernel, LaunchShape{{1, 1, 1}, threads, smem, "nothing"},
                  Stream(device.exec()), gmem<const float>(x));
  };
  EXPECT_TRUE(run(0, 0));
  EXPECT_TRUE(run(1056, 0));
  EXPECT_NE(run(32, 101377).text.find("101376"), std::string::npos);
}

}  // namespace
}  // namespace pluq
