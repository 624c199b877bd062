// SPDX-License-Identifier: Apache-2.0
// The linear method of plain float weights.
#pragma once

#include <memory>
#include <vector>

#include "pluq/plugin.hpp"

namespace dense {

// layer has a tensor "weight" of F32, F16 or BF16.
std::unique_ptr<pluq::LinearMethod> make_method(const pluq::LayerDesc& layer,
                                                const pluq::Device& device);

// f32 values as F32, F16 or BF16 bytes, rounded to nearest even.
std::vector<uint8_t> convert(const std::vector<float>& values, uint32_t dtype_id);

}  // namespace dense
