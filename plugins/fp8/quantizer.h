// SPDX-License-Identifier: Apache-2.0
// Round to nearest into 8-bit floats: per channel in compressed-tensors' layout, or in blocks of
// 128 x 128 or per tensor in that of quant_method fp8. Activations are rounded at run time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pluq/plugin.hpp"

namespace fp8 {

std::vector<pluq::Option> quantizer_options();
std::unique_ptr<pluq::Quantizer> make_quantizer(pluq::QuantizeRequest request);
std::string quantizer_config(const pluq::QuantizeRequest& request,
                             const std::vector<std::string>& plain);

}  // namespace fp8
