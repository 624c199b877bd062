// SPDX-License-Identifier: Apache-2.0
// Streaming: the joined pieces equal decode() of every prefix, and no piece holds half a character.
#include <gtest/gtest.h>

#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode.h"

#include "test_data.h"

namespace pluq {
namespace {

// Joined pieces equal the whole, and what was emitted before any id never changes afterwards.
void expect_stream_equals(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip) {
  StreamDecoder stream(tokenizer, skip);
  const std::string whole = tokenizer.decode(ids, skip);
  std::string joined;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string piece = stream.push(ids[i]);
    EXPECT_TRUE(is_valid_utf8(piece));
    joined += piece;
    const std::string prefix = tokenizer.decode(std::span(ids).first(i + 1), skip);
    ASSERT_TRUE(prefix.starts_with(joined)) << "after " << i + 1 << " ids";
    ASSERT_TRUE(whole.starts_with(joined)) << "after " << i + 1 << " ids";
  }
  EXPECT_EQ(joined + stream.finish(), whole);
}

TEST(Stream, EveryComponentAndRandomIds) {
  const auto document = parse_json_file(test::data_path("components.json"));
  std::mt19937 random(7);
  for (const auto& entry : document.at("cases").as_array()) {
    SCOPED_TRACE(boost::json::value_to<std::string>(entry.at("name")));
    boost::json::object file = entry.at("tokenizer").as_object();
    file["model"] = document.at("models").at(boost::json::value_to<std::string>(file["model"]));
    const auto tokenizer = Tokenizer::from_json(file, "case");
    for (int round = 0; round < 12; ++round) {
      std::vector<int32_t> ids(1 + random() % 40);
      for (int32_t& id : ids)
        id =
            static_cast<int32_t>(random() % static_cast<unsigned>(tokenizer->vocab_size() + 2)) - 1;
      expect_stream_equals(*tokenizer, ids, round % 2 == 0);
    }
    for (const auto& result : entry.at("results").as_array()) {
      expect_stream_equals(*tokenizer,
                           boost::json::value_to<std::vector<int32_t>>(result.at("special")), true);
    }
  }
}

TEST(Stream, TextComesOutAsSoonAsItIsFinal) {
  const auto document = parse_json_file(test::data_path("components.json"));
  boost::json::object file;
  for (const auto& entry : document.at("cases").as_array()) {
    if (entry.at("name").as_string() == "Digits") file = entry.at("tokenizer").as_object();
  }
  file["model"] = document.at("models").at("byte");
  const auto tokenizer = Tokenizer::from_json(file, "case");
  StreamDecoder stream(*tokenizer, false);
  EXPECT_EQ(stream.push(tokenizer->token_to_id("hello").value()), "hello");
  const auto ids = tokenizer->encode("\xE4\xBD\xA0", false);  // one character, three byte tokens
  ASSERT_EQ(ids.size(), 3u);
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.push(ids[1]), "");
  EXPECT_EQ(stream.push(ids[2]), "\xE4\xBD\xA0");
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.finish(), "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace pluq
