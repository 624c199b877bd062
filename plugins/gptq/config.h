// SPDX-License-Identifier: Apache-2.0
// The configuration of a checkpoint in format gptq: GPTQ's own, or compressed-tensors with
// pack-quantized groups.
#pragma once

#include <memory>
#include <string>

#include "pluq/plugin.hpp"

namespace gptq {

// Claims the quant_method? For messages and the probe.
bool claims_method(const std::string& quant_method);

std::unique_ptr<pluq::QuantizationConfig> make_config(const pluq::Json& quantization);

// For a checkpoint without one: the options of a YAML file, or nothing.
std::unique_ptr<pluq::QuantizationConfig> make_config_from_options(const pluq::Json& options);

}  // namespace gptq
