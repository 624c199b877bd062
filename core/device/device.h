// SPDX-License-Identifier: Apache-2.0
// The device a model runs on, as asked for and as told to plugins.
#pragma once

#include <string_view>

#include "pluq/abi.h"

namespace pluq {

// Parses --device: "cpu" works; "cuda", "cuda:N", "cuda-emulated", "cuda-emulated:sm80|sm89|sm90"
// are answered with "not built" and anything else with the accepted words, both Error(kUsage).
void check_device(std::string_view text);

// The CPU as plugins see it: features after PLUQ_ISA, caches, workers of the pool.
pluq_device describe_cpu(int workers);

}  // namespace pluq
