// SPDX-License-Identifier: Apache-2.0
// The part of pluq that needs a GPU: libpluq_cuda.so, loaded on demand from beside pluq's own
// library or from ../lib beside the program.
#pragma once

#include <memory>

#include "device/runtime.h"

namespace pluq {

// Throws Error(kUsage): which library was looked for and where, or what CUDA answered.
std::shared_ptr<DeviceRuntime> open_cuda(int index);

// What doctor says: the GPUs, or why there are none.
std::string describe_cuda();

}  // namespace pluq
