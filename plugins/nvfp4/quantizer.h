// SPDX-License-Identifier: Apache-2.0
// Round to nearest into nvfp4. Layers that read one input (q, k, v; gate, up) share the global
// scale, since other engines fuse them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pluq/plugin.hpp"

namespace nvfp4 {

std::unique_ptr<pluq::Quantizer> make_quantizer(pluq::QuantizeRequest request);
std::string quantizer_config(const std::vector<std::string>& plain);

}  // namespace nvfp4
