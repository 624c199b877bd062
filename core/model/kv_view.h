// SPDX-License-Identifier: Apache-2.0
// The KV cache of one sequence as attention sees it: blocks of 16 tokens, found through a block table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pluq/dtype.h"

namespace pluq {

inline constexpr int64_t kKvBlock = 16;  // tokens per block

// Element (layer, token, kv_head, d) of K lies in physical block table[token / 16] at
//   k + ((layer * num_blocks + block) * kv_heads + kv_head) * 16 * head_dim + (token % 16) * head_dim + d
// in elements of `dtype`; V alike.
struct KvView {
  uint32_t dtype = PLUQ_DTYPE_F16;  // F32, F16 or BF16
  int64_t num_blocks = 0;           // physical blocks per layer
  int64_t kv_heads = 0, head_dim = 0;
  const int32_t* table = nullptr;   // [ceil(length / 16)]
  std::byte* k = nullptr;
  std::byte* v = nullptr;

  // Inlined by force: per-ISA files must not share a copy.
  __attribute__((always_inline)) int64_t offset(int64_t layer, int64_t token, int64_t kv_head) const {
    const int64_t block = table[token / kKvBlock];
    return (((layer * num_blocks + block) * kv_heads + kv_head) * kKvBlock + token % kKvBlock) * head_dim;
  }
};

}  // namespace pluq
