// SPDX-License-Identifier: Apache-2.0
// Every rule of the safetensors reader, by its message; every truncation and every single-byte
// change of a header.
#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "checkpoint/checkpoint.h"
#include "checkpoint/dtype.h"
#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;
using test::TempDir;

std::string with_header(const std::string& header, size_t data_bytes) {
  const uint64_t size = header.size();
  std::string out(reinterpret_cast<const char*>(&size), 8);
  return out + header + std::string(data_bytes, '\1');
}

SafetensorsFile read(const TempDir& dir, const std::string& content) {
  return read_safetensors(MappedFile::open(dir.write("m.safetensors", content)));
}

const char* const kGood =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},)"
    R"("s":{"dtype":"F32","shape":[],"data_offsets":[12,16]},"e":{"dtype":"I8","shape":[0,4],"data_offsets":[16,16]}})";

TEST(Safetensors, ReadsShapesAndData) {
  const TempDir dir;
  const SafetensorsFile f =
      read(dir, with_header(std::string(kGood) + "   ", 16));  // padding, misaligned data
  ASSERT_EQ(f.tensors.size(), 3u);
  EXPECT_EQ(f.tensors[0].dtype.id, PLUQ_DTYPE_F16);
  EXPECT_EQ(f.tensors[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(f.tensors[0].data.size(), 12u);
  EXPECT_EQ(f.tensors[1].shape.size(), 0u);
  EXPECT_EQ(f.tensors[2].data.size(), 0u);
  EXPECT_EQ(f.metadata.at(0).second, "pt");
}

TEST(Safetensors, EachRuleHasItsMessage) {
  const struct {
    const char* header;
    size_t data;
    const char* says;
  } cases[] = {
      {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"a":{"dtype":"F16","shape":[2],"data_offsets":[4,8]}})",
       8, "duplicate key 'a'"},
      {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[2,6]}})", 6, "a hole"},
      {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"F16","shape":[2],"data_offsets":[2,6]}})",
       6, "an overlap"},
      {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})", 5, "1 bytes after that"},
      {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})", 3, "outside the 3 bytes"},
      {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[4,0]}})", 4, "data_offsets [4, 0]"},
      {R"({"a":{"dtype":"F16","shape":[3],"data_offsets":[0,4]}})", 4, "needs 6 bytes"},
      {R"({"a":{"dtype":"F99","shape":[2],"data_offsets":[0,4]}})", 4, "accepted are BOOL"},
      {R"({"a":{"dtype":"F16","shape":[-2],"data_offsets":[0,4]}})", 4, "whole number from 0"},
      {R"({"a":{"dtype":"F16","shape":[4194305,4194305,211106198978564],"data_offsets":[0,4]}})", 4,
       "overflows"},
      {R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1, "whole number of F4 blocks"},
      {R"({"a":{"dtype":"F16","shape":[2]}})", 0, "'data_offsets' is missing"},
      {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4],"x":1}})", 4, "unknown key 'x'"},
      {R"({"a":7})", 0, "expected an object"},
      {R"({"__metadata__":{"a":1}})", 0, "is not a string"},
      {R"([1])", 0, "does not begin with '{'"},
      {R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,18446744073709551615]}})", 4,
       "outside the 4 bytes"},
  };
  const TempDir dir;
  for (const auto& c : cases) {
    expect_error(ErrorKind::kInput, {"m.safetensors", c.says},
                 [&] { read(dir, with_header(c.header, c.data)); });
  }
}

TEST(Safetensors, HugeClaimsAllocateNothing) {
  const TempDir dir;
  std::string huge(8, '\xff');
  expect_error(ErrorKind::kInput, {"at most 100000000"}, [&] { read(dir, huge + "{}"); });
  const uint64_t beyond = 99'999'999;
  expect_error(ErrorKind::kInput, {"does not fit"},
               [&] { read(dir, std::string(reinterpret_cast<const char*>(&beyond), 8) + "{}"); });
  expect_error(ErrorKind::kInput, {"too short"}, [&] { read(dir, "1234567"); });
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const TempDir dir;
  const std::string whole = with_header(kGood, 16);
  for (size_t n = 0; n < whole.size(); ++n) EXPECT_THROW(read(dir, whole.substr(0, n)), Error) << n;
}

TEST(Safetensors, EverySingleByteChangeIsAnErrorOrStaysInTheFile) {
  const TempDir dir;
  const std::string whole = with_header(kGood, 16);
  const std::string path = dir.path() + "/m.safetensors";
  for (size_t at = 0; at < whole.size() - 16; ++at) {
    for (const int change : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      std::string bad = whole;
      bad[at] = static_cast<char>(bad[at] ^ change);
      try {
        const SafetensorsFile f = read(dir, bad);
        const auto bytes = f.map->bytes();
        for (const TensorView& t : f.tensors) {
          EXPECT_GE(t.data.data(), bytes.data());
          EXPECT_LE(t.data.data() + t.data.size(), bytes.data() + bytes.size());
          EXPECT_EQ(tensor_bytes(t.dtype, t.shape, "t"), t.data.size());
        }
      } catch (const Error&) {  // typed: good
      }
    }
  }
}

TEST(Checkpoint, ShardsByIndex) {
  const TempDir dir;
  dir.write("model-1.safetensors",
            with_header(R"({"a":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}})", 2));
  dir.write("model-2.safetensors",
            with_header(R"({"b":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1));
  const auto index = [&](const std::string& map) {
    dir.write("model.safetensors.index.json", R"({"weight_map":)" + map + "}");
  };
  index(R"({"a":"model-1.safetensors","b":"model-2.safetensors"})");
  const auto c = Checkpoint::open(dir.path());
  EXPECT_EQ(c->tensors().size(), 2u);
  EXPECT_NE(c->find("b"), nullptr);
  expect_error(ErrorKind::kInput, {"tensor 'q' is missing"}, [&] { c->at("q"); });
  index(R"({"a":"model-1.safetensors","b":"model-1.safetensors"})");
  expect_error(ErrorKind::kInput, {"'b' is not in its shard"},
               [&] { Checkpoint::open(dir.path()); });
  index(R"({"a":"model-1.safetensors","z":"model-2.safetensors"})");
  expect_error(ErrorKind::kInput, {"the index does not name"},
               [&] { Checkpoint::open(dir.path()); });
  for (const char* name : {"../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "",
                           "x\\u0000.safetensors", "a\\\\b.safetensors", "x.bin"}) {
    index(std::string(R"({"a":")") + name + "\"}");
    expect_error(ErrorKind::kInput, {"not a plain *.safetensors file name"},
                 [&] { Checkpoint::open(dir.path()); });
  }
}

TEST(Checkpoint, FindsTheFileOrSaysWhatIsThere) {
  const TempDir dir;
  expect_error(ErrorKind::kInput, {"no such model directory"},
               [&] { Checkpoint::open(dir.path() + "/none"); });
  expect_error(ErrorKind::kInput, {"found none"}, [&] { Checkpoint::open(dir.path()); });
  dir.write("pytorch_model.bin", "x");
  expect_error(ErrorKind::kInput, {"pytorch_model.bin is a pickle file"},
               [&] { Checkpoint::open(dir.path()); });
  dir.write("gptq_model-4bit-128g.safetensors", with_header("{}", 0));
  EXPECT_EQ(Checkpoint::open(dir.path())->tensors().size(), 0u);
  dir.write("other.safetensors", with_header("{}", 0));
  expect_error(ErrorKind::kInput, {"found gptq_model-4bit-128g.safetensors, other.safetensors"},
               [&] { Checkpoint::open(dir.path()); });
}

}  // namespace
}  // namespace pluq
