// SPDX-License-Identifier: Apache-2.0
// The emulator's table by itself, without the primitives of pluq/cuda/: order of blocks, barriers,
// collectives, asynchronous copies, and what each mistake is called.
#include "device/cuda_emulator/emulator.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"

namespace pluq::cuda_emulator {
namespace {

using Body = std::function<void(pluq_emu_block*)>;

struct Outcome {
  int32_t code;
  std::string message;
};

pluq_emu_launch launch_of(uint32_t blocks, uint32_t threads, uint32_t shared, const Body& body) {
  pluq_emu_launch l{};
  l.struct_size = sizeof l;
  l.shared_bytes = shared;
  l.name = "tested";
  l.grid_dim[0] = blocks;
  l.block_dim[0] = threads;
  l.grid_dim[1] = l.grid_dim[2] = l.block_dim[1] = l.block_dim[2] = 1;
  l.entry = [](pluq_emu_block* block, void* args) { (*static_cast<const Body*>(args))(block); };
  l.args = const_cast<Body*>(&body);
  return l;
}
Outcome run(Emulator& device, const pluq_emu_launch& l) {
  char message[1024] = "";
  const int32_t code = table()->launch(device.stream(), &l, message, sizeof message);
  return {code, message};
}
Outcome launch(Emulator& device, uint32_t blocks, uint32_t threads, uint32_t shared,
               const Body& body) {
  return run(device, launch_of(blocks, threads, shared, body));
}

void barrier(pluq_emu_block* b) { b->api->barrier(b, 0, 0, 0, __FILE__, __LINE__); }
void touch(pluq_emu_block* b, uint32_t offset, uint32_t bytes, uint32_t kind) {
  b->api->shared_access(b, b->thread, offset, bytes, kind, __FILE__, __LINE__);
}

TEST(CudaEmulator, BlocksRunInOrderAndThreadsMeetAtBarriers) {
  Emulator device(80, PLUQ_EMU_CHECK_ALL);
  std::vector<uint32_t> order, sums;
  const Outcome outcome = launch(device, 3, 70, 4 * 70, [&](pluq_emu_block* b) {
    auto* shared = reinterpret_cast<uint32_t*>(b->shared);
    touch(b, 4 * b->thread, 4, PLUQ_EMU_WRITE);
    shared[b->thread] = b->thread + b->block_idx[0];
    barrier(b);
    if (b->thread != 0) return;
    order.push_back(b->block_idx[0]);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < b->n_threads; ++i) {
      touch(b, 4 * i, 4, PLUQ_EMU_READ);
      sum += shared[i];
    }
    sums.push_back(sum);
  });
  EXPECT_EQ(outcome.code, PLUQ_EMU_OK) << outcome.message;
  EXPECT_EQ(order, (std::vector<uint32_t>{0, 1, 2}));
  EXPECT_EQ(sums, (std::vector<uint32_t>{2415, 2485, 2555}));
}

TEST(CudaEmulator, ACollectiveRunsOnceForAllItsLanes) {
  Emulator device(80, PLUQ_EMU_CHECK_ALL);
  int runs = 0;
  std::vector<int> got(64);
  const Outcome outcome = launch(device, 1, 64, 0, [&](pluq_emu_block* b) {
    int value = static_cast<int>(b->thread);
    b->api->collective(
        b, "reverse", 32, ~0U, &value,
        [](pluq_emu_block*, uint32_t, void* const* operands, void* user) {
          ++*static_cast<int*>(user);
          for (int i = 0; i < 16; ++i) {
            std::swap(*static_cast<int*>(operands[i]), *static_cast<int*>(operands[31 - i]));
          }
        },
        &runs, __FILE__, __LINE__);
    got[b->thread] = value;
  });
  EXPECT_EQ(outcome.code, PLUQ_EMU_OK) << outcome.message;
  EXPECT_EQ(runs, 2);
  for (int t = 0; t < 64; ++t) EXPECT_EQ(got[static_cast<size_t>(t)], t / 32 * 32 + 31 - t % 32);
}

TEST(CudaEmulator, CopiesArriveWhenTheyAreWaitedFor) {
  Emulator device(80, PLUQ_EMU_CHECK_ALL);
  const std::vector<uint8_t> source{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  std::vector<int> seen;
  const Outcome outcome = launch(device, 1, 1, 32, [&](pluq_emu_block* b) {
    b->api->async_copy(b, 0, source.data(), 16, 5, __FILE__, __LINE__);
    b->api->async_commit(b);
    b->api->async_copy(b, 16, source.data(), 16, 16, __FILE__, __LINE__);
    b->api->async_commit(b);
    b->api->async_wait(b, 1, 0, __FILE__, __LINE__);
    touch(b, 0, 16, PLUQ_EMU_READ);
    seen.assign(b->shared, b->shared + 8);
    b->api->async_wait(b, 0, 1, __FILE__, __LINE__);
    touch(b, 16, 16, PLUQ_EMU_READ);
    seen.push_back(b->shared[31]);
  });
  EXPECT_EQ(outcome.code, PLUQ_EMU_OK) << outcome.message;
  EXPECT_EQ(seen, (std::vector<int>{1, 2, 3, 4, 5, 0, 0, 0, 16}));
}

struct Mistake {
  const char* name;
  uint32_t threads;
  Body body;
  const char* message;
};

class Mistakes : public ::testing::TestWithParam<Mistake> {};

TEST_P(Mistakes, IsNamedWithItsPlace) {
  Emulator device(90, PLUQ_EMU_CHECK_ALL);
  const Outcome outcome = launch(device, 2, GetParam().threads, 64, GetParam().body);
  EXPECT_EQ(outcome.code, PLUQ_EMU_FAULT);
  EXPECT_NE(outcome.message.find(GetParam().message), std::string::npos) << outcome.message;
  EXPECT_EQ(outcome.message.find("kernel tested, block ("), 0u) << outcome.message;
  EXPECT_NE(outcome.message.find("cuda_emulator_test.cc:"), std::string::npos) << outcome.message;
  // The device goes on working after a mistake.
  EXPECT_EQ(launch(device, 2, 33, 0, barrier).code, PLUQ_EMU_OK);
}

const uint8_t kSource[16] = {};

INSTANTIATE_TEST_SUITE_P(
    All, Mistakes,
    ::testing::Values(
        Mistake{"Uninitialised", 32,
                [](pluq_emu_block* b) { touch(b, 4 * b->thread % 64, 4, PLUQ_EMU_READ); },
                "nobody has written"},
        Mistake{"ReadRace", 64,
                [](pluq_emu_block* b) {
                  if (b->thread == 0) touch(b, 0, 4, PLUQ_EMU_WRITE);
                  if (b->thread == 40) touch(b, 2, 2, PLUQ_EMU_READ);
                },
                "reads shared memory that another thread wrote"},
        Mistake{"WriteAfterReadRace", 64,
                [](pluq_emu_block* b) {
                  if (b->thread == 0) touch(b, 0, 4, PLUQ_EMU_WRITE);
                  barrier(b);
                  if (b->thread == 63) touch(b, 0, 4, PLUQ_EMU_READ);
                  if (b->thread == 3) touch(b, 0, 4, PLUQ_EMU_WRITE);
                },
                "another thread read"},
        Mistake{"LanesOfOneWarp", 32,
                [](pluq_emu_block* b) {
                  if (b->thread == 0) touch(b, 0, 4, PLUQ_EMU_WRITE);
                  if (b->thread == 1) touch(b, 0, 4, PLUQ_EMU_READ);
                },
                "without a barrier"},
        Mistake{"NamedBarrierOfOthers", 96,
                [](pluq_emu_block* b) {
                  if (b->thread == 0) touch(b, 0, 4, PLUQ_EMU_WRITE);
                  if (b->thread >= 32) b->api->barrier(b, 1, 64, 0, __FILE__, __LINE__);
                  if (b->thread == 40) touch(b, 0, 4, PLUQ_EMU_READ);
                },
                "another thread wrote"},
        Mistake{"CopyNotWaitedFor", 1,
                [](pluq_emu_block* b) {
                  b->api->async_copy(b, 0, kSource, 16, 16, __FILE__, __LINE__);
                  b->api->async_commit(b);
                  touch(b, 8, 4, PLUQ_EMU_READ);
                },
                "cp.async has not finished"},
        Mistake{"CopyOverAReadOfTheLastRound", 64,
                [](pluq_emu_block* b) {
                  touch(b, b->thread, 1, PLUQ_EMU_WRITE);
                  barrier(b);
                  touch(b, 63 - b->thread, 1, PLUQ_EMU_READ);
                  if (b->thread == 0) b->api->async_copy(b, 0, kSource, 16, 16, __FILE__, __LINE__);
                },
                "another thread read"},
        Mistake{"Divergence", 32,
                [](pluq_emu_block* b) {
                  b->api->collective(b, b->thread < 16 ? "shfl" : "vote", 32, ~0U, nullptr, nullptr,
                                     nullptr, __FILE__, __LINE__);
                },
                "divergence: vote meets shfl"},
        Mistake{"NotInItsMask", 32,
                [](pluq_emu_block* b) {
                  b->api->collective(b, "shfl", 32, 0xffff, nullptr, nullptr, nullptr, __FILE__,
                                     __LINE__);
                },
                "not in its own mask"},
        Mistake{"EarlyReturn", 64,
                [](pluq_emu_block* b) {
                  if (b->thread != 7) barrier(b);
                },
                "deadlock: no thread can go on; 1 of 64 have left the kernel, 63 wait"},
        Mistake{"OutOfShared", 1,
                [](pluq_emu_block* b) { touch(b, 227 * 1024 - 2, 4, PLUQ_EMU_WRITE); },
                "outside of the block"},
        Mistake{"WaitsForAHigherBlock", 32,
                [](pluq_emu_block* b) {
                  if (b->block_idx[0] == 0) {
                    for (;;) b->api->pause(b, __FILE__, __LINE__);
                  }
                },
                "a higher-numbered block"},
        Mistake{"BarrierCounts", 64,
                [](pluq_emu_block* b) {
                  b->api->barrier(b, 2, b->thread < 32 ? 32u * (1 + b->thread % 2) : 64u, 0,
                                  __FILE__, __LINE__);
                },
                "barrier 2: 64 threads here, 32"}),
    [](const auto& p) { return p.param.name; });

TEST(CudaEmulator, WrongLaunchesAreRefused) {
  Emulator device(89, 0);
  const auto nothing = [](pluq_emu_block*) {};
  EXPECT_NE(launch(device, 1, 1025, 0, nothing).message.find("1 to 1024"), std::string::npos);
  EXPECT_NE(launch(device, 0, 32, 0, nothing).message.find("grid of 0"), std::string::npos);
  const Outcome shared = launch(device, 1, 32, 99 * 1024 + 1, nothing);
  EXPECT_EQ(shared.code, PLUQ_EMU_INVALID);
  EXPECT_NE(shared.message.find("sm_89 has 101376"), std::string::npos) << shared.message;
  EXPECT_THROW(Emulator(75, 0), Error);
}

TEST(CudaEmulator, RangesOfMemory) {
  Emulator device(80, 0);
  const std::vector<uint8_t> a(100), b(50);
  device.register_memory(a.data(), 100);
  device.register_memory(b.data(), 50);
  EXPECT_EQ(device.range_of(a.data() + 99).begin, a.data());
  EXPECT_EQ(device.range_of(b.data()).bytes, 50u);
  EXPECT_EQ(device.range_of(a.data() + 100).begin, nullptr);
  device.forget_memory(a.data());
  EXPECT_EQ(device.range_of(a.data()).begin, nullptr);
}

TEST(CudaEmulator, BytesThatWereWritten) {
  const std::vector<uint8_t> bytes(300);
  Allocation a(bytes.data(), 300, "", true);
  EXPECT_EQ(a.first_unwritten(5, 10), 5);
  a.note_written(5, 200);
  EXPECT_EQ(a.first_unwritten(5, 200), -1);
  EXPECT_EQ(a.first_unwritten(4, 1), 4);
  EXPECT_EQ(a.first_unwritten(64, 236), 205);
  a.note_written(205, 1000);  // the end is the allocation's
  EXPECT_EQ(a.first_unwritten(5, 1000), -1);
  EXPECT_EQ(Allocation(bytes.data(), 300, "", false).first_unwritten(0, 300), -1);
}

// A plugin of the first revision says neither what it writes nor what it reads.
TEST(CudaEmulator, KernelsThatReportNothingMayHaveWrittenEverything) {
  Emulator device(80, PLUQ_EMU_CHECK_ALL);
  const std::vector<uint8_t> bytes(64);
  device.register_memory(bytes.data(), 64, "weights");
  const Body read = [&](pluq_emu_block* b) {
    b->api->global_access(b, bytes.data() + 8, 4, PLUQ_EMU_READ, __FILE__, __LINE__);
  };
  pluq_emu_launch l = launch_of(1, 1, 0, read);
  l.reports = PLUQ_EMU_REPORTS_GLOBAL;
  const Outcome first = run(device, l);
  EXPECT_NE(first.message.find("nobody has written: byte 8 of weights, 64 bytes"),
            std::string::npos)
      << first.message;
  l.struct_size = offsetof(pluq_emu_launch, reports);
  EXPECT_EQ(run(device, l).code, PLUQ_EMU_OK);
}

TEST(CudaEmulator, SeveralThreadsOfTheSystemLaunchAtOnce) {
  Emulator device(80, PLUQ_EMU_CHECK_ALL);
  std::vector<std::thread> threads;
  std::vector<int> counts(4);
  for (size_t i = 0; i < counts.size(); ++i) {
    threads.emplace_back([&, i] {
      const Outcome outcome = launch(device, 8, 128, 0, [&](pluq_emu_block* b) {
        barrier(b);
        ++counts[i];
      });
      EXPECT_EQ(outcome.code, PLUQ_EMU_OK);
    });
  }
  for (auto& t : threads) t.join();
  for (const int n : counts) EXPECT_EQ(n, 8 * 128);
}

}  // namespace
}  // namespace pluq::cuda_emulator
