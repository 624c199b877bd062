// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

#include "device/device.h"
#include "device/exec.h"
#include "device/isa.h"
#include "device/memory.h"
#include "device/thread_pool.h"
#include "support/files.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define PLUQ_CLANG_SANITIZER 1
#endif
#endif

namespace pluq {
namespace {

using test::expect_error;

TEST(Isa, ForcedLevelsLowerTheFeatures) {
  CpuInfo cpu;
  cpu.model = "test";
  cpu.features = PLUQ_CPU_X86_64_V2 | PLUQ_CPU_AVX2 | PLUQ_CPU_FMA | PLUQ_CPU_F16C | PLUQ_CPU_BMI2;
  EXPECT_EQ(best_isa(allowed_features(cpu, "")), Isa::kAvx2);
  EXPECT_EQ(best_isa(allowed_features(cpu, "portable")), Isa::kPortable);
  expect_error(ErrorKind::kUsage, {"PLUQ_ISA=avx512", "offers at most avx2"},
               [&] { allowed_features(cpu, "avx512"); });
  expect_error(ErrorKind::kUsage, {"PLUQ_ISA=sse9", "accepted are auto, portable, avx2, avx512"},
               [&] { allowed_features(cpu, "sse9"); });
  cpu.features |= PLUQ_CPU_AVX512F | PLUQ_CPU_AVX512BW | PLUQ_CPU_AVX512VL | PLUQ_CPU_AVX512DQ |
                  PLUQ_CPU_AVX512VNNI;
  EXPECT_EQ(best_isa(allowed_features(cpu, "auto")), Isa::kAvx512);
  EXPECT_EQ(allowed_features(cpu, "avx2") & PLUQ_CPU_AVX512VNNI, 0u);
  cpu.features = 0;
  expect_error(ErrorKind::kUsage, {"lacks x86-64-v2"}, [&] { allowed_features(cpu, ""); });
}

TEST(ThreadPool, BarriersOrderEveryWorker) {
  for (const int n : {1, 2, 3, 8}) {
    ThreadPool pool(n);
    std::vector<int> counts(static_cast<size_t>(n));
    std::atomic<int> bad{0};
    for (int round = 0; round < 200; ++round) {
      pool.run([&](int worker, int workers) {
        for (int step = 1; step <= 10; ++step) {
          ++counts[static_cast<size_t>(worker)];
          pool.barrier(worker);
          for (int i = 0; i < workers; ++i)
            bad += counts[static_cast<size_t>(i)] != counts[static_cast<size_t>(worker)];
          pool.barrier(worker);
        }
      });
    }
    EXPECT_EQ(bad, 0) << n;
    EXPECT_EQ(counts[0], 2000);
  }
}

TEST(ThreadPool, AnExceptionReachesTheCallerAndNobodyHangs) {
  ThreadPool pool(4);
  for (int thrower = 0; thrower < 4; ++thrower) {
    for (int i = 0; i < 50; ++i) {
      EXPECT_THROW(pool.run([&](int worker, int) {
        if (worker == thrower) throw std::runtime_error("x");
        pool.barrier(worker);
        pool.barrier(worker);
      }),
                   std::runtime_error);
    }
  }
  int ran = 0;
  pool.run([&](int worker, int) { ran += worker == 0; });
  EXPECT_EQ(ran, 1);
}

TEST(ThreadPool, ManyShortRegions) {
  ThreadPool pool(2);
  std::atomic<int64_t> sum{0};
  for (int i = 0; i < 20'000; ++i) pool.run([&](int worker, int) { sum += worker + 1; });
  EXPECT_EQ(sum, 60'000);
  expect_error(ErrorKind::kUsage, {"at least 1"}, [] { ThreadPool(0); });
}

TEST(HostExec, ParallelReachesThePool) {
  ThreadPool pool(3);
  const HostExec exec(pool, -1, {}, nullptr);
  std::atomic<int> seen{0};
  exec.get()->parallel(
      exec.get(),
      [](void* user, int32_t, int32_t n) { *static_cast<std::atomic<int>*>(user) += n; }, &seen);
  EXPECT_EQ(seen, 9);
}

TEST(Buffer, AlignedZeroedAndHonestAboutFailure) {
  for (const size_t n : {size_t{0}, size_t{1}, size_t{100'000}, size_t{5} << 20}) {
    const Buffer b(n, "test");
    EXPECT_EQ(reinterpret_cast<uintptr_t>(b.data()) % 64, 0u);
    for (size_t i = 0; i < n; i += 997) EXPECT_EQ(b.data()[i], std::byte{0});
  }
  // A sanitizer's allocator ends the process instead of returning NULL.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !PLUQ_CLANG_SANITIZER
  expect_error(ErrorKind::kFailed, {"out of memory: the test needs", "are available"},
               [] { Buffer(size_t{1} << 60, "the test"); });
#endif
  expect_error(ErrorKind::kFailed, {"the test needs"},
               [] { require_memory(uint64_t{1} << 60, "the test"); });
}

}  // namespace
}  // namespace pluq
