// SPDX-License-Identifier: Apache-2.0
// For tests of the SDK's kernels: a device with exactly sized arrays that host and kernels both
// reach. It is the emulated one with all detectors on; with PLUQ_TEST_DEVICE=cuda in the
// environment (tests/gpu/run.sh) the same tests run on a GPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "pluq/abi.h"
#include "pluq/cuda/quantized/ops.h"

namespace pluq {

class KernelDevice {
 public:
  // sm: which device is emulated; a GPU is what it is.
  explicit KernelDevice(uint32_t sm = 80);
  ~KernelDevice();
  KernelDevice(const KernelDevice&) = delete;
  KernelDevice& operator=(const KernelDevice&) = delete;

  static bool on_gpu();
  // 80, 89 or 90; 0: not on a GPU.
  static uint32_t gpu_capability();

  pluq_exec* exec() { return &exec_; }
  template <class T>
  T* array(size_t count, T value = T{}) {
    T* p = static_cast<T*>(raw(count * sizeof(T)));
    std::fill_n(p, count, value);
    note_written(p, count * sizeof(T));
    return p;
  }
  template <class T>
  T* upload(const std::vector<T>& v) {
    T* p = static_cast<T*>(raw(v.size() * sizeof(T)));
    std::copy(v.begin(), v.end(), p);
    note_written(p, v.size() * sizeof(T));
    return p;
  }
  // Outputs and workspaces: a kernel must write them before it reads them.
  template <class T>
  T* fresh(size_t count) {
    return static_cast<T*>(raw(count * sizeof(T)));
  }
  // 256-byte aligned; lives as long as this. Nobody has written it.
  void* raw(size_t bytes);
  // The test itself has written there.
  void note_written(const void* p, size_t bytes);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  pluq_exec exec_{};
};

// The launchers of that device. On a GPU each waits for its kernel and answers its error.
const cuda::QuantizedOps& kernel_ops();

}  // namespace pluq
