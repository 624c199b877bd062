// SPDX-License-Identifier: Apache-2.0
// The truth test of kernels: the first layer that each kernel serves is computed once and compared
// with what its format's dequantize says. A kernel that is wrong on this machine is refused.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "model/linear.h"

namespace pluq {

struct KernelChecks {
  std::set<std::string> known;        // found right: "format, kernel"
  std::vector<std::string> warnings;  // which kernel was refused, and which is used instead
};

// `load` asks the resolver and loads the layer. When its kernel is wrong, the resolver tells the
// format less of the device, and load is called again. Throws Error(kPlugin) that names the kernel
// when the format has no other. Per kernel it costs the product of one row of x, of 16 more where the
// layer is small, and 16 rows of dequantize.
Linear load_checked(LayerResolver& resolver, ThreadPool& pool, const std::function<Linear()>& load,
                    KernelChecks* checks);

}  // namespace pluq
