// SPDX-License-Identifier: Apache-2.0
// Round to nearest into mxfp4, with the scales that compressed-tensors chooses.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pluq/plugin.hpp"

namespace mxfp4 {

std::unique_ptr<pluq::Quantizer> make_quantizer(pluq::QuantizeRequest request);
std::string quantizer_config(const std::vector<std::string>& plain);

// The e8m0 scale of a group whose largest magnitude is `largest`: two below its exponent, after
// rounding it as bf16 with one mantissa bit would (from 1.75 * 2^e on, up).
uint8_t scale_code(float largest);

}  // namespace mxfp4
