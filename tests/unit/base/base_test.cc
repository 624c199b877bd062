// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <thread>

#include "base/checked.h"
#include "base/file.h"
#include "base/json.h"
#include "base/npy.h"
#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;
using test::TempDir;

TEST(Checked, OverflowIsAnInputErrorWithBothNumbers) {
  EXPECT_EQ(checked_add<uint64_t>(2, 3, "x"), 5u);
  EXPECT_EQ(checked_mul<int64_t>(-2, 3, "x"), -6);
  expect_error(ErrorKind::kInput, {"size: ", "18446744073709551615 + 1 overflows"},
               [] { checked_add<uint64_t>(~uint64_t{0}, 1, "size"); });
  expect_error(ErrorKind::kInput, {"4294967296 * 4294967296"},
               [] { checked_mul<uint64_t>(uint64_t{1} << 32, uint64_t{1} << 32, "n"); });
  expect_error(ErrorKind::kInput, {"300 is out of range"}, [] { checked_cast<uint8_t>(300, "b"); });
  expect_error(ErrorKind::kInput, {"not a power of two"}, [] { checked_align_up(5, 3, "a"); });
  expect_error(ErrorKind::kInput, {"overflows"}, [] { checked_align_up(~uint64_t{0}, 32, "a"); });
  EXPECT_EQ(checked_align_up(33, 32, "a"), 64u);
  EXPECT_EQ(ceil_div(7, 2), 4);
}

TEST(Printable, EscapesControlCharactersAndCuts) {
  EXPECT_EQ(printable("a\nb\x7f"), "a\\x0ab\\x7f");
  EXPECT_EQ(printable("abcdef", 3), "abc...");
}

TEST(Json, ParsesAndKeepsOrder) {
  const auto v =
      parse_json(R"({"b": [1, 2.5, "x", null, true], "a": {"n": -9223372036854775808}})", "t");
  EXPECT_EQ(v.at("b").as_array().size(), 5u);
  EXPECT_EQ(v.as_object().begin()->key(), "b");
}

TEST(Json, RefusesWithPlaceAndReason) {
  expect_error(ErrorKind::kInput, {"f.json", "at byte"}, [] { parse_json("{\"a\": }", "f.json"); });
  expect_error(ErrorKind::kInput, {"duplicate key 'k'"},
               [] { parse_json(R"({"k": 1, "k": 2})", "f"); });
  expect_error(ErrorKind::kInput, {"duplicate key 'k'"},
               [] { parse_json(R"({"x": [{"k": 1, "\u006b": 2}]})", "f"); });
  expect_error(ErrorKind::kInput, {"text after the end"}, [] { parse_json("{} x", "f"); });
  expect_error(ErrorKind::kInput, {"at most 4 are accepted"}, [] {
    JsonLimits l;
    l.max_bytes = 4;
    parse_json("[1,2]", "f", l);
  });
  expect_error(ErrorKind::kInput, {"more values than allowed"}, [] {
    JsonLimits l;
    l.max_values = 3;
    parse_json("[1,2,3,4]", "f", l);
  });
  EXPECT_NO_THROW(
      parse_json(R"({"a": {"k": 1}, "b": {"k": 2}})", "f"));  // the same key in two objects is fine
}

TEST(Json, AMillionLevelsNeedNoStack) {
  const std::string deep(1'000'000, '[');
  std::exception_ptr error;
  std::thread small([&] {
    expect_error(ErrorKind::kInput, {"deeper than 64 levels"}, [&] { parse_json(deep, "f"); });
  });
  small.join();
}

TEST(Json, EveryTruncationIsAnError) {
  const std::string text = R"({"a": [1, {"b": "c\u00e9"}, -1.5e3], "d": false})";
  for (size_t n = 0; n < text.size(); ++n)
    EXPECT_THROW(parse_json(text.substr(0, n), "f"), Error) << n;
}

TEST(File, ReadsWithACapAndWritesDurably) {
  const TempDir dir;
  const std::string path = dir.path() + "/x";
  write_file_durably(path, "hello");
  EXPECT_EQ(read_file(path, 5), "hello");
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
  expect_error(ErrorKind::kInput, {path, "at most 4"}, [&] { read_file(path, 4); });
  expect_error(ErrorKind::kInput, {"cannot open"}, [&] { read_file(dir.path() + "/none", 4); });
  expect_error(ErrorKind::kInput, {"not a regular file"}, [&] { read_file(dir.path(), 4); });
  EXPECT_THROW(write_file_durably(dir.path() + "/no/such/dir", "x"), Error);
  EXPECT_EQ(MappedFile::open(path)->bytes().size(), 5u);
  dir.write("empty", "");
  EXPECT_TRUE(MappedFile::open(dir.path() + "/empty")->bytes().empty());
}

TEST(Npy, RoundTripAndRefusals) {
  const TempDir dir;
  const std::string path = dir.path() + "/m.npy";
  const std::vector<float> data{1, -2, 3.5F, 0, 5, 6};
  write_npy(path, 2, 3, data);
  const Matrix m = read_npy(path);
  EXPECT_EQ(m.rows, 2);
  EXPECT_EQ(m.cols, 3);
  EXPECT_EQ(m.data, data);
  EXPECT_EQ((read_file(path, 1000).size() - sizeof(float) * 6) % 64, 0u);
  const std::string whole = read_file(path, 1000);
  for (size_t n = 0; n < whole.size(); ++n)
    EXPECT_THROW(read_npy(dir.write("cut.npy", whole.substr(0, n))), Error) << n;
  std::string f8 = whole;
  f8.replace(f8.find("<f4"), 3, "<f8");
  expect_error(ErrorKind::kInput, {"<f8", "expected '<f4'"},
               [&] { read_npy(dir.write("d.npy", f8)); });
}

}  // namespace
}  // namespace pluq
