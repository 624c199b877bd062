// SPDX-License-Identifier: Apache-2.0
// Codes, scales and offsets of the plugin gguf against the values of the PyPI package gguf
// (tests/data/gguf/make.py).
#include "gguf/blocks.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "pluq/gguf.hpp"

namespace gguf_format {
namespace {

std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(GgufBlocks, EqualTheReference) {
  const std::string folder = std::string(PLUQ_SOURCE_DIR) + "/tests/data/gguf/";
  const std::string blocks = read(folder + "blocks.bin"), values = read(folder + "values.bin");
  using namespace pluq::gguf;
  size_t at = 0, value = 0;
  for (const uint32_t type :
       {kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ2_K, kQ3_K, kQ4_K, kQ5_K, kQ6_K}) {
    const BlockType* t = find_block_type(type);
    ASSERT_NE(t, nullptr);
    std::vector<uint8_t> codes(static_cast<size_t>(t->elements));
    for (int32_t b = 0; b < 1024 / t->elements; ++b, at += static_cast<size_t>(t->bytes)) {
      ASSERT_LE(at + static_cast<size_t>(t->bytes), blocks.size());
      const auto* block = reinterpret_cast<const uint8_t*>(blocks.data()) + at;
      block_codes(*t, block, codes.data());
      for (int32_t i = 0; i < t->elements; ++i, value += 4) {
        float want;
        std::memcpy(&want, values.data() + value, 4);
        const int code = codes[static_cast<size_t>(i)];
        ASSERT_LT(code, 1 << t->bits);
        const float product =
            block_scale(*t, block, i / t->group) * static_cast<float>(code - std::max(t->zero, 0));
        const float got = t->zero < 0 ? product + block_offset(*t, block, i / t->group) : product;
        ASSERT_EQ(got, want) << t->name << " block " << b << " element " << i;
      }
    }
  }
  EXPECT_EQ(find_block_type(kF16), nullptr);
  EXPECT_EQ(find_block_type(99), nullptr);
}

}  // namespace
}  // namespace gguf_format
