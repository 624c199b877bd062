// SPDX-License-Identifier: Apache-2.0
#include "device/probes.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <vector>

namespace pluq {

const cpu::Probes* probes_portable();
const cpu::Probes* probes_avx2();
const cpu::Probes* probes_avx512();

namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kProbeBytes = size_t{256} << 20;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

const cpu::Probes& probes(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return *probes_avx512();
    case Isa::kAvx2:
      return *probes_avx2();
    case Isa::kPortable:
      break;
  }
  return *probes_portable();
}

// The checksum goes somewhere the compiler cannot see through.
std::atomic<uint64_t> sink{0};

}  // namespace

Buffer bandwidth_memory() {
  Buffer memory(kProbeBytes, "the bandwidth probe");
  std::memset(memory.data(), 1, memory.size());
  return memory;
}

double measure_bandwidth(ThreadPool& pool, Isa isa, const Buffer& memory) {
  double best = 0;
  for (int form = 0; form < cpu::kProbeReadForms; ++form) {
    const auto start = Clock::now();
    pool.run([&](int worker, int workers) {
      sink += probes(isa).read(memory.data(), static_cast<int64_t>(memory.size()), form, worker,
                               workers);
    });
    best = std::max(best, static_cast<double>(memory.size()) / seconds_since(start) / 1e9);
  }
  return best;
}

double measure_peak(ThreadPool& pool, Isa isa, cpu::ProbePeak kind, double seconds) {
  int64_t rounds = 1000;
  while (true) {
    std::vector<double> operations(static_cast<size_t>(pool.size()));
    const auto start = Clock::now();
    pool.run([&](int worker, int) {
      operations[static_cast<size_t>(worker)] = probes(isa).peak(kind, rounds);
    });
    const double spent = seconds_since(start);
    double total = 0;
    for (const double o : operations) total += o;
    if (spent >= seconds / 2) return total / spent / 1e9;
    rounds = std::max(rounds * 2, static_cast<int64_t>(static_cast<double>(rounds) * seconds /
                                                       std::max(spent, 1e-6)));
  }
}

}  // namespace pluq
