// SPDX-License-Identifier: Apache-2.0
// The emulated CUDA device as the engine uses it: host memory that the emulator knows, kernels
// that have run when their launch returns.
#pragma once

#include <map>
#include <memory>

#include "device/cuda_emulator/emulator.h"
#include "device/runtime.h"

namespace pluq {

std::unique_ptr<EngineOps> make_emulated_ops(void* stream, const pluq_cuda_emulator* emulator,
                                             uint32_t dtype, uint32_t sm_count);

class EmulatedRuntime final : public DeviceRuntime {
 public:
  // Capability 80, 89 or 90; `checks` is PLUQ_EMU_CHECK_*.
  EmulatedRuntime(uint32_t capability, uint32_t checks);
  ~EmulatedRuntime() override;

  const pluq_device& description() const override { return description_; }
  std::string name() const override;
  void* stream() override { return emulator_.stream(); }
  uint64_t free_bytes() const override;
  void* allocate(uint64_t bytes, std::string_view what) override;
  void release(void* data) override;
  void upload(void* to, const void* from, uint64_t bytes) override;
  void download(void* to, const void* from, uint64_t bytes) override;
  void zero(void* data, uint64_t bytes) override;
  void synchronize() override {}
  // Queues the same launches again with the arguments they had.
  std::unique_ptr<RecordedWork> record(std::function<void()> queue) override;
  EngineOps& ops(uint32_t dtype) override;

 private:
  cuda_emulator::Emulator emulator_;
  pluq_device description_{};
  std::map<void*, uint64_t> allocations_;
  std::unique_ptr<EngineOps> f16_, bf16_;
  RuntimeEntry entry_{this};
};

}  // namespace pluq
