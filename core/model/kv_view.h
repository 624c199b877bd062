// SPDX-License-Identifier: Apache-2.0
// The KV cache of one sequence as attention sees it: blocks of 16 tokens, found through a block
// table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pluq/dtype.h"

namespace pluq {

inline constexpr int64_t kKvBlock = 16;  // tokens per block

// One block of one layer and kv head is 16 * head_dim elements of `dtype`, at block(layer, token,
// kv_head) in k and v, where the physical block is table[token / 16]. V holds a row per token, [16,
// head_dim]; K is transposed, [head_dim, 16], so that the scores of 16 keys are computed side by
// side.
struct KvView {
  uint32_t dtype = PLUQ_DTYPE_F16;  // F32, F16, BF16, F8_E4M3, F8_E5M2 or I8
  int64_t num_blocks = 0;           // physical blocks per layer
  int64_t kv_heads = 0, head_dim = 0;
  const int32_t* table = nullptr;  // [ceil(length / 16)]
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  // 8-bit types: value = code * scale. Per token: [layers, blocks, kv_heads, 16], written with each
  // token; else [layers, kv_heads], given.
  bool token_scales = false;
  float* k_scale = nullptr;
  float* v_scale = nullptr;

  // Inlined by force: per-ISA files must not share a copy.
  __attribute__((always_inline)) int64_t scale(int64_t layer, int64_t token,
                                               int64_t kv_head) const {
    return token_scales
               ? ((layer * num_blocks + table[token / kKvBlock]) * kv_heads + kv_head) * kKvBlock +
                     token % kKvBlock
               : layer * kv_heads + kv_head;
  }
  __attribute__((always_inline)) int64_t block(int64_t layer, int64_t token,
                                               int64_t kv_head) const {
    return ((layer * num_blocks + table[token / kKvBlock]) * kv_heads + kv_head) * kKvBlock *
           head_dim;
  }
};

}  // namespace pluq
