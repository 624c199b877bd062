// SPDX-License-Identifier: Apache-2.0
// Speed of the integer GEMM beside the probes, in turn in one process: int_gemm_bench [isa]
// [threads] [rounds] [N K]. Weights rotate through more than 200 MB; medians of interleaved rounds;
// activation quantization is included. One thread is timed in CPU time.
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "pluq/cpu/int_gemm.h"
#include "pluq/cpu/probe.h"

const pluq::cpu::IntKernels* int_bench_kernels_portable();
const pluq::cpu::IntKernels* int_bench_kernels_avx2();
const pluq::cpu::IntKernels* int_bench_kernels_avx512();
const pluq::cpu::Probes* int_bench_probes_portable();
const pluq::cpu::Probes* int_bench_probes_avx2();
const pluq::cpu::Probes* int_bench_probes_avx512();

namespace {

using namespace pluq::cpu;

// Threads that spin for work, pinned one to a core; the caller is worker 0.
class Pool {
 public:
  explicit Pool(int n) : n_(n) {
    pin(0);
    for (int i = 1; i < n; ++i) threads_.emplace_back([this, i] { serve(i); });
  }
  ~Pool() {
    stop_ = true;
    ++epoch_;
    for (auto& t : threads_) t.join();
  }
  void run(const std::function<void(int)>& work) {
    work_ = &work;
    done_ = 0;
    ++epoch_;
    work(0);
    while (done_ < n_ - 1) __builtin_ia32_pause();
  }
  void barrier() {
    const int turn = turn_;
    if (++waiting_ == n_) {
      waiting_ = 0;
      ++turn_;
    } else {
      while (turn_ == turn) __builtin_ia32_pause();
    }
  }

 private:
  static void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    sched_setaffinity(0, sizeof(set), &set);
  }
  void serve(int i) {
    pin(i);
    int seen = 0;
    for (;;) {
      while (epoch_ == seen) __builtin_ia32_pause();
      seen = epoch_;
      if (stop_) return;
      (*work_)(i);
      ++done_;
    }
  }
  const int n_;
  std::vector<std::thread> threads_;
  const std::function<void(int)>* work_ = nullptr;
  std::atomic<int> epoch_{0}, done_{0}, waiting_{0}, turn_{0};
  std::atomic<bool> stop_{false};
};

void* huge(int64_t bytes) {
  void* p = aligned_alloc(1 << 21, static_cast<size_t>((bytes + (1 << 21) - 1) >> 21 << 21));
  madvise(p, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  std::memset(p, 1, static_cast<size_t>(bytes));
  return p;
}

// One thread: its CPU time, which other processes disturb less. More: time on the wall.
bool use_cpu_time = false;
template <class F>
double seconds(F f) {
  const auto now = [] {
    timespec t;
    clock_gettime(use_cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
  };
  const double begin = now();
  f();
  return now() - begin;
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

struct Case {
  const char* name;
  int bits, group;
  IntZeroKind zero;
  IntActivation mode;
};

}  // namespace

int main(int argc, char** argv) {
  const std::string isa = argc > 1 ? argv[1] : "avx2";
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 7;
  const int64_t n = argc > 5 ? std::atoll(argv[4]) : 14336,
                k = argc > 5 ? std::atoll(argv[5]) : 4096;
  const IntKernels* kernels = isa == "portable" ? int_bench_kernels_portable()
                              : isa == "avx512" ? int_bench_kernels_avx512()
                                                : int_bench_kernels_avx2();
  const Probes* probes = isa == "portable" ? int_bench_probes_portable()
                         : isa == "avx512" ? int_bench_probes_avx512()
                                           : int_bench_probes_avx2();
  use_cpu_time = threads == 1;
  Pool pool(threads);
  const int64_t probe_bytes = 256 << 20;
  const void* memory = huge(probe_bytes);
  std::atomic<uint64_t> sink{0};
  const auto bandwidth = [&] {
    double best = 0;
    for (int form = 0; form < kProbeReadForms; ++form) {
      const double t = seconds([&] {
        pool.run([&](int i) { sink += probes->read(memory, probe_bytes, form, i, threads); });
      });
      best = std::max(best, static_cast<double>(probe_bytes) / t * 1e-9);
    }
    return best;
  };
  const auto peak = [&](ProbePeak kind) {
    std::atomic<double> ops{0};
    const double t = seconds([&] { pool.run([&](int) { ops = probes->peak(kind, 2000000); }); });
    return ops * threads / t * 1e-9;
  };

  const Case cases[] = {
      {"u4 g128 sym, int8/group", 4, 128, IntZeroKind::kConstant, IntActivation::kGroup},
      {"u4 g128 zeros, int8/group", 4, 128, IntZeroKind::kInteger, IntActivation::kGroup},
      {"u4 g32 sym, int8/group", 4, 32, IntZeroKind::kConstant, IntActivation::kGroup},
      {"u8 channel, int8/token", 8, -1, IntZeroKind::kConstant, IntActivation::kToken},
      {"u4 g128 sym, exact", 4, 128, IntZeroKind::kConstant, IntActivation::kExact},
  };
  std::printf("%s, %d threads, N=%lld K=%lld\n%-26s %5s %10s %8s %8s %9s %9s\n", kernels->isa,
              threads, static_cast<long long>(n), static_cast<long long>(k), "case", "M", "us",
              "GB/s", "/probe", "GOPS", "/peak");
  for (const Case& c : cases) {
    IntSpec spec;
    spec.n = n;
    spec.k = k;
    spec.bits = c.bits;
    spec.group_size = c.group;
    spec.zero_kind = c.zero;
    spec.zero_constant = 1 << (c.bits - 1);
    spec.scale_type = IntScaleType::kF16;
    if (const char* why = int_check(spec)) {
      std::fprintf(stderr, "%s\n", why);
      return 1;
    }
    const int64_t bytes = int_packed_bytes(spec);
    const int copies = static_cast<int>((220 << 20) / bytes + 1);
    IntPackSource source;
    source.user = &spec;
    source.codes = [](void* user, int64_t row, uint8_t* out) {
      const IntSpec& s = *static_cast<IntSpec*>(user);
      for (int64_t i = 0; i < s.k; ++i)
        out[i] = static_cast<uint8_t>((row * 31 + i * 17 + i / 64) & ((1 << s.bits) - 1));
    };
    source.scales = source.zeros = [](void* user, int64_t, float* out) {
      const IntSpec& s = *static_cast<IntSpec*>(user);
      std::fill(out, out + int_detail::num_groups(s), 0.125f);
    };
    std::vector<IntWeights> weights;
    std::vector<void*> memories;
    void* scratch = aligned_alloc(64, static_cast<size_t>(int_pack_scratch_bytes(spec)));
    for (int i = 0; i < copies; ++i) {
      memories.push_back(huge(bytes));
      weights.push_back(int_pack_init(spec, memories.back()));
      if (i == 0)
        int_pack_panels(weights[0], source, 0, weights[0].num_panels, memories[0], scratch);
      if (i > 0) std::memcpy(memories[i], memories[0], static_cast<size_t>(bytes));
    }
    const int64_t m_max = 512;
    void* workspace = huge(int_workspace_bytes(weights[0], m_max, c.mode, threads));
    std::vector<float> x(static_cast<size_t>(m_max * k)), y(static_cast<size_t>(m_max * n));
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = static_cast<float>(static_cast<int>(i * 2654435761u % 2001) - 1000) * 1e-3f;
    int next = 0;
    for (int64_t m : {1, 2, 4, 8, 16, 64, 512}) {
      std::vector<double> times, read, ops;
      for (int round = 0; round < rounds; ++round) {
        read.push_back(bandwidth());
        ops.push_back(peak(c.bits == 4 ? ProbePeak::kInt4 : ProbePeak::kInt8));
        const int repeats = m <= 8 ? 2 * copies : 1;
        const double t = seconds([&] {
          for (int i = 0; i < repeats; ++i, ++next) {
            const IntWeights& w = weights[static_cast<size_t>(next % copies)];
            IntInput in;
            in.mode = c.mode;
            in.m = m;
            in.x = x.data();
            in.ldx = k;
            IntOutput out;
            out.y = y.data();
            out.ldy = n;
            pool.run([&](int worker) {
              kernels->quantize(&w, &in, workspace, worker, threads);
              pool.barrier();
              kernels->gemm(&w, &in, &out, workspace, worker, threads);
            });
          }
        });
        times.push_back(t / repeats);
      }
      const double t = median(times), gbs = static_cast<double>(bytes) / t * 1e-9;
      const double gops =
          2e-9 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) / t;
      std::printf("%-26s %5lld %10.0f %8.1f %8.2f %9.1f %9.2f\n", c.name, static_cast<long long>(m),
                  t * 1e6, gbs, gbs / median(read), gops, gops / median(ops));
      std::fflush(stdout);
    }
    for (void* p : memories) std::free(p);
    std::free(workspace);
    std::free(scratch);
  }
  return sink == 1;  // uses the sum
}
