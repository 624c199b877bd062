// SPDX-License-Identifier: Apache-2.0
// For tests of kernels: an emulated device with arrays in "device memory" and the Stream or
// pluq_exec to launch on it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "device/cuda_emulator/emulator.h"
#include "pluq/abi.h"

namespace pluq {

class EmulatedDevice {
 public:
  explicit EmulatedDevice(uint32_t sm = 80, uint32_t checks = PLUQ_EMU_CHECK_ALL)
      : emulator_(sm, checks) {
    host_.struct_size = sizeof host_;
    host_.get_extension = [](const pluq_host*, const char* id) -> const void* {
      return std::strcmp(id, PLUQ_CUDA_EMULATOR) == 0 ? cuda_emulator::table() : nullptr;
    };
    exec_.struct_size = sizeof exec_;
    exec_.device_kind = PLUQ_DEVICE_CUDA_EMULATED;
    exec_.host = &host_;
    exec_.stream = emulator_.stream();
    exec_.worker = -1;
    exec_.n_workers = 1;
  }
  ~EmulatedDevice() {
    for (void* p : owned_) std::free(p);
  }
  EmulatedDevice(const EmulatedDevice&) = delete;
  EmulatedDevice& operator=(const EmulatedDevice&) = delete;

  cuda_emulator::Emulator& emulator() { return emulator_; }
  // For Stream(exec()), and for calls of a method; set workspace in it where they need one.
  pluq_exec* exec() { return &exec_; }

  // Device memory of `count` elements, exactly bounded, 256-byte aligned; lives as long as this.
  template <class T>
  T* array(size_t count, T value = T{}) {
    T* p = static_cast<T*>(raw(count * sizeof(T)));
    std::fill_n(p, count, value);
    note_written(p, count * sizeof(T));
    return p;
  }
  // The same without values: what a kernel must write before it reads it.
  template <class T>
  T* fresh(size_t count) {
    return static_cast<T*>(raw(count * sizeof(T)));
  }
  template <class T>
  T* upload(const std::vector<T>& v) {
    T* p = static_cast<T*>(raw(v.size() * sizeof(T)));
    std::copy(v.begin(), v.end(), p);
    note_written(p, v.size() * sizeof(T));
    return p;
  }
  // Nobody has written it; the bytes are 0xff.
  void* raw(size_t bytes) {
    void* p = std::aligned_alloc(256, (bytes + 511) / 256 * 256);
    std::memset(p, 0xff, (bytes + 511) / 256 * 256);
    owned_.push_back(p);
    emulator_.register_memory(p, bytes);
    return p;
  }
  // The test itself has written there.
  void note_written(const void* p, size_t bytes) { emulator_.note_written(p, bytes); }

 private:
  cuda_emulator::Emulator emulator_;
  pluq_host host_{};
  pluq_exec exec_{};
  std::vector<void*> owned_;
};

}  // namespace pluq
