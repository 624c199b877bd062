// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/emulated_runtime.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "device/memory.h"

namespace pluq {
namespace {

constexpr uint64_t kAlignment = 256;
constexpr uint64_t kWorthAsking = uint64_t{32} << 20;
constexpr uint32_t kMultiprocessors = 4;  // few, so that small matrices are split as large ones are

}  // namespace

EmulatedRuntime::EmulatedRuntime(uint32_t capability, uint32_t checks)
    : emulator_(capability, checks) {
  description_.struct_size = sizeof description_;
  description_.kind = PLUQ_DEVICE_CUDA_EMULATED;
  description_.n_workers = 1;
  description_.compute_capability = capability;
  description_.sm_count = kMultiprocessors;
  description_.shared_optin_bytes = cuda_emulator::shared_limit(capability);
  description_.memory_bytes = available_memory();
  f16_ = make_emulated_ops(emulator_.stream(), cuda_emulator::table(), PLUQ_DTYPE_F16,
                           kMultiprocessors);
  bf16_ = make_emulated_ops(emulator_.stream(), cuda_emulator::table(), PLUQ_DTYPE_BF16,
                            kMultiprocessors);
}

EmulatedRuntime::~EmulatedRuntime() {
  for (const auto& [data, bytes] : allocations_) std::free(data);
}

std::string EmulatedRuntime::name() const {
  return fmt::format("emulated sm{}", emulator_.compute_capability());
}

uint64_t EmulatedRuntime::free_bytes() const { return available_memory(); }

void* EmulatedRuntime::allocate(uint64_t bytes, std::string_view what) {
  if (bytes >= kWorthAsking)
    require_memory(bytes, fmt::format("{} on the {} device", what, name()));
  void* data = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  if (data == nullptr) {
    fail(ErrorKind::kFailed, "{}: {} bytes on the {} device: out of memory", what, bytes, name());
  }
  allocations_[data] = bytes;
  emulator_.register_memory(data, bytes, std::string(what));
  return data;
}

void EmulatedRuntime::release(void* data) {
  emulator_.forget_memory(data);
  allocations_.erase(data);
  std::free(data);
}

void EmulatedRuntime::upload(void* to, const void* from, uint64_t bytes) {
  if (bytes == 0) return;
  std::memcpy(to, from, bytes);
  emulator_.note_written(to, bytes);
}
void EmulatedRuntime::download(void* to, const void* from, uint64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
void EmulatedRuntime::zero(void* data, uint64_t bytes) {
  if (bytes == 0) return;
  std::memset(data, 0, bytes);
  emulator_.note_written(data, bytes);
}

std::unique_ptr<RecordedWork> EmulatedRuntime::record(std::function<void()> queue) {
  class Again final : public RecordedWork {
   public:
    explicit Again(std::function<void()> work) : work_(std::move(work)) {}
    void run() override { work_(); }

   private:
    std::function<void()> work_;
  };
  return std::make_unique<Again>(std::move(queue));
}

EngineOps& EmulatedRuntime::ops(uint32_t dtype) {
  return dtype == PLUQ_DTYPE_BF16 ? *bf16_ : *f16_;
}

}  // namespace pluq
