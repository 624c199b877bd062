// SPDX-License-Identifier: Apache-2.0
// Wrong and hostile tokenizer files: a typed error with a sentence that names the place, never a
// crash.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/tokenizer.h"

namespace pluq {
namespace {

// The message of the input error that loading (and, with text, encoding) gives; "" when there is
// none.
std::string error_of(const std::string& json_text, const std::string& text = "") {
  try {
    const auto tokenizer = Tokenizer::from_json(parse_json(json_text, "t.json"), "t.json");
    (void)tokenizer->encode(text, true);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInput);
    return error.what();
  }
  return "";
}

std::string document(const std::string& model, const std::string& rest = "") {
  return R"({"model":)" + model + (rest.empty() ? "" : "," + rest) + "}";
}
const char* const kModel = R"({"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]})";

struct Case {
  const char* name;
  std::string json;
  std::vector<std::string> needles;
};

TEST(Hostile, EveryWrongFileNamesItsPlace) {
  const auto split = [](const std::string& pattern) {
    return document(kModel, R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":")" + pattern +
                                R"("},"behavior":"Isolated","invert":false})");
  };
  const std::vector<Case> cases = {
      {"no model", "{}", {"model", "missing"}},
      {"not an object", "[1]", {"must be an object"}},
      {"model type", document(R"({"type":"Unigram","vocab":[],"merges":[]})"), {"Unigram", "BPE"}},
      {"no vocab", document(R"({"type":"BPE","merges":[]})"), {"model.vocab", "missing"}},
      {"vocab is an array",
       document(R"({"type":"BPE","vocab":[],"merges":[]})"),
       {"model.vocab", "object"}},
      {"no merges", document(R"({"type":"BPE","vocab":{"a":0}})"), {"model.merges"}},
      {"negative id", document(R"({"vocab":{"a":-1},"merges":[]})"), {"'a'", "-1"}},
      {"huge id", document(R"({"vocab":{"a":2147483648},"merges":[]})"), {"'a'", "2147483648"}},
      {"id above int64",
       document(R"({"vocab":{"a":18446744073709551615},"merges":[]})"),
       {"18446744073709551615"}},
      {"id is a string", document(R"({"vocab":{"a":"0"},"merges":[]})"), {"'a'", "integer"}},
      {"id is a fraction", document(R"({"vocab":{"a":0.5},"merges":[]})"), {"integer"}},
      {"equal ids", document(R"({"vocab":{"a":0,"b":0},"merges":[]})"), {"'a'", "'b'", "unique"}},
      {"equal keys", R"({"model":{"vocab":{"a":0,"a":1},"merges":[]}})", {"duplicate"}},
      {"merge of an unknown token",
       document(R"({"vocab":{"a":0},"merges":["a z"]})"),
       {"merges[0]", "'z'"}},
      {"merge to an unknown token",
       document(R"({"vocab":{"a":0,"b":1},"merges":["a b"]})"),
       {"merges[0]", "'ab'"}},
      {"merge of three", document(R"({"vocab":{"a":0},"merges":["a a a"]})"), {"merges[0]"}},
      {"merge is a number", document(R"({"vocab":{"a":0},"merges":[3]})"), {"merges[0]"}},
      {"merge pair of one", document(R"({"vocab":{"a":0},"merges":[["a"]]})"), {"merges[0]"}},
      {"unknown unk",
       document(R"({"vocab":{"a":0},"merges":[],"unk_token":"u"})"),
       {"unk_token", "\"u\""}},
      {"dropout", document(R"({"vocab":{"a":0},"merges":[],"dropout":0.1})"), {"dropout"}},
      {"flag is a number",
       document(R"({"vocab":{"a":0},"merges":[],"fuse_unk":1})"),
       {"fuse_unk", "true or false"}},
      {"normalizer type",
       document(kModel, R"("normalizer":{"type":"Precompiled"})"),
       {"normalizer", "Precompiled", "NFC"}},
      {"pre-tokenizer type",
       document(kModel, R"("pre_tokenizer":{"type":"Rot13"})"),
       {"pre_tokenizer", "Rot13", "ByteLevel"}},
      {"nested type",
       document(kModel, R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"X"}]})"),
       {"pretokenizers[0]", "'X'"}},
      {"decoder type", document(kModel, R"("decoder":{"type":"CTC"})"), {"decoder", "CTC", "Fuse"}},
      {"post-processor type",
       document(kModel, R"("post_processor":{"type":"X"})"),
       {"post_processor", "'X'"}},
      {"template id",
       document(
           kModel,
           R"("post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"s"}},{"Sequence":{"id":"A"}}],"special_tokens":{"s":{"ids":[9]}}})"),
       {"ids", "9", "0 to 2"}},
      {"template without text",
       document(
           kModel,
           R"("post_processor":{"type":"TemplateProcessing","single":[],"special_tokens":{}})"),
       {"single"}},
      {"behavior",
       document(kModel, R"("pre_tokenizer":{"type":"Punctuation","behavior":"Odd"})"),
       {"behavior", "Odd", "Isolated"}},
      {"two characters",
       document(kModel, R"("decoder":{"type":"Strip","content":"xy","start":1,"stop":0})"),
       {"content", "one character"}},
      {"negative strip",
       document(kModel, R"("decoder":{"type":"Strip","content":"x","start":-1,"stop":0})"),
       {"start", "-1"}},
      {"added id taken",
       document(kModel, R"("added_tokens":[{"id":1,"content":"<s>"}])"),
       {"added_tokens[0].id", "'b'"}},
      {"added id twice",
       document(kModel, R"("added_tokens":[{"id":5,"content":"x"},{"id":5,"content":"y"}])"),
       {"'x'", "unique"}},
      {"added id negative",
       document(kModel, R"("added_tokens":[{"id":-5,"content":"x"}])"),
       {"added_tokens[0].id"}},
      {"added too long",
       document(kModel,
                R"("added_tokens":[{"id":5,"content":")" + std::string(5000, 'x') + R"("}])"),
       {"added_tokens[0].content"}},
      {"broken pattern", split("(a"), {"pattern", "(a"}},
      {"verb", split("(*LIMIT_MATCH=9)a"), {"verb"}},
      {"class in class", split("[a[b]]"), {"class inside a class"}},
      {"intersection", split("[a&&b]"), {"intersection"}},
      {"recursion", split("(?<x>a\\\\g<x>)"), {"pattern"}},
      {"unknown property", split("\\\\p{Klingon}"), {"Klingon"}},
      {"deep groups", split(std::string(2000, '(') + std::string(2000, ')')), {"pattern"}},
  };
  for (const Case& c : cases) {
    const std::string message = error_of(c.json);
    EXPECT_FALSE(message.empty()) << c.name;
    EXPECT_NE(message.find("t.json"), std::string::npos) << c.name << ": " << message;
    for (const std::string& needle : c.needles) {
      EXPECT_NE(message.find(needle), std::string::npos) << c.name << ": " << message;
    }
  }
  EXPECT_EQ(error_of(document(kModel), "abba"), "");
}

TEST(Hostile, DeepNesting) {
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += R"({"type":"Sequence","normalizers":[)";
  EXPECT_NE(error_of(R"({"normalizer":)" + deep), "");
  boost::json::value value = {{"type", "NFC"}};
  for (int i = 0; i < 1000; ++i) {
    value = boost::json::object{{"type", "Sequence"},
                                {"normalizers", boost::json::array{std::move(value)}}};
  }
  boost::json::object whole{{"normalizer", std::move(value)}};
  EXPECT_THROW((void)Tokenizer::from_json(whole, "t.json"), Error);
}

TEST(Hostile, AnExponentialPatternEndsInAnError) {
  for (const std::string pattern : {"(a+)+$", "(a|aa)+$"}) {
    const std::string file =
        document(kModel, R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":")" + pattern +
                             R"("},"behavior":"Isolated","invert":false})");
    const auto start = std::chrono::steady_clock::now();
    const std::string message = error_of(file, std::string(5000, 'a') + "!");
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    EXPECT_NE(message.find("gave up"), std::string::npos) << pattern << ": " << message;
    EXPECT_NE(message.find(pattern), std::string::npos) << message;
    EXPECT_LT(seconds, 20.0) << pattern;
  }
}

TEST(Hostile, MissingFiles) {
  const std::string empty = ::testing::TempDir() + "/no_tokenizer_here";
  std::filesystem::create_directories(empty);
  const std::pair<std::string, std::string> cases[] = {
      {"/nonexistent/model", "no such model directory"}, {empty, "has no tokenizer.json"}};
  for (const auto& [directory, reason] : cases) {
    try {
      (void)Tokenizer::from_directory(directory);
      FAIL() << directory;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInput);
      EXPECT_NE(std::string(error.what()).find(directory), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(reason), std::string::npos) << error.what();
    }
  }
}

TEST(Hostile, InvalidTextAndIds) {
  const auto tokenizer = Tokenizer::from_json(
      parse_json(R"({"model":{"vocab":{"a":0,"�":1},"merges":[]},"decoder":{"type":"Fuse"}})",
                 "t.json"),
      "t.json");
  EXPECT_EQ(tokenizer->encode("a\xFF\xE4\xBD", false), (std::vector<int32_t>{0, 1, 1}));
  const std::vector<int32_t> ids = {0, -1, 7, 2147483647, -2147483647 - 1, 0};
  EXPECT_EQ(tokenizer->decode(ids, false), "aa");
  EXPECT_EQ(tokenizer->id_to_token(-1), std::nullopt);
  EXPECT_EQ(tokenizer->id_to_token(5), std::nullopt);
  EXPECT_FALSE(tokenizer->is_special(-1));
}

}  // namespace
}  // namespace pluq
