// SPDX-License-Identifier: Apache-2.0
// The six shared tokenizers: whole text, chunks and decoding agree id for id with what the package
// recorded.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "tokenizer/tokenizer.h"

#include "test_data.h"

namespace pluq {
namespace {

class Fixtures : public testing::TestWithParam<const char*> {};

TEST_P(Fixtures, AgreeIdForId) {
  const std::string root = test::fixtures_path();
  if (root.empty()) GTEST_SKIP() << "the shared fixtures are not here; set PLUQ_FIXTURES";
  const std::string directory = root + "/" + GetParam();
  const auto tokenizer = Tokenizer::from_directory(directory);
  const auto expected = parse_json_file(directory + "/expected.json");
  const std::string sample = read_file(root + "/sample.txt", size_t{1} << 24);
  EXPECT_EQ(tokenizer->encode(sample, false),
            boost::json::value_to<std::vector<int32_t>>(expected.at("whole_ids")));

  // Chunks of 700 code points.
  std::vector<std::string> chunks;
  size_t count = 0;
  for (const char c : sample) {
    const bool starts = (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    if (starts && count++ % 700 == 0) chunks.emplace_back();
    chunks.back() += c;
  }
  const auto& results = expected.at("chunk_results").as_array();
  ASSERT_EQ(chunks.size(), results.size());
  for (size_t i = 0; i < chunks.size(); ++i) {
    SCOPED_TRACE("chunk " + std::to_string(i));
    const auto ids = tokenizer->encode(chunks[i], true);
    EXPECT_EQ(ids, boost::json::value_to<std::vector<int32_t>>(results[i].at("ids")));
    EXPECT_EQ(tokenizer->decode(ids, false),
              boost::json::value_to<std::string>(results[i].at("decoded")));
  }
}

INSTANTIATE_TEST_SUITE_P(All, Fixtures,
                         testing::Values("bytelevel-digits", "bytelevel-gpt2", "bytelevel-llama3",
                                         "bytelevel-qwen2", "spm-llama2-legacy", "spm-metaspace"),
                         [](const auto& fixture) {
                           std::string name = fixture.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace pluq
