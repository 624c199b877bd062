// SPDX-License-Identifier: Apache-2.0
// The two functions that libpluq_cuda.so exports. It is built together with pluq, so C++ types may
// cross.
#pragma once

#include <string>

#include "device/runtime.h"

namespace pluq {

// A new runtime on this GPU, or null with the reason.
using PluqCudaOpen = DeviceRuntime* (*)(int index, std::string* error);
inline constexpr const char* kPluqCudaOpen = "pluq_cuda_open_1";

// One line per GPU, or why there is none.
using PluqCudaDescribe = void (*)(std::string* text);
inline constexpr const char* kPluqCudaDescribe = "pluq_cuda_describe_1";

}  // namespace pluq
