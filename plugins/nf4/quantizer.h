// SPDX-License-Identifier: Apache-2.0
// Round to nearest into bitsandbytes' 4-bit layout, types nf4 and fp4, with or without nested
// statistics.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pluq/plugin.hpp"

namespace nf4 {

std::vector<pluq::Option> quantizer_options();
std::unique_ptr<pluq::Quantizer> make_quantizer(pluq::QuantizeRequest request);
std::string quantizer_config(const pluq::QuantizeRequest& request,
                             const std::vector<std::string>& plain);

}  // namespace nf4
