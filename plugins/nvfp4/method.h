// SPDX-License-Identifier: Apache-2.0
// The linear method of format nvfp4, as compressed-tensors nvfp4-pack-quantized and NVIDIA ModelOpt
// store it. 4.5 bits per weight.
//   weight_packed        U8 [N, K/2], ModelOpt: weight. Byte j of a row = columns 2j (bits 0-3) and
//                        2j+1 (bits 4-7), each s ee m (e2m1)
//   weight_scale         F8_E4M3 [N, K/16], one per 16 columns
//   weight_global_scale  F32 [1], W = e2m1 * (weight_scale / weight_global_scale)
//   weight_scale_2       F32 [] or [1], ModelOpt's, W = e2m1 * (weight_scale * weight_scale_2)
//   input_global_scale   F32 [1], ModelOpt: input_scale. Of rounded activations; unused with float
// Source: compressed_tensors/compressors/nvfp4_quantized of vllm-project/compressed-tensors and its
// converter from ModelOpt.
#pragma once

#include <memory>

#include "pluq/plugin.hpp"

namespace nvfp4 {

constexpr int64_t kGroup = 16;

bool has_tensors(const pluq::LayerDesc& layer);

// Throws pluq::unsupported for a layer or shard that the layout cannot hold.
std::unique_ptr<pluq::LinearMethod> make_method(const pluq::LayerDesc& layer,
                                                const pluq::Device& device);

}  // namespace nvfp4
