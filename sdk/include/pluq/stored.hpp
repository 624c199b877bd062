// SPDX-License-Identifier: Apache-2.0
// Where the numbers of a quantized layer lie in its tensors, said as data: what a format tells the
// kernels that repack a layer on a device. pack.hpp says the same in code. C++17, no dependencies.
#pragma once

#include <cstdint>

namespace pluq {

// How the integers of one packed row follow each other in words of 32 bits, unless said otherwise.
enum class IntOrder : int32_t {
  kStream = 0,    // a bit stream: pack::stream_code
  kSparse = 1,    // floor(32 / b) in a word: pack::sparse_code
  kPlanar = 2,    // planes of 8, 4, 2, 1 bits per 32 integers: pack::planar_code
  kAwq = 3,       // eight of 4 bits in a word, in AWQ's order of nibbles: pack::awq_code
  kAwqTiles = 4,  // 4 bits in words of 16, four rows by 64 columns together: pack::awq_tile_code
  kBytes = 5      // bytes; a word is one byte
};

// A matrix of integers [N, K], or [N, G] for zero points, in a tensor. A packed row holds row n of
// the matrix, or with `across` column k; its integers are those of the other index in order.
struct StoredInts {
  IntOrder order = IntOrder::kStream;
  bool across = false;
  int32_t bits = 4;
  int64_t row_stride = 0;   // words between packed rows; kAwqTiles: words of four rows together
  int64_t word_stride = 1;  // words between those of a packed row
  int64_t first = 0;        // which integer of its packed row is the matrix's first
  uint32_t word_add = 0;    // added to every word, modulo 2^32
  uint32_t add = 0;         // then added to every integer, modulo 2^b
};

// A matrix of F16, BF16 or F32 [N, G] in a tensor: element n * row_stride + g * group_stride.
struct StoredReals {
  int64_t row_stride = 0, group_stride = 0;
};

// Zero points of GPTQ's version 1, which holds zero - 1; pack::gptq_zero says why twice.
inline StoredInts add_one(StoredInts stored) {
  if (32 % stored.bits != 0) {
    stored.add = 1;
    return stored;
  }
  for (int bit = 0; bit < 32; bit += stored.bits) stored.word_add |= 1U << bit;
  return stored;
}

}  // namespace pluq
