// SPDX-License-Identifier: Apache-2.0
// The linear method of format awq, 4 bits, in its layouts on disk; Zw words or 8 Zw rows hold G
// groups and padding:
//
//   gemm    qweight I32 [K, N / 8], qzeros I32 [G, N / 8], scales [G, N]; eight output columns per
//   word, interleaved:
//           bits 31..28: column 7 | 5 | 3 | 1 | 6 | 4 | 2 | bits 3..0: column 0.   W = scale *
//           (code - zero)
//   gemv    qweight I32 [N, K / 8], qzeros I32 [N, Zw], scales [N, 8 Zw]; eight inputs (groups) per
//   word in order,
//           lowest bits first.   W = scale * (code - zero)
//   tiles   qweight I16 [N / 4, K] in tiles of 4 rows by 64 columns (pack.hpp: awq_tile_place),
//   scales [8 Zw, N],
//           qzeros (AutoAWQ's gemv_fast) or scaled_zeros (llm-awq) [8 Zw, N] = -scale * zero.
//           W = scale * code + scaled_zero
// Zero points are true: nothing is subtracted. Scales are F16; BF16 and F32 are accepted.
#pragma once

#include <memory>
#include <string>

#include "pluq/cpu/int_linear.hpp"

namespace awq {

enum class Layout { kGemm, kGemv, kTiles };
const char* layout_name(Layout layout);  // "gemm", "gemv", "gemv_fast"

// Words of zero points per row that gemv and gemv_fast store for K inputs: a row of them is padded
// to the kernels' loads.
int64_t zero_words(int64_t k, int64_t group_size);

// Whether the shapes of qweight and scales are those of the layout.
bool has_tensors(const pluq::LayerDesc& layer, Layout layout, int64_t group_size);

// group_size -1: one group. Throws pluq::invalid or pluq::unsupported when the tensors or the shard
// do not fit.
std::unique_ptr<pluq::LinearMethod> make_method(const pluq::LayerDesc& layer,
                                                const pluq::Device& device, Layout layout,
                                                int64_t group_size);

}  // namespace awq
