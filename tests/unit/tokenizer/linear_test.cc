// SPDX-License-Identifier: Apache-2.0
// 10 MB of any one thing tokenizes in at most 2 s per MB, and doubling the text about doubles the
// time.
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "base/json.h"
#include "tokenizer/tokenizer.h"

#include "test_data.h"

namespace pluq {
namespace {

double seconds_to_encode(const Tokenizer& tokenizer, const std::string& unit, size_t bytes) {
  std::string text;
  text.reserve(bytes + unit.size());
  while (text.size() < bytes) text += unit;
  const auto start = std::chrono::steady_clock::now();
  const auto ids = tokenizer.encode(text, false);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_GT(ids.size(), 0u);
  return seconds;
}

const char* const kUnits[] = {"a",
                              " ",
                              "\n",
                              "1",
                              "!",
                              "\xE4\xBD\xA0",
                              "\xCC\x81\xCC\xA7",
                              "\xE3\x80\x80",
                              "\xF0\x9F\x98\x80",
                              "' ",
                              "a\xCC\x81"};
#ifdef __SANITIZE_ADDRESS__
constexpr size_t kScale = 8;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr size_t kScale = 8;
#else
constexpr size_t kScale = 1;
#endif
#else
constexpr size_t kScale = 1;
#endif

void check_linear(const Tokenizer& tokenizer, size_t bytes) {
  const size_t text_bytes = bytes / kScale;
  for (const char* unit : kUnits) {
    SCOPED_TRACE(std::string("unit '") + unit + "'");
    const double half = seconds_to_encode(tokenizer, unit, text_bytes / 2);
    const double whole = seconds_to_encode(tokenizer, unit, text_bytes);
    EXPECT_LT(whole, 20.0);
    EXPECT_LT(whole, 3.5 * half + 0.5);
  }
}

TEST(Linear, SmallVocabularies) {
  const auto document = parse_json_file(test::data_path("components.json"));
  for (const auto& entry : document.at("cases").as_array()) {
    const auto name = entry.at("name").as_string();
    if (name != "NFC" && name != "Metaspace first False") continue;
    SCOPED_TRACE(std::string(name));
    boost::json::object file = entry.at("tokenizer").as_object();
    file["model"] = document.at("models").at(file["model"].as_string());
    check_linear(*Tokenizer::from_json(file, "case"), 2'000'000);
  }
}

TEST(Linear, Fixtures) {
  const std::string root = test::fixtures_path();
  if (root.empty()) GTEST_SKIP() << "the shared fixtures are not here; set PLUQ_FIXTURES";
  for (const char* name : {"bytelevel-qwen2", "spm-llama2-legacy"}) {
    SCOPED_TRACE(name);
    const auto tokenizer = Tokenizer::from_directory(root + "/" + name);
    check_linear(*tokenizer, 1'000'000);
    for (const char* unit : {"a", " ", "\xE4\xBD\xA0", "\xCC\x81\xCC\xA7"}) {
      EXPECT_LT(seconds_to_encode(*tokenizer, unit, 10'000'000 / kScale), 20.0)
          << "unit '" << unit << "'";
    }
  }
}

}  // namespace
}  // namespace pluq
