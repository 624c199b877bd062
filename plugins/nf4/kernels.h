// SPDX-License-Identifier: Apache-2.0
// The integer kernels of this plugin, one file per instruction set.
#pragma once

#include "pluq/cpu/int_linear.hpp"

namespace nf4 {

pluq::cpu::IntTables kernel_tables();

}  // namespace nf4
