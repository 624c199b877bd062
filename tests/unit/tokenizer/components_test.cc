// SPDX-License-Identifier: Apache-2.0
// One small tokenizer per odd component against what the `tokenizers` package gave
// (tests/data/tokenizers/make.py).
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/json.h"
#include "tokenizer/tokenizer.h"

#include "test_data.h"

namespace pluq {
namespace {

std::vector<int32_t> ids_of(const boost::json::value& value) {
  return boost::json::value_to<std::vector<int32_t>>(value);
}
std::string text_of(const boost::json::value& value) {
  return boost::json::value_to<std::string>(value);
}

TEST(Components, AgreeWithTheTokenizersPackage) {
  const auto document = parse_json_file(test::data_path("components.json"));
  const auto& texts = document.at("texts").as_array();
  size_t checked = 0;
  for (const auto& entry : document.at("cases").as_array()) {
    const std::string name = text_of(entry.at("name"));
    boost::json::object file = entry.at("tokenizer").as_object();
    file["model"] = document.at("models").at(text_of(file["model"]));
    const auto tokenizer = Tokenizer::from_json(file, name);
    const auto& results = entry.at("results").as_array();
    ASSERT_EQ(results.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      const std::string text = text_of(texts[i]);
      SCOPED_TRACE(name + ": text " + std::to_string(i) + " '" + text + "'");
      const auto special = tokenizer->encode(text, true);
      EXPECT_EQ(tokenizer->encode(text, false), ids_of(results[i].at("plain")));
      EXPECT_EQ(special, ids_of(results[i].at("special")));
      const std::string whole = tokenizer->decode(special, false);
      const std::string skipped = tokenizer->decode(special, true);
      if (results[i].at("text").is_null()) continue;  // the package panics there
      EXPECT_EQ(whole, text_of(results[i].at("text")));
      EXPECT_EQ(skipped, text_of(results[i].at("skipped")));
      ++checked;
    }
  }
  EXPECT_GE(checked, 1000u);
}

}  // namespace
}  // namespace pluq
