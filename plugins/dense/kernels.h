// SPDX-License-Identifier: Apache-2.0
// The float kernels of this plugin, one file per instruction set.
#pragma once

#include "pluq/cpu/float_linear.hpp"

namespace dense {

pluq::cpu::FloatTables kernel_tables();

}  // namespace dense
