// SPDX-License-Identifier: Apache-2.0
// An emulated CUDA device: its capability, its memory, and the table of `pluq.cuda_emulator/1`.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "device/cuda_emulator/allocation.h"
#include "pluq/ext/cuda_emulator.h"

namespace pluq::cuda_emulator {

// Largest dynamic shared memory of a block in bytes, as the CUDA programming guide's table of
// technical specifications gives it; 0 for a capability whose instructions the emulator lacks.
uint32_t shared_limit(uint32_t compute_capability);

// The functions of the extension; they find the device by the stream they are given.
const pluq_cuda_emulator* table();

// Thread-safe. The address of an Emulator is its one stream (pluq_exec.stream); launches run to
// their end before they return.
class Emulator {
 public:
  // Capability 80, 89 or 90, else a usage error; `checks` is PLUQ_EMU_CHECK_*.
  Emulator(uint32_t compute_capability, uint32_t checks);
  Emulator(const Emulator&) = delete;
  Emulator& operator=(const Emulator&) = delete;

  void* stream() { return this; }
  uint32_t compute_capability() const { return capability_; }
  uint32_t checks() const { return checks_; }

  // Memory of the device that kernels may touch; nobody has written it yet. Ranges do not overlap.
  // what: for messages.
  void register_memory(const void* data, uint64_t bytes, std::string what = {});
  void forget_memory(const void* data);
  // The host has written these bytes of device memory.
  void note_written(const void* data, uint64_t bytes);
  // A kernel ran that does not say what it writes: all memory counts as written.
  void note_all_written();
  struct Range {
    const uint8_t* begin = nullptr;
    uint64_t bytes = 0;
  };
  // The range that holds this address, else an empty one.
  Range range_of(const void* address) const;
  // The same with all that is known of it, or null. It lives until forget_memory.
  Allocation* allocation_of(const void* address);

  // Kernels that were launched on this device so far, failed ones too.
  uint64_t launches() const { return launches_; }
  void count_launch() { ++launches_; }

 private:
  const Allocation* find(const void* address) const;  // the mutex is held

  uint32_t capability_;
  uint32_t checks_;
  std::atomic<uint64_t> launches_{0};
  mutable std::mutex mutex_;
  std::map<const uint8_t*, Allocation> allocations_;
};

}  // namespace pluq::cuda_emulator
