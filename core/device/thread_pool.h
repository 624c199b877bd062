// SPDX-License-Identifier: Apache-2.0
// The one persistent pool of worker threads, owned by the host and lent to plugins through
// pluq_exec.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace pluq {

// CPUs this process may use: affinity mask and cgroup quota, at least 1.
int usable_cpus();

class ThreadPool {
 public:
  // n workers; the caller of run() is worker 0, so n = 1 starts no thread. Throws Error(kUsage) for
  // n < 1.
  explicit ThreadPool(int n);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }

  // Runs fn(worker, size()) once on every worker and returns when all are done. Not nestable, one
  // caller at a time. The first exception of a worker is rethrown here after all have finished; a
  // worker that throws must not leave others waiting in barrier(): it is counted as arrived in
  // every barrier from then on.
  void run(const std::function<void(int worker, int workers)>& fn);

  // Waits until every worker of the current region has arrived. Only inside run().
  void barrier(int worker);

 private:
  void work(int worker);
  void finish_one();

  const int size_;
  std::vector<std::thread> threads_;
  const std::function<void(int, int)>* job_ = nullptr;
  std::atomic<uint32_t> generation_{0};  // a new job per value; workers sleep on it
  std::atomic<int32_t> running_{0};      // workers still inside the job
  std::atomic<uint32_t> done_{
      0};  // equals generation_ when the job is over; the caller sleeps on it
  alignas(64) std::atomic<int32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
  std::atomic<int32_t> gone_{0};  // workers that left the region by an exception
  std::atomic<bool> stop_{false};
  std::mutex error_mutex_;
  std::exception_ptr error_;
};

}  // namespace pluq
