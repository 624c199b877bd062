// SPDX-License-Identifier: Apache-2.0
// The linear method of format mxfp4, as compressed-tensors mxfp4-pack-quantized stores it.
//   weight_packed  U8 [N, K/2]    byte j of a row = columns 2j (bits 0-3) and 2j+1 (bits 4-7)
//                                 bit 7 6 5 4 | 3 2 1 0      one code: s ee m, e2m1
//                                     s e e m   s e e m
//   weight_scale   U8 [N, K/32]   e8m0, one per 32 columns    W = e2m1 * 2^(weight_scale - 127)
// 4.25 bits per weight. Source: compressed_tensors/compressors/mxfp4_quantized of
// vllm-project/compressed-tensors.
#pragma once

#include <memory>

#include "pluq/plugin.hpp"

namespace mxfp4 {

constexpr int64_t kGroup = 32;

bool has_tensors(const pluq::LayerDesc& layer);

// Throws pluq::unsupported for a layer or shard that the layout cannot hold.
std::unique_ptr<pluq::LinearMethod> make_method(const pluq::LayerDesc& layer,
                                                const pluq::Device& device);

}  // namespace mxfp4
