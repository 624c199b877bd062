// SPDX-License-Identifier: Apache-2.0
// A pluq_exec over the host's thread pool: what plugin calls run on.
#pragma once

#include <cstddef>
#include <span>

#include "device/runtime.h"
#include "device/thread_pool.h"
#include "pluq/abi.h"

namespace pluq {

// Valid for the calls it is passed to. worker < 0: outside a region, the plugin may use the pool;
// worker >= 0: inside pool.run(), every worker makes the same call with its own HostExec.
class HostExec {
 public:
  HostExec(ThreadPool& pool, int worker, std::span<std::byte> workspace, const pluq_host* host)
      : pool_(pool) {
    exec_.struct_size = sizeof exec_;
    exec_.device_kind = PLUQ_DEVICE_CPU;
    exec_.host = host;
    exec_.workspace = workspace.data();
    exec_.workspace_bytes = workspace.size();
    exec_.worker = worker;
    exec_.n_workers = pool.size();
    exec_.parallel = &HostExec::parallel;
    exec_.barrier = &HostExec::barrier;
  }
  HostExec(const HostExec&) = delete;
  HostExec& operator=(const HostExec&) = delete;

  const pluq_exec* get() const { return &exec_; }

 private:
  // exec_ is the first member, so the plugin's pointer is ours.
  static const HostExec& self(const pluq_exec* exec) {
    return *reinterpret_cast<const HostExec*>(exec);
  }
  static void parallel(const pluq_exec* exec, void (*fn)(void*, int32_t, int32_t), void* user) {
    self(exec).pool_.run([&](int worker, int workers) { fn(user, worker, workers); });
  }
  static void barrier(const pluq_exec* exec, int32_t worker) { self(exec).pool_.barrier(worker); }

  pluq_exec exec_{};
  ThreadPool& pool_;
};

// A pluq_exec on the stream of a device beside the CPU; the workspace is memory of the device.
class DeviceExec {
 public:
  DeviceExec(DeviceRuntime& runtime, void* workspace, uint64_t bytes, const pluq_host* host) {
    exec_.struct_size = sizeof exec_;
    exec_.device_kind = runtime.description().kind;
    exec_.device_index = runtime.description().index;
    exec_.host = host;
    exec_.stream = runtime.stream();
    exec_.workspace = workspace;
    exec_.workspace_bytes = bytes;
    exec_.worker = -1;
    exec_.n_workers = 1;
    exec_.parallel = [](const pluq_exec*, void (*fn)(void*, int32_t, int32_t), void* user) {
      fn(user, 0, 1);
    };
    exec_.barrier = [](const pluq_exec*, int32_t) {};
  }
  DeviceExec(const DeviceExec&) = delete;
  DeviceExec& operator=(const DeviceExec&) = delete;

  const pluq_exec* get() const { return &exec_; }

 private:
  pluq_exec exec_{};
};

}  // namespace pluq
