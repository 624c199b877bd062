// SPDX-License-Identifier: Apache-2.0
#include "gguf/blocks.h"

#include <cmath>
#include <cstring>
#include <iterator>
#include <random>

#include "pluq/gguf.hpp"
#include "pluq/plugin.hpp"

namespace gguf_format {
namespace {

using namespace pluq::gguf;

constexpr BlockType kTypes[] = {
    {kQ4_0, "Q4_0", 4, 32, 18, 32, 8, true, 0},
    {kQ4_1, "Q4_1", 4, 32, 20, 32, -1, true, 0},
    {kQ5_0, "Q5_0", 5, 32, 22, 32, 16, true, 0},
    {kQ5_1, "Q5_1", 5, 32, 24, 32, -1, true, 0},
    {kQ8_0, "Q8_0", 8, 32, 34, 32, 128, true, 0},
    {kQ2_K, "Q2_K", 2, 256, 84, 16, -1, false, 80},
    {kQ3_K, "Q3_K", 3, 256, 110, 16, 4, false, 108},
    {kQ4_K, "Q4_K", 4, 256, 144, 32, -1, false, 0},
    {kQ5_K, "Q5_K", 5, 256, 176, 32, -1, false, 0},
    {kQ6_K, "Q6_K", 6, 256, 210, 16, 32, false, 208},
};

void codes_32(const uint8_t* nibbles, uint32_t fifth, uint8_t* out) {
  for (int i = 0; i < 32; ++i) {
    const int low = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
    out[i] = static_cast<uint8_t>(low | static_cast<int>(fifth >> i & 1) << 4);
  }
}

uint32_t word(const uint8_t* p) {
  uint32_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

int two_bits(const uint8_t* codes, int i) {
  return codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
}

int q3_scale(const uint8_t* packed, int64_t s) {
  const int nibble = s < 8 ? packed[s] & 15 : packed[s - 8] >> 4;
  return (nibble | (packed[8 + s % 4] >> (s / 4 * 2) & 3) << 4) - 32;
}

}  // namespace

BlockTypes block_types() { return {std::begin(kTypes), std::end(kTypes)}; }

void random_blocks(const BlockType& t, uint64_t seed, uint8_t* data, uint64_t bytes) {
  std::mt19937_64 random(seed);
  for (uint64_t i = 0; i < bytes; ++i) data[i] = static_cast<uint8_t>(random() >> 56);
  // Codes reach 2^bits, the scales within a block of 256 another 2^6.
  const double most = std::ldexp(1.0, -t.bits - (t.elements == 256 ? 6 : 0));
  const int halves = t.zero < 0 ? 2 : 1;  // scale and offset
  for (uint64_t at = 0; at + static_cast<uint64_t>(t.bytes) <= bytes;
       at += static_cast<uint64_t>(t.bytes)) {
    for (int i = 0; i < halves; ++i) {
      const double unit = static_cast<double>(random() >> 11) * 0x1p-53;
      const uint16_t half = pluq::float_to_half(static_cast<float>(most * (0.5 + 0.5 * unit)));
      std::memcpy(data + at + t.scale_at + 2 * i, &half, sizeof half);
    }
  }
}

const BlockType* find_block_type(uint32_t type) {
  for (const BlockType& t : kTypes) {
    if (t.type == type) return &t;
  }
  return nullptr;
}

void block_codes(const BlockType& t, const uint8_t* p, uint8_t* out) {
  switch (t.type) {
    case kQ4_0:
      return codes_32(p + 2, 0, out);
    case kQ4_1:
      return codes_32(p + 4, 0, out);
    case kQ5_0:
      return codes_32(p + 6, word(p + 2), out);
    case kQ5_1:
      return codes_32(p + 8, word(p + 4), out);
    case kQ8_0:
      for (int i = 0; i < 32; ++i) out[i] = static_cast<uint8_t>(p[2 + i] ^ 0x80);  // q + 128
      return;
    case kQ2_K:
      for (int i = 0; i < 256; ++i) out[i] = static_cast<uint8_t>(two_bits(p + 16, i));
      return;
    case kQ3_K:
      for (int i = 0; i < 256; ++i)
        out[i] = static_cast<uint8_t>(two_bits(p + 32, i) | (p[i % 32] >> (i / 32) & 1) << 2);
      return;
    case kQ6_K:
      for (int i = 0; i < 256; ++i) {
        const int half = i / 128, l = i % 128, byte = p[half * 64 + l % 64];
        const int upper = p[128 + half * 32 + l % 32] >> (l / 32 * 2) & 3;
        out[i] = static_cast<uint8_t>((l < 64 ? byte & 15 : byte >> 4) | upper << 4);
      }
      return;
    default:
      break;
  }
  const bool five = t.type == kQ5_K;
  const uint8_t* codes = five ? p + 48 : p + 16;
  for (int i = 0; i < 256; ++i) {
    const int byte = codes[i / 64 * 32 + i % 32];
    const int high = five ? (p[16 + i % 32] >> (i / 32) & 1) << 4 : 0;
    out[i] = static_cast<uint8_t>((i % 64 < 32 ? byte & 15 : byte >> 4) | high);
  }
}

float block_scale(const BlockType& t, const uint8_t* p, int64_t g) {
  switch (t.type) {
    case kQ2_K:
      return half_at(p + 80) * static_cast<float>(p[g] & 15);
    case kQ3_K:
      return half_at(p + 108) * static_cast<float>(q3_scale(p + 96, g));
    case kQ6_K:
      return half_at(p + 208) * static_cast<float>(static_cast<int8_t>(p[192 + g]));
    case kQ4_K:
    case kQ5_K: {
      uint8_t scales[8], mins[8];
      six_bit_pairs(p + 4, scales, mins);
      return half_at(p) * static_cast<float>(scales[g]);
    }
    default:
      return half_at(p);
  }
}

float block_offset(const BlockType& t, const uint8_t* p, int64_t g) {
  switch (t.type) {
    case kQ4_1:
    case kQ5_1:
      return half_at(p + 2);
    case kQ2_K:
      return -(half_at(p + 82) * static_cast<float>(p[g] >> 4));
    case kQ4_K:
    case kQ5_K: {
      uint8_t scales[8], mins[8];
      six_bit_pairs(p + 4, scales, mins);
      return -(half_at(p + 2) * static_cast<float>(mins[g]));
    }
    default:
      return 0;
  }
}

}  // namespace gguf_format
