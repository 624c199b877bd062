// SPDX-License-Identifier: Apache-2.0
// One method over a layer whose weights are in the memory of a device, through the engine's
// runtime.
#pragma once

#include <memory>
#include <vector>

#include "conformance/cases.h"
#include "device/runtime.h"

namespace pluq::conformance {

class OnDevice {
 public:
  // Uploads and repacks. `head`: the layer is the model's last one, whose y is F32. Refusals with a
  // reason throw Skip; broken rules throw Failure.
  OnDevice(const Case& layer, uint32_t dtype, std::shared_ptr<DeviceRuntime> runtime,
           bool head = false);

  const Instance& instance() const { return in_; }
  uint32_t dtype() const { return dtype_.id; }
  // What rounding y to its type may add to the relative error of a row.
  double output_error() const;

  struct Call {
    int64_t m = 1;
    int64_t gap = 0;                 // elements between the rows of x and, twice, of y
    const float* bias = nullptr;     // [N], or none
    uint64_t workspace_missing = 0;  // bytes that exec->workspace is too small
    // x is handed over by its codes alone, rounded in the scheme that the method published.
    bool rounded = false;
  };
  // y [m, N] of x [m, K], every value of x exact in dtype. Checks that nothing behind y and between
  // its rows was written.
  std::vector<float> apply(const std::vector<float>& x, const Call& call);
  // The status of a call that must be refused; y must be untouched then.
  pluq_status* refused(const std::vector<float>& x, const Call& call);

 private:
  struct Operands;
  static Setting setting(const DeviceRuntime& runtime, uint32_t dtype, bool head);
  DeviceBuffer upload(const void* data, uint64_t bytes, const char* what);
  void process();
  pluq_status* run(Operands* operands, const Call& call);

  std::shared_ptr<DeviceRuntime> runtime_;
  pluq_dtype dtype_, y_dtype_;
  Instance in_;
  DeviceBuffer buffer_;
  std::vector<DeviceBuffer> tensors_;
};

}  // namespace pluq::conformance
