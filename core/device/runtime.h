// SPDX-License-Identifier: Apache-2.0
// A device beside the CPU: its memory, its one stream, and the engine's operators on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "device/cuda/engine_ops.h"
#include "pluq/abi.h"

namespace pluq {

// Work that was recorded once and can be queued again as a whole.
class RecordedWork {
 public:
  virtual ~RecordedWork() = default;
  virtual void run() = 0;
};

// Not thread-safe; work is queued in order on one stream. Everything throws std::runtime_error (or
// pluq::Error) with a sentence.
class DeviceRuntime {
 public:
  virtual ~DeviceRuntime() = default;

  virtual const pluq_device& description() const = 0;  // as told to plugins
  virtual std::string name() const = 0;                // "NVIDIA H100", "emulated sm80"
  virtual void* stream() = 0;                          // pluq_exec.stream
  virtual uint64_t free_bytes() const = 0;

  // 256-byte aligned; freed memory is kept for the next request of its size. Throws with the
  // numbers when there is none; `what` says what it is for.
  virtual void* allocate(uint64_t bytes, std::string_view what) = 0;
  virtual void release(void* data) = 0;
  virtual void upload(void* to, const void* from, uint64_t bytes) = 0;
  // Waits for all work before it.
  virtual void download(void* to, const void* from, uint64_t bytes) = 0;
  virtual void zero(void* data, uint64_t bytes) = 0;
  virtual void synchronize() = 0;
  // Records what `queue` queues, without running it: a CUDA graph. `queue` must depend on nothing
  // but what it holds by value and what lives as long as the record, and must neither copy to or
  // from the host nor wait. Throws when something in it cannot be recorded.
  virtual std::unique_ptr<RecordedWork> record(std::function<void()> queue) = 0;

  // Operators for activations of this type, F16 or BF16; live as long as the runtime.
  virtual EngineOps& ops(uint32_t dtype) = 0;
};

// Memory of a device; goes back to it.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(std::shared_ptr<DeviceRuntime> runtime, uint64_t bytes, std::string_view what)
      : runtime_(std::move(runtime)),
        data_(bytes > 0 ? runtime_->allocate(bytes, what) : nullptr),
        bytes_(bytes) {}
  ~DeviceBuffer() {
    if (data_ != nullptr) runtime_->release(data_);
  }
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : runtime_(std::move(other.runtime_)),
        data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(runtime_, other.runtime_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  uint64_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<DeviceRuntime> runtime_;
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

// What --device asks for.
struct DeviceChoice {
  uint32_t kind = PLUQ_DEVICE_CPU;
  int32_t index = 0;         // cuda:N
  uint32_t capability = 80;  // cuda-emulated:smNN
};

// "cpu", "cuda[:N]", "cuda-emulated[:sm80|sm89|sm90]"; empty is cpu. Throws Error(kUsage) naming
// the accepted words.
DeviceChoice parse_device(std::string_view text);

// The runtime of a choice, or nothing for the CPU. Throws Error(kUsage) that says what was looked
// for when there is no GPU or the CUDA part of pluq is missing. PLUQ_CUDA_CHECKS=bounds|all says
// what the emulated device checks.
std::shared_ptr<DeviceRuntime> open_device(const DeviceChoice& choice);

// The open runtime with this stream (pluq_exec.device_kind and .stream), or null. Thread-safe.
DeviceRuntime* find_runtime(uint32_t kind, void* stream);

// Makes a runtime known to find_runtime for as long as it lives.
class RuntimeEntry {
 public:
  explicit RuntimeEntry(DeviceRuntime* runtime);
  ~RuntimeEntry();
  RuntimeEntry(const RuntimeEntry&) = delete;
  RuntimeEntry& operator=(const RuntimeEntry&) = delete;

 private:
  DeviceRuntime* runtime_;
};

}  // namespace pluq
