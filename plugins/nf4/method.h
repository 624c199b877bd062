// SPDX-License-Identifier: Apache-2.0
// The linear method of format nf4: 4-bit weights of bitsandbytes, types nf4 and fp4.
//   weight         U8 [N * K / 2, 1]   W flattened row by row; byte j = elements 2j (bits 4-7) and
//   2j+1 (bits 0-3) weight.absmax  F32 [B]             one per block of `blocksize` elements, B =
//   ceil(N * K / blocksize) weight.quant_map  F32 [16]         values of the codes      W =
//   quant_map[code] * absmax[block] weight.quant_state.bitsandbytes__nf4 (or __fp4)   U8 [bytes],
//   JSON: blocksize, shape, nested_blocksize, nested_offset
// Nested ("double") statistics: absmax is U8 [B] and
//   absmax = nested_quant_map[absmax] * nested_absmax[block / nested_blocksize] + nested_offset
//   weight.nested_quant_map  F32 [256],  weight.nested_absmax  F32 [ceil(B / nested_blocksize)]
// Blocks run over the flattened matrix: one may span rows. 4.5 bits per weight in blocks of
// 64, 4.13 with nested statistics.
#pragma once

#include <memory>

#include "pluq/plugin.hpp"

namespace nf4 {

bool has_tensors(const pluq::LayerDesc& layer);

// Throws pluq::invalid or pluq::unsupported when the tensors are not those drawn above.
std::unique_ptr<pluq::LinearMethod> make_method(const pluq::LayerDesc& layer,
                                                const pluq::Device& device);

}  // namespace nf4
