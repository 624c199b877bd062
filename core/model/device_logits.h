// SPDX-License-Identifier: Apache-2.0
// A row of logits in memory of a device.
#pragma once

#include <vector>

#include "device/runtime.h"
#include "model/next_logits.h"

namespace pluq {

class DeviceLogits : public NextLogits {
 public:
  static constexpr uint64_t kScratchBytes = 16 + kMostListed * uint64_t{8};

  // logits [vocab] and scratch (kScratchBytes) are memory of the device; all must outlive this.
  DeviceLogits(DeviceRuntime& runtime, EngineOps& ops, const float* logits, int64_t vocab,
               const DeviceBuffer& scratch)
      : runtime_(runtime), ops_(ops), logits_(logits), vocab_(vocab), scratch_(scratch) {}

  std::span<const float> all() override;
  int32_t best() override;
  std::optional<TopLogits> top(int32_t k, double temperature) override;

 private:
  DeviceRuntime& runtime_;
  EngineOps& ops_;
  const float* logits_;
  int64_t vocab_;
  const DeviceBuffer& scratch_;
  std::vector<float> copy_;
};

}  // namespace pluq
