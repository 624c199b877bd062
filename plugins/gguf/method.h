// SPDX-License-Identifier: Apache-2.0
// The linear method of format gguf: a matrix of GGUF blocks, [N, K] with K in whole blocks; types
// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K. pluq/gguf.hpp draws the bits. Names and the order
// of rows are the host's business.
#pragma once

#include <memory>

#include "pluq/plugin.hpp"

namespace gguf_format {

bool has_tensors(const pluq::LayerDesc& layer);

std::unique_ptr<pluq::LinearMethod> make_method(const pluq::LayerDesc& layer,
                                                const pluq::Device& device);

}  // namespace gguf_format
