// SPDX-License-Identifier: Apache-2.0
// Speed of the float GEMM beside the probes: float_gemm_bench [isa] [threads] [rounds] [N K] [row
// gap] [cases]. Each round times both probes and then every M, so that all see the same machine;
// medians over the rounds. Weights rotate through more than 200 MB of huge pages and rounding of
// activations is included. The time is the largest CPU time among the workers, which other
// processes disturb less than the wall's: on an idle machine they agree. row gap: unused floats
// between the rows of x. cases: how a case's name must begin.
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <barrier>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "pluq/cpu/float_gemm.h"
#include "pluq/cpu/probe.h"

const pluq::cpu::FloatKernels* float_bench_kernels_portable();
const pluq::cpu::FloatKernels* float_bench_kernels_avx2();
const pluq::cpu::FloatKernels* float_bench_kernels_avx512();
const pluq::cpu::Probes* float_bench_probes_portable();
const pluq::cpu::Probes* float_bench_probes_avx2();
const pluq::cpu::Probes* float_bench_probes_avx512();

namespace {

using namespace pluq::cpu;

constexpr int64_t kTokens[] = {1, 2, 4, 6, 8, 16, 64, 512};
constexpr int64_t kMaxTokens = 512;
constexpr int64_t kRotatedBytes = int64_t{220} << 20;
constexpr int64_t kProbeBytes = int64_t{256} << 20;

struct Case {
  const char* name;
  FloatType type;
  FloatScale scale;
  FloatRound round;
};

constexpr Case kCases[] = {
    {"bf16", FloatType::kBf16, FloatScale::kNone, FloatRound::kNone},
    {"f16", FloatType::kF16, FloatScale::kNone, FloatRound::kNone},
    {"f32", FloatType::kF32, FloatScale::kNone, FloatRound::kNone},
    {"e4m3 channel", FloatType::kE4m3, FloatScale::kRow, FloatRound::kNone},
    {"e4m3 channel, a8 token", FloatType::kE4m3, FloatScale::kRow, FloatRound::kToken},
    {"e4m3 128x128, a8 group", FloatType::kE4m3, FloatScale::kBlock, FloatRound::kGroup},
    {"e5m2 channel", FloatType::kE5m2, FloatScale::kRow, FloatRound::kNone},
};

// Threads pinned one to a core; the caller is worker 0. run returns when all have finished.
class Crew {
 public:
  explicit Crew(int size) : gate_(size) {
    pin(0);
    for (int i = 1; i < size; ++i) threads_.emplace_back([this, i] { follow(i); });
  }
  ~Crew() {
    job_ = nullptr;
    gate_.arrive_and_wait();
    for (std::thread& t : threads_) t.join();
  }
  void run(const std::function<void(int)>& job) {
    job_ = &job;
    gate_.arrive_and_wait();
    job(0);
    gate_.arrive_and_wait();
  }
  void meet() { gate_.arrive_and_wait(); }

 private:
  static void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<size_t>(core), &set);
    pthread_setaffinity_np(pthread_self(), sizeof set, &set);
  }
  void follow(int index) {
    pin(index);
    for (;;) {
      gate_.arrive_and_wait();
      if (job_ == nullptr) return;
      (*job_)(index);
      gate_.arrive_and_wait();
    }
  }
  std::barrier<> gate_;
  const std::function<void(int)>* job_ = nullptr;
  std::vector<std::thread> threads_;
};

// Bytes on huge pages, written once so that every page exists.
class Memory {
 public:
  explicit Memory(int64_t bytes) {
    constexpr size_t kHuge = size_t{1} << 21;
    const size_t whole = (static_cast<size_t>(bytes) + kHuge - 1) / kHuge * kHuge;
    data_ = std::aligned_alloc(kHuge, whole);
    if (data_ == nullptr) throw std::runtime_error("out of memory");
    madvise(data_, whole, MADV_HUGEPAGE);
    std::memset(data_, 1, whole);
  }
  ~Memory() { std::free(data_); }
  Memory(Memory&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Memory& operator=(Memory&&) = delete;
  void* data() const { return data_; }

 private:
  void* data_;
};

double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Bench {
 public:
  Bench(const FloatKernels* kernels, const Probes* probes, int threads, int rounds, int64_t n,
        int64_t k, int64_t gap)
      : kernels_(kernels),
        probes_(probes),
        threads_(threads),
        rounds_(rounds),
        n_(n),
        k_(k),
        ldx_(k + gap),
        crew_(threads),
        probed_(kProbeBytes),
        x_(kMaxTokens * ldx_ * 4),
        y_(kMaxTokens * n * 4) {
    auto* x = static_cast<float*>(x_.data());
    for (int64_t i = 0; i < kMaxTokens * ldx_; ++i) {
      x[i] = static_cast<float>(static_cast<int>(static_cast<uint32_t>(i) * 2654435761U % 2001) -
                                1000) *
             1e-3F;
    }
  }

  void measure(const Case& c) {
    FloatWeights w;
    w.n = n_;
    w.k = k_;
    w.type = c.type;
    w.scale = c.scale;
    w.block_n = w.block_k = 128;
    const int64_t bytes = float_packed_bytes(w);
    const auto copies = static_cast<size_t>(kRotatedBytes / bytes + 1);
    std::vector<Memory> memory;
    std::vector<FloatWeights> weights;
    const std::vector<uint8_t> source = elements(c.type);
    const std::vector<float> scales(static_cast<size_t>(float_scale_count(w)), 0.125F);
    for (size_t i = 0; i < copies; ++i) {
      memory.emplace_back(bytes);
      float_pack_init(&w, scales.data(), memory[i].data());
      if (i == 0) float_pack_panels(w, source.data(), 0, w.num_panels, memory[0].data());
      if (i > 0) std::memcpy(memory[i].data(), memory[0].data(), static_cast<size_t>(bytes));
      weights.push_back(w);
    }
    const Memory workspace(float_workspace_bytes(w, kMaxTokens, c.round, threads_));
    std::vector<double> read, peak;
    std::vector<std::vector<double>> times(std::size(kTokens));
    for (int round = 0; round < rounds_; ++round) {
      read.push_back(bandwidth());
      peak.push_back(arithmetic());
      for (size_t i = 0; i < std::size(kTokens); ++i) {
        times[i].push_back(time_of(weights, c.round, kTokens[i], workspace.data(),
                                   kTokens[i] <= 8 ? 2 * copies : 1));
      }
    }
    for (size_t i = 0; i < std::size(kTokens); ++i) {
      const double t = median(times[i]), gbs = static_cast<double>(bytes) / t * 1e-9;
      const double gflops = 2e-9 * static_cast<double>(kTokens[i]) * static_cast<double>(n_) *
                            static_cast<double>(k_) / t;
      std::printf("%-24s %5lld %10.0f %8.1f %8.2f %9.1f %9.2f\n", c.name,
                  static_cast<long long>(kTokens[i]), t * 1e6, gbs, gbs / median(read), gflops,
                  gflops / median(peak));
    }
    std::fflush(stdout);
  }

  bool consumed() const { return sum_ != 1; }  // keeps the probe's reads alive

 private:
  double timed(const std::function<void(int)>& job) {
    std::vector<double> spent(static_cast<size_t>(threads_));
    crew_.run([&](int i) {
      const double begin = cpu_seconds();
      job(i);
      spent[static_cast<size_t>(i)] = cpu_seconds() - begin;
    });
    return *std::max_element(spent.begin(), spent.end());
  }

  double bandwidth() {  // GB/s, the best of all forms
    double best = 0;
    std::vector<uint64_t> sums(static_cast<size_t>(threads_));
    for (int form = 0; form < kProbeReadForms; ++form) {
      const double t = timed([&](int i) {
        sums[static_cast<size_t>(i)] =
            probes_->read(probed_.data(), kProbeBytes, form, i, threads_);
      });
      for (const uint64_t s : sums) sum_ += s;
      best = std::max(best, static_cast<double>(kProbeBytes) / t * 1e-9);
    }
    return best;
  }

  double arithmetic() {  // GFLOPS of all threads
    std::vector<double> done(static_cast<size_t>(threads_));
    const double t = timed(
        [&](int i) { done[static_cast<size_t>(i)] = probes_->peak(ProbePeak::kF32, 3000000); });
    double all = 0;
    for (const double d : done) all += d;
    return all / t * 1e-9;
  }

  double time_of(const std::vector<FloatWeights>& weights, FloatRound round, int64_t m,
                 void* workspace, size_t repeats) {
    FloatInput in;
    in.round = round;
    in.m = m;
    in.x = static_cast<const float*>(x_.data());
    in.ldx = ldx_;
    FloatOutput out;
    out.y = static_cast<float*>(y_.data());
    out.ldy = n_;
    double total = 0;
    for (size_t i = 0; i < repeats; ++i) {
      const FloatWeights& w = weights[next_++ % weights.size()];
      total += timed([&](int worker) {
        if (round != FloatRound::kNone) {
          kernels_->round(&w, &in, workspace, worker, threads_);
          crew_.meet();
        }
        kernels_->gemm(&w, &in, &out, workspace, worker, threads_);
      });
    }
    return total / static_cast<double>(repeats);
  }

  // [N, K] finite elements: 8-bit codes and high bytes go through all values below half of the
  // type's range.
  std::vector<uint8_t> elements(FloatType type) const {
    const int64_t size = float_type_bytes(type);
    std::vector<uint8_t> out(static_cast<size_t>(n_ * k_ * size));
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<uint8_t>((i * 131 + i / 4099) & 0xbf);
    return out;
  }

  const FloatKernels* kernels_;
  const Probes* probes_;
  const int threads_, rounds_;
  const int64_t n_, k_, ldx_;
  Crew crew_;
  const Memory probed_, x_, y_;
  uint64_t sum_ = 0;
  size_t next_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  const std::string isa = argc > 1 ? argv[1] : "avx2";
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 7;
  const int64_t n = argc > 5 ? std::atoll(argv[4]) : 14336,
                k = argc > 5 ? std::atoll(argv[5]) : 4096;
  const int64_t gap = argc > 6 ? std::atoll(argv[6]) : 0;
  const bool known = isa == "portable" || isa == "avx2" || isa == "avx512";
  if (!known || threads < 1 || rounds < 1 || n < 1 || k < 1 || gap < 0) {
    std::fprintf(stderr,
                 "usage: float_gemm_bench [portable|avx2|avx512] [threads] [rounds] [N K] [row "
                 "gap] [cases]\n");
    return 2;
  }
  const FloatKernels* kernels = isa == "portable" ? float_bench_kernels_portable()
                                : isa == "avx2"   ? float_bench_kernels_avx2()
                                                  : float_bench_kernels_avx512();
  const Probes* probes = isa == "portable" ? float_bench_probes_portable()
                         : isa == "avx2"   ? float_bench_probes_avx2()
                                           : float_bench_probes_avx512();
  Bench bench(kernels, probes, threads, rounds, n, k, gap);
  std::printf("%s, %d threads, N=%lld K=%lld, row gap %lld\n%-24s %5s %10s %8s %8s %9s %9s\n",
              kernels->isa, threads, static_cast<long long>(n), static_cast<long long>(k),
              static_cast<long long>(gap), "case", "M", "us", "GB/s", "/probe", "GFLOPS", "/peak");
  const std::string wanted = argc > 7 ? argv[7] : "";
  for (const Case& c : kCases) {
    if (std::string(c.name).rfind(wanted, 0) == 0) bench.measure(c);
  }
  return bench.consumed() ? 0 : 1;
}
