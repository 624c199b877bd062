// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/writer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;
using test::TempDir;

std::vector<std::byte> bytes(size_t n, int value) {
  return std::vector<std::byte>(n, static_cast<std::byte>(value));
}

TEST(ModelWriter, WritesShardsThatReadBack) {
  const TempDir dir;
  const std::string out = dir.path() + "/model";
  {
    ModelWriter w(out, "", 100);
    w.declare("a", dtype_by_id(PLUQ_DTYPE_F16), {4, 10});  // 80 bytes
    w.declare("b", dtype_by_id(PLUQ_DTYPE_I8), {60});
    w.declare("c", dtype_by_id(PLUQ_DTYPE_F32), {});
    w.open();
    w.write("a", 2, 4, bytes(40, 2));
    w.write("b", 0, 60, bytes(60, 3));
    w.write("a", 0, 2, bytes(40, 1));
    w.write("c", 0, 1, bytes(4, 4));
    w.add_file("config.json", "{}");
    EXPECT_FALSE(std::filesystem::exists(out + "/config.json"));  // not before everything is there
    w.finish();
  }
  EXPECT_TRUE(std::filesystem::exists(out + "/model.safetensors.index.json"));
  const auto c = Checkpoint::open(out);
  ASSERT_EQ(c->tensors().size(), 3u);
  EXPECT_EQ(c->at("a").data[39], std::byte{1});
  EXPECT_EQ(c->at("a").data[40], std::byte{2});
  EXPECT_EQ(c->at("c").shape.size(), 0u);
  for (const auto& e : std::filesystem::directory_iterator(out))
    EXPECT_NE(e.path().extension(), ".partial");
}

TEST(ModelWriter, LeavesNothingBehindWhenNotFinished) {
  const TempDir dir;
  const std::string out = dir.path() + "/model";
  {
    ModelWriter w(out, "");
    w.declare("a", dtype_by_id(PLUQ_DTYPE_I8), {4});
    w.open();
    w.write("a", 0, 2, bytes(2, 1));
    w.add_file("config.json", "{}");
    expect_error(ErrorKind::kPlugin, {"2 of 4 bytes of tensor 'a'"}, [&] { w.finish(); });
  }
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST(ModelWriter, RefusesWhatWouldDoHarm) {
  const TempDir dir;
  dir.write("x", "x");
  expect_error(ErrorKind::kUsage, {"not an empty directory"}, [&] { ModelWriter(dir.path(), ""); });
  expect_error(ErrorKind::kUsage, {"the output is the input"},
               [&] { ModelWriter(dir.path(), dir.path()); });
  ModelWriter w(dir.path() + "/m", "");
  w.declare("a", dtype_by_id(PLUQ_DTYPE_I8), {4, 2});
  expect_error(ErrorKind::kInput, {"declared twice"},
               [&] { w.declare("a", dtype_by_id(PLUQ_DTYPE_I8), {4}); });
  w.open();
  expect_error(ErrorKind::kPlugin, {"do not fit tensor 'a'"},
               [&] { w.write("a", 3, 5, bytes(4, 0)); });
  expect_error(ErrorKind::kPlugin, {"do not fit tensor 'a'"},
               [&] { w.write("a", 0, 1, bytes(3, 0)); });
  expect_error(ErrorKind::kPlugin, {"was not declared"}, [&] { w.write("b", 0, 1, bytes(3, 0)); });
}

TEST(Convert, HalvesRoundTripAndRoundToEven) {
  for (uint32_t h = 0; h < 65536; ++h) {
    const auto bits = static_cast<uint16_t>(h);
    const float f = f16_to_f32(bits), b = bf16_to_f32(bits);
    if (!std::isnan(f)) EXPECT_EQ(f32_to_f16(f), bits);
    if (!std::isnan(b)) EXPECT_EQ(f32_to_bf16(b), bits);
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    if (exponent != 31) {
      const double want =
          (exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25)) *
          (bits & 0x8000 ? -1 : 1);
      EXPECT_EQ(static_cast<double>(f), want);
    }
    // Halfway to the next number goes to the even one.
    if ((bits & 0x7fff) < 0x7bff) {
      const double next = f16_to_f32(static_cast<uint16_t>(bits + 1));
      const auto middle = static_cast<float>((static_cast<double>(f) + next) / 2);
      EXPECT_EQ(f32_to_f16(middle), (bits & 1) != 0 ? bits + 1 : bits);
    }
  }
  EXPECT_EQ(f32_to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(f32_to_f16(65519.0F), 0x7bff);
}

}  // namespace
}  // namespace pluq
