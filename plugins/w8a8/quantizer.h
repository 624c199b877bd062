// SPDX-License-Identifier: Apache-2.0
// Round to nearest into int8 as compressed-tensors stores it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pluq/plugin.hpp"

namespace w8a8 {

std::vector<pluq::Option> quantizer_options();
std::unique_ptr<pluq::Quantizer> make_quantizer(pluq::QuantizeRequest request);
std::string quantizer_config(const pluq::QuantizeRequest& request,
                             const std::vector<std::string>& plain);

}  // namespace w8a8
