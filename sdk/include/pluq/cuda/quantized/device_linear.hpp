// SPDX-License-Identifier: Apache-2.0
// The shared kernels of quantized layers as DeviceLinear methods (pluq/cuda/linear.hpp) use them.
// Needs CUDA_KERNELS quantized in the plugin's CMakeLists.txt.
#pragma once

#include <string>
#include <vector>

#include "pluq/cuda/linear.hpp"
#include "pluq/cuda/quantized/ops.h"

namespace pluq {
namespace cuda {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  inline bool has_ops(uint32_t device_kind) { return has_kernels(device_kind); }
  inline const QuantizedOps& ops_for(const pluq_exec& exec) {
#if defined(PLUQ_HAS_CUDA) && PLUQ_HAS_CUDA
    if (exec.device_kind == PLUQ_DEVICE_CUDA) return quantized_ops_device();
#endif
    if (exec.device_kind != PLUQ_DEVICE_CUDA_EMULATED)
      throw unsupported("this plugin was built without kernels for the device asked for");
    return quantized_ops_emulated();
  }

  // A vector of the host to `at`.
  template <class T>
  void upload(const pluq_exec& exec, const std::vector<T>& values, uint8_t* at) {
    check(ops_for(exec).upload(&exec, values.data(),
                               static_cast<int64_t>(values.size() * sizeof(T)), at));
  }

}  // namespace )
}  // namespace cuda
}  // namespace pluq
