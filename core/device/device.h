// SPDX-License-Identifier: Apache-2.0
// The device a model runs on, as asked for and as told to plugins.
#pragma once

#include "pluq/abi.h"

namespace pluq {

// The CPU as plugins see it: features after PLUQ_ISA, caches, workers of the pool.
pluq_device describe_cpu(int workers);

}  // namespace pluq
