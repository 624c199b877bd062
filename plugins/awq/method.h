// SPDX-License-Identifier: Apache-2.0
// The linear method of format awq, layout gemm: W[n, k] = scale[g, n] * (code[k, n] - zero[g, n]), 4 bits.
//   qweight  I32 [K, N / 8]   eight output columns per word, interleaved:
//            bits 31..28: column 7 | 5 | 3 | 1 | 6 | 4 | 2 | bits 3..0: column 0
//   qzeros   I32 [G, N / 8]   in the same order; true zero points, nothing subtracted
//   scales   F16 [G, N]       (BF16 and F32 are accepted)
#pragma once

#include <memory>

#include "pluq/cpu/int_linear.hpp"

namespace awq {

bool has_gemm_tensors(const pluq::LayerDesc& layer);

// group_size -1: one group. Throws when the shapes do not fit.
std::unique_ptr<pluq::LinearMethod> make_method(const pluq::LayerDesc& layer, const pluq::Device& device, int64_t group_size);

}  // namespace awq
