// SPDX-License-Identifier: Apache-2.0
// GGUF's block types as unsigned codes with a scale per group: W = scale * (code - zero), or scale
// * code + offset. The bits are drawn in pluq/gguf.hpp, whose decoders these must equal bit for
// bit.
#pragma once

#include <cstdint>

namespace gguf_format {

struct BlockType {
  uint32_t type;  // ggml's number
  const char* name;
  int32_t bits;
  int32_t elements, bytes;  // of a block
  int32_t group;            // elements that share a scale
  int32_t zero;             // subtracted from the code; -1: an offset is added instead
  bool half_scale;          // scales are halves as stored
  int32_t scale_at;         // byte of the block's half scale; an offset's follows it
};

// All of them.
struct BlockTypes {
  const BlockType *first, *last;
  const BlockType* begin() const { return first; }
  const BlockType* end() const { return last; }
};
BlockTypes block_types();

// NULL: not one of them.
const BlockType* find_block_type(uint32_t type);

// The codes of one block, [elements].
void block_codes(const BlockType& t, const uint8_t* block, uint8_t* out);
// Scale and, where there is no zero, offset of one group of a block.
float block_scale(const BlockType& t, const uint8_t* block, int64_t group);
float block_offset(const BlockType& t, const uint8_t* block, int64_t group);

// Random blocks with scales of such a size that weights are below 1.
void random_blocks(const BlockType& t, uint64_t seed, uint8_t* data, uint64_t bytes);

}  // namespace gguf_format
