// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/gguf.h"

#include <gtest/gtest.h>

#include <cstring>

#include "pluq/gguf.hpp"
#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;
using test::TempDir;

class Writer {
 public:
  template <class T>
  Writer& n(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Writer& s(const std::string& text) {
    n<uint64_t>(text.size());
    bytes_ += text;
    return *this;
  }
  Writer& raw(const std::string& text) {
    bytes_ += text;
    return *this;
  }
  Writer& head(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    return raw("GGUF").n(version).n(tensors).n(keys);
  }
  Writer& pad() {
    bytes_.resize((bytes_.size() + 31) / 32 * 32);
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

std::string good() {
  Writer w;
  w.head(1, 4).s("general.architecture").n<uint32_t>(8).s("llama");
  w.s("x.count").n<uint32_t>(4).n<uint32_t>(7);
  w.s("x.eps").n<uint32_t>(6).n<float>(0.5F);
  w.s("x.list").n<uint32_t>(9).n<uint32_t>(8).n<uint64_t>(2).s("a").s("bc");
  w.s("w").n<uint32_t>(2).n<uint64_t>(32).n<uint64_t>(2).n<uint32_t>(8).n<uint64_t>(
      0);  // Q8_0 [2, 32]
  return w.pad().raw(std::string(68, '\1')).bytes();
}

TEST(Gguf, ReadsMetadataAndTensors) {
  const TempDir dir;
  const auto f = GgufFile::open(dir.write("m.gguf", good()));
  EXPECT_EQ(f->string("general.architecture").value(), "llama");
  EXPECT_EQ(f->integer("x.count").value(), 7);
  EXPECT_EQ(f->real("x.eps").value(), 0.5);
  EXPECT_EQ(*f->strings("x.list"), (std::vector<std::string>{"a", "bc"}));
  ASSERT_EQ(f->tensors().size(), 1u);
  EXPECT_EQ(f->tensors()[0].shape, (std::vector<int64_t>{2, 32}));
  EXPECT_EQ(f->tensors()[0].data.size(), 68u);
  EXPECT_FALSE(f->integer("none").has_value());
  expect_error(ErrorKind::kInput, {"'x.eps' is not an integer"}, [&] { f->integer("x.eps"); });
  expect_error(ErrorKind::kInput, {"not an array of strings"}, [&] { f->strings("x.count"); });
}

TEST(Gguf, EveryTruncationIsAnError) {
  const TempDir dir;
  const std::string whole = good();
  for (size_t n = 0; n < whole.size(); ++n)
    EXPECT_THROW(GgufFile::open(dir.write("m.gguf", whole.substr(0, n))), Error) << n;
}

TEST(Gguf, EverySingleByteChangeIsAnErrorOrStaysInTheFile) {
  const TempDir dir;
  const std::string whole = good();
  for (size_t at = 0; at < whole.size() - 68; ++at) {
    for (const int change : {1, 16, 128, 255}) {
      std::string bad = whole;
      bad[at] = static_cast<char>(bad[at] ^ change);
      try {
        const auto f = GgufFile::open(dir.write("m.gguf", bad));
        for (const TensorView& t : f->tensors()) EXPECT_LE(t.data.size(), whole.size());
      } catch (const Error&) {
      }
    }
  }
}

TEST(Gguf, HostileClaims) {
  const TempDir dir;
  const auto refuse = [&](const Writer& w, const char* says) {
    expect_error(ErrorKind::kInput, {"m.gguf", says},
                 [&] { GgufFile::open(dir.write("m.gguf", w.bytes())); });
  };
  constexpr uint64_t kHuge = uint64_t{1} << 63;
  refuse(Writer().raw("GGML0000"), "not a GGUF file");
  refuse(Writer().head(0, 0, 1), "version 1 is not supported");
  refuse(Writer().head(kHuge, 0), "tensors are claimed");
  refuse(Writer().head(0, kHuge), "keys are claimed");
  refuse(Writer().head(0, 1).n(kHuge).raw(std::string(64, 'x')), "bytes are claimed");
  refuse(
      Writer().head(0, 1).s("k").n<uint32_t>(9).n<uint32_t>(8).n(kHuge).raw(std::string(64, 'x')),
      "array elements are claimed");
  refuse(Writer().head(0, 1).s("k").n<uint32_t>(9).n<uint32_t>(9).n<uint64_t>(1).raw(
             std::string(64, 'x')),
         "an array of type 9");
  refuse(Writer().head(0, 1).s("k").n<uint32_t>(99).raw(std::string(64, 'x')), "unknown type 99");
  refuse(
      Writer().head(0, 2).s("k").n<uint32_t>(4).n<uint32_t>(1).s("k").n<uint32_t>(4).n<uint32_t>(1),
      "is there twice");
  refuse(Writer().head(0, 1).s("general.alignment").n<uint32_t>(4).n<uint32_t>(48),
         "accepted are powers of two");
  refuse(Writer().head(0, 1).s("general.alignment").n<uint32_t>(10).n(kHuge), "out of range");
  const auto tensor = [](uint64_t k, uint64_t n, uint32_t type, uint64_t offset) {
    Writer w;
    w.head(1, 0).s("w").n<uint32_t>(2).n(k).n(n).n(type).n(offset);
    return w.pad().raw(std::string(64, 'x'));
  };
  refuse(tensor(uint64_t{1} << 40, uint64_t{1} << 40, 0, 0), "overflows");
  refuse(tensor(kHuge, 1, 0, 0), "out of range");
  refuse(tensor(32, 1, 0, 1 << 20), "outside the file");
  refuse(tensor(32, 1, 0, ~uint64_t{0} & ~uint64_t{31}), "overflows");
  refuse(tensor(32, 1, 0, 7), "not a multiple of the alignment");
  refuse(tensor(33, 1, 2, 0), "whole number of Q4_0 blocks");
  refuse(tensor(32, 1, 77, 0), "ggml type 77 is not supported");
}

// Decoded by the PyPI package gguf; see tests/data/gguf/make.py.
TEST(GgufBlocks, DecodeBitForBitLikeThePackage) {
  const std::string folder = std::string(PLUQ_SOURCE_DIR) + "/tests/data/gguf/";
  const std::string blocks = read_file(folder + "blocks.bin", 1 << 20),
                    values = read_file(folder + "values.bin", 4 << 20);
  const struct {
    uint32_t type;
    int64_t elements;
    size_t bytes;
  } types[] = {{2, 32, 18},    {3, 32, 20},    {6, 32, 22},    {7, 32, 24},
               {8, 32, 34},    {10, 256, 84},  {11, 256, 110}, {12, 256, 144},
               {13, 256, 176}, {14, 256, 210}, {1, 1, 2},      {30, 1, 2}};
  size_t at = 0, value = 0;
  for (const auto& t : types) {
    const int64_t n = 1024;
    std::vector<float> out(static_cast<size_t>(n));
    ASSERT_TRUE(gguf::dequantize_row(t.type, blocks.data() + at, out.data(), n));
    at += static_cast<size_t>(n / t.elements) * t.bytes;
    EXPECT_EQ(std::memcmp(out.data(), values.data() + value, out.size() * 4), 0)
        << "type " << t.type;
    value += out.size() * 4;
  }
  EXPECT_EQ(at, blocks.size());
  EXPECT_EQ(value, values.size());
  float one = 0;
  EXPECT_FALSE(gguf::dequantize_row(99, blocks.data(), &one, 1));
  EXPECT_FALSE(gguf::dequantize_row(2, blocks.data(), &one, 1));
}

}  // namespace
}  // namespace pluq
