// SPDX-License-Identifier: Apache-2.0
// Golden vectors of the packed layouts, and round trips.
#include "pluq/pack.hpp"

#include <gtest/gtest.h>

#include <random>

namespace pluq::pack {
namespace {

const uint8_t* bytes(const std::vector<uint32_t>& words) {
  return reinterpret_cast<const uint8_t*>(words.data());
}

TEST(BitStream, GoldenVectors) {
  const auto pack = [](int bits, int count, auto code) {
    std::vector<uint32_t> words(static_cast<size_t>(stream_words(count, bits)));
    for (int i = 0; i < count; ++i)
      put_stream_code(words.data(), 1, bits, i, static_cast<uint32_t>(code(i)));
    return words;
  };
  EXPECT_EQ(pack(4, 8, [](int i) { return i; }), (std::vector<uint32_t>{0x76543210}));
  EXPECT_EQ(pack(2, 16, [](int i) { return i % 4; }), (std::vector<uint32_t>{0xE4E4E4E4}));
  EXPECT_EQ(pack(8, 4, [](int i) { return i; }), (std::vector<uint32_t>{0x03020100}));
  EXPECT_EQ(pack(3, 32, [](int i) { return i % 8; }),
            (std::vector<uint32_t>{0x88FAC688, 0xC688FAC6, 0xFAC688FA}));
}

TEST(BitStream, RoundTripsEveryWidthAndStride) {
  std::mt19937 random(1);
  for (int bits = 2; bits <= 8; ++bits) {
    for (const int64_t stride : {1, 3}) {
      for (const int64_t count : {1, 31, 32, 33, 97}) {
        std::vector<uint32_t> words(static_cast<size_t>(stream_words(count, bits) * stride));
        std::vector<uint32_t> codes;
        for (int64_t i = 0; i < count; ++i) {
          codes.push_back(random() & ((1U << bits) - 1));
          put_stream_code(words.data(), stride, bits, i, codes.back());
        }
        for (int64_t i = 0; i < count; ++i)
          EXPECT_EQ(stream_code(bytes(words), stride, bits, i), codes[static_cast<size_t>(i)]);
      }
    }
  }
}

TEST(GptqZeros, SymmetricConstants) {
  const struct {
    int bits;
    std::vector<uint32_t> v1, v2;
  } cases[] = {{2, {0x55555555}, {0xAAAAAAAA}},
               {3, {0xDB6DB6DB, 0xB6DB6DB6, 0x6DB6DB6D}, {0x24924924, 0x49249249, 0x92492492}},
               {4, {0x77777777}, {0x88888888}},
               {8, {0x7F7F7F7F}, {0x80808080}}};
  for (const auto& c : cases) {
    const int64_t words = static_cast<int64_t>(c.v1.size());
    for (int n = 0; n < words * 32 / c.bits; ++n) {
      EXPECT_EQ(gptq_zero(bytes(c.v1), words, 0, n, c.bits, true, false), 1 << (c.bits - 1));
      EXPECT_EQ(gptq_zero(bytes(c.v2), words, 0, n, c.bits, false, false), 1 << (c.bits - 1));
    }
  }
}

// A zero point of 0 stored as zero - 1 borrows from its neighbour; adding the ones back to the
// whole word undoes it.
TEST(GptqZeros, ModularDecodeOfVersion1WithAZeroZeroPoint) {
  const int want[8] = {0, 5, 8, 3, 0, 15, 1, 7};
  for (int n = 0; n < 8; ++n) {
    EXPECT_EQ(gptq_zero(bytes({0x71F03850}), 1, 0, n, 4, false, false), want[n]);
    EXPECT_EQ(gptq_zero(bytes({0x60DF273F}), 1, 0, n, 4, true, false), want[n]);
  }
}

TEST(Planar, PowersOfTwoAreTheStreamAndFiveBitsArePlanes) {
  std::mt19937 random(2);
  for (const int bits : {2, 4, 8}) {
    std::vector<uint32_t> words(static_cast<size_t>(bits));
    for (uint32_t& w : words) w = random();
    for (int i = 0; i < 32; ++i)
      EXPECT_EQ(planar_code(bytes(words), 1, bits, i), stream_code(bytes(words), 1, bits, i));
  }
  // 5 bits: four words of low nibbles, then one word of fifth bits.
  std::vector<uint32_t> words{0x76543210, 0xFEDCBA98, 0x76543210, 0xFEDCBA98, 0xFFFF0000};
  for (int i = 0; i < 32; ++i)
    EXPECT_EQ(planar_code(bytes(words), 1, 5, i),
              static_cast<uint32_t>(i % 16 + (i >= 16 ? 16 : 0)));
}

TEST(Awq, GoldenWordAndInverseOrders) {
  for (int n = 0; n < 8; ++n) {
    EXPECT_EQ(awq_code(bytes({0x75316420}), 1, 0, n), static_cast<uint32_t>(n));
    EXPECT_EQ(kAwqOrder[kAwqNibble[n]], n);
  }
}

TEST(SparseWords, TenThreeBitCodesToAWord) {
  const std::vector<uint32_t> words{(7U << 27) | 5U, 6U};
  EXPECT_EQ(sparse_code(bytes(words), 1, 3, 0), 5u);
  EXPECT_EQ(sparse_code(bytes(words), 1, 3, 9), 7u);
  EXPECT_EQ(sparse_code(bytes(words), 1, 3, 10), 6u);
}

}  // namespace
}  // namespace pluq::pack
