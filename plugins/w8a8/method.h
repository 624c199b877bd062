// SPDX-License-Identifier: Apache-2.0
// The linear method of format w8a8: int8 weights, W[n, k] = weight_scale * (weight[n, k] -
// weight_zero_point), with int8 activations or without. Tensors of compressed-tensors int-quantized
// and naive-quantized:
//   weight             I8 [N, K]        signed codes (held as code + 128 in the kernels)
//   weight_scale       [1], [N, 1] or [N, G] for groups of columns; one per part of a fused weight.
//   BF16, F16 or F32 weight_zero_point  I8, the shape of weight_scale; absent when symmetric
//   input_scale        [1]              static activations
//   input_zero_point   I8 [1]           static asymmetric activations
// Activations x ~ s (q - z): per token symmetric (s = max|x| / 127), per token asymmetric
// (s = (max(x, 0) - min(x, 0)) / 255, z = clamp(rne(-128 - min / s))), or static.
#pragma once

#include <memory>

#include "pluq/compressed_tensors.hpp"
#include "pluq/cpu/int_linear.hpp"

namespace w8a8 {

bool has_tensors(const pluq::LayerDesc& layer);

// inputs: NULL for weight-only int8. Throws what is wrong or not built.
std::unique_ptr<pluq::LinearMethod> make_method(const pluq::LayerDesc& layer,
                                                const pluq::Device& device,
                                                const pluq::ct::QuantArgs& weights,
                                                const pluq::ct::QuantArgs* inputs);

}  // namespace w8a8
