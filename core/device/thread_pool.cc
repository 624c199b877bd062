// SPDX-License-Identifier: Apache-2.0
#include "device/thread_pool.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <string>

#include "base/error.h"

namespace pluq {
namespace {

// Spins for a few microseconds, then sleeps in the kernel until `value` differs from `seen`.
constexpr int kSpins = 4000;

void wait_while(std::atomic<uint32_t>& value, uint32_t seen) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != seen) return;
    _mm_pause();
  }
  while (value.load(std::memory_order_acquire) == seen) value.wait(seen, std::memory_order_acquire);
}

// CPUs that the cgroup's quota amounts to, rounded up; 0: no quota.
int quota_cpus() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  double value = 0;
  const auto [end, ec] = std::from_chars(quota.data(), quota.data() + quota.size(), value);
  (void)end;
  return ec == std::errc() ? static_cast<int>(std::ceil(value / period)) : 0;
}

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(i, &set)) cpus.push_back(i);
    }
  }
  return cpus;
}

}  // namespace

int usable_cpus() {
  const auto cpus = std::max<int>(1, static_cast<int>(allowed_cpus().size()));
  const int quota = quota_cpus();
  return quota > 0 ? std::min(cpus, quota) : cpus;
}

ThreadPool::ThreadPool(int n) : size_(n) {
  if (n < 1) fail_usage("{} threads; at least 1 is needed", n);
  // Helpers are spread over the allowed CPUs; the caller's thread is left to the scheduler, since
  // it is not ours.
  const std::vector<int> cpus = allowed_cpus();
  for (int worker = 1; worker < n; ++worker) {
    threads_.emplace_back([this, worker] { work(worker); });
    if (static_cast<size_t>(n) <= cpus.size()) {
      cpu_set_t set;
      CPU_ZERO(&set);
      for (const int cpu : cpus) {
        if (cpu != cpus[0]) CPU_SET(cpu, &set);
      }
      ::pthread_setaffinity_np(threads_.back().native_handle(), sizeof set, &set);
    }
  }
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(const std::function<void(int, int)>& fn) {
  if (size_ == 1) {
    fn(0, 1);
    return;
  }
  job_ = &fn;
  error_ = nullptr;
  arrived_.store(0, std::memory_order_relaxed);
  gone_.store(0, std::memory_order_relaxed);
  running_.store(size_, std::memory_order_relaxed);
  const uint32_t generation = generation_.fetch_add(1, std::memory_order_release) + 1;
  generation_.notify_all();
  try {
    fn(0, size_);
  } catch (...) {
    const std::lock_guard lock(error_mutex_);
    if (!error_) error_ = std::current_exception();
    gone_.fetch_add(1);
    barrier(-1);
  }
  finish_one();
  uint32_t seen = done_.load(std::memory_order_acquire);
  while (seen != generation) {
    wait_while(done_, seen);
    seen = done_.load(std::memory_order_acquire);
  }
  if (error_) std::rethrow_exception(error_);
}

void ThreadPool::finish_one() {
  if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    done_.store(generation_.load(std::memory_order_relaxed), std::memory_order_release);
    done_.notify_all();
  }
}

void ThreadPool::work(int worker) {
  uint32_t seen = 0;
  while (true) {
    wait_while(generation_, seen);
    seen = generation_.load(std::memory_order_acquire);
    if (stop_) return;
    try {
      (*job_)(worker, size_);
    } catch (...) {
      {
        const std::lock_guard lock(error_mutex_);
        if (!error_) error_ = std::current_exception();
      }
      gone_.fetch_add(1);
      barrier(-1);
    }
    finish_one();
  }
}

// worker < 0: someone left by an exception; releases a barrier that now has all who can still come.
void ThreadPool::barrier(int worker) {
  if (size_ == 1) return;
  const uint32_t phase = phase_.load(std::memory_order_acquire);
  const int32_t here = worker < 0 ? arrived_.load() : arrived_.fetch_add(1) + 1;
  const auto release = [&](int32_t count) {
    if (count == 0 || count + gone_.load() < size_) return false;
    // Exactly one thread resets: whoever changes the count to zero.
    if (!arrived_.compare_exchange_strong(count, 0, std::memory_order_acq_rel)) return false;
    phase_.fetch_add(1, std::memory_order_release);
    phase_.notify_all();
    return true;
  };
  if (release(here) || worker < 0) return;
  wait_while(phase_, phase);
}

}  // namespace pluq
