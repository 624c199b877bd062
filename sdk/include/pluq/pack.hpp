// SPDX-License-Identifier: Apache-2.0
// Scalar pack and unpack of the integer layouts that checkpoints use: the truth for every kernel
// and packer. Header-only C++17, no dependencies. "Bit stream" means least significant bit first:
// code i of b bits begins at bit i * b of the stream, and word w of the stream holds bits 32 w ..
// 32 w + 31.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace pluq {
namespace pack {

inline uint32_t load_u32(const uint8_t* words, int64_t index) {
  uint32_t value;
  std::memcpy(&value, words + index * 4, 4);
  return value;
}

// Code `index` of a bit stream whose words lie `stride` words apart (1: side by side; N: down a
// column).
inline uint32_t stream_code(const uint8_t* words, int64_t stride, int bits, int64_t index) {
  const int64_t bit = index * bits, word = bit / 32;
  const int shift = static_cast<int>(bit % 32);
  uint64_t value = load_u32(words, word * stride) >> shift;
  if (shift + bits > 32)
    value |= static_cast<uint64_t>(load_u32(words, (word + 1) * stride)) << (32 - shift);
  return static_cast<uint32_t>(value) & ((1U << bits) - 1);
}

// Adds a code to a bit stream of zeroed words.
inline void put_stream_code(uint32_t* words, int64_t stride, int bits, int64_t index,
                            uint32_t code) {
  const int64_t bit = index * bits, word = bit / 32;
  const int shift = static_cast<int>(bit % 32);
  words[word * stride] |= code << shift;
  if (shift + bits > 32) words[(word + 1) * stride] |= code >> (32 - shift);
}

inline int64_t stream_words(int64_t codes, int bits) { return (codes * bits + 31) / 32; }

// Code `index` of the older packing of compressed-tensors: floor(32 / b) codes per word, the rest
// of the word unused; words lie `stride` words apart.
inline uint32_t sparse_code(const uint8_t* words, int64_t stride, int bits, int64_t index) {
  const int per_word = 32 / bits;
  return load_u32(words, index / per_word * stride) >> (index % per_word * bits) &
         ((1U << bits) - 1);
}
inline void put_sparse_code(uint32_t* words, int64_t stride, int bits, int64_t index,
                            uint32_t code) {
  const int per_word = 32 / bits;
  words[index / per_word * stride] |= code << (index % per_word * bits);
}

// Code `index` of GPTQModel's planar layout: every 32 codes are `bits` words; planes of 4, 2, 1
// bits (5 = 4 + 1, 6 = 4 + 2, 7 = 4 + 2 + 1, 3 = 2 + 1), low plane first, each a bit stream of 32
// codes.
inline uint32_t planar_code(const uint8_t* words, int64_t stride, int bits, int64_t index) {
  const int64_t base = index / 32 * bits;
  const int64_t i = index % 32;
  uint32_t code = 0;
  int64_t word = 0;
  int placed = 0;
  for (const int width : {8, 4, 2, 1}) {
    if (bits - placed < width) continue;
    code |= stream_code(words + (base + word) * stride * 4, stride, width, i) << placed;
    placed += width;
    word += width;
  }
  return code;
}

// Adds a code to a planar stream of zeroed words.
inline void put_planar_code(uint32_t* words, int64_t stride, int bits, int64_t index,
                            uint32_t code) {
  int64_t word = index / 32 * bits;
  int placed = 0;
  for (const int width : {8, 4, 2, 1}) {
    if (bits - placed < width) continue;
    put_stream_code(words + word * stride, stride, width, index % 32,
                    code >> placed & ((1U << width) - 1));
    placed += width;
    word += width;
  }
}

// AWQ's order of output columns in a word: nibble i holds column kAwqOrder[i] of the eight.
constexpr int kAwqOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
constexpr int kAwqNibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};  // column j is in nibble kAwqNibble[j]

// Column n of row `row` of a matrix of `words_per_row` AWQ words.
inline uint32_t awq_code(const uint8_t* words, int64_t words_per_row, int64_t row, int64_t n) {
  return load_u32(words, row * words_per_row + n / 8) >> (4 * kAwqNibble[n % 8]) & 15;
}

// Adds a code to a row of zeroed AWQ words.
inline void put_awq_code(uint32_t* words, int64_t words_per_row, int64_t row, int64_t n,
                         uint32_t code) {
  words[row * words_per_row + n / 8] |= code << (4 * kAwqNibble[n % 8]);
}

// Where AWQ's int16 tiles (gemv_fast, llm-awq) hold code (n, k): words [N / 4, K] of four nibbles.
// A tile is 4 rows by 64 columns in 64 words; within 32 columns, k = 8 i + 2 j + l lies at 8 j + 4
// l + i.
struct AwqTilePlace {
  int64_t word;
  int shift;
};
inline AwqTilePlace awq_tile_place(int64_t k_count, int64_t n, int64_t k) {
  const int64_t m = k % 32, slot = m % 8 / 2 * 8 + m % 2 * 4 + m / 8;
  const int64_t position = n % 4 * 64 + k % 64 / 32 * 32 + slot;
  return {n / 4 * k_count + k / 64 * 64 + position / 4, static_cast<int>(position % 4 * 4)};
}
inline uint32_t awq_tile_code(const uint8_t* words, int64_t k_count, int64_t n, int64_t k) {
  const AwqTilePlace p = awq_tile_place(k_count, n, k);
  uint16_t word;
  std::memcpy(&word, words + p.word * 2, 2);
  return static_cast<uint32_t>(word) >> p.shift & 15;
}
inline void put_awq_tile_code(uint16_t* words, int64_t k_count, int64_t n, int64_t k,
                              uint32_t code) {
  const AwqTilePlace p = awq_tile_place(k_count, n, k);
  words[p.word] = static_cast<uint16_t>(words[p.word] | code << p.shift);
}

// Zero point n of group g in GPTQ's qzeros [G, ceil(N * b / 32)]. In version 1 the file holds zero
// - 1. For widths that divide a word the 1 was subtracted from the whole word, so it is added back
// to the whole word, borrows included; for 3 bits it was done per field.
inline int gptq_zero(const uint8_t* qzeros, int64_t words_per_row, int64_t g, int64_t n, int bits,
                     bool v1, bool planar) {
  const uint8_t* row = qzeros + g * words_per_row * 4;
  if (planar) return static_cast<int>(planar_code(row, 1, bits, n));
  if (!v1) return static_cast<int>(stream_code(row, 1, bits, n));
  if (32 % bits != 0)
    return static_cast<int>((stream_code(row, 1, bits, n) + 1) & ((1U << bits) - 1));
  const int per_word = 32 / bits;
  uint32_t ones = 0;
  for (int i = 0; i < per_word; ++i) ones |= 1U << (i * bits);
  const uint32_t word = load_u32(row, n / per_word) + ones;
  return static_cast<int>(word >> (n % per_word * bits) & ((1U << bits) - 1));
}

// The inverse of version 1's reading: words of true zero points, one row of them, become what
// version 1 stores.
inline void gptq_zeros_to_v1(uint32_t* words, int64_t word_count, int64_t n_count, int bits) {
  if (32 % bits == 0) {
    uint32_t ones = 0;
    for (int i = 0; i < 32 / bits; ++i) ones |= 1U << (i * bits);
    for (int64_t w = 0; w < word_count; ++w) words[w] -= ones;
    return;
  }
  std::vector<uint32_t> codes;
  const auto* bytes = reinterpret_cast<const uint8_t*>(words);
  for (int64_t n = 0; n < n_count; ++n)
    codes.push_back((stream_code(bytes, 1, bits, n) - 1) & ((1U << bits) - 1));
  for (int64_t w = 0; w < word_count; ++w) words[w] = 0;
  for (int64_t n = 0; n < n_count; ++n)
    put_stream_code(words, 1, bits, n, codes[static_cast<size_t>(n)]);
}

}  // namespace pack
}  // namespace pluq
