// SPDX-License-Identifier: Apache-2.0
// GGUF vocabularies: made from a known tokenizer.json, they tokenize as it does.
#include "tokenizer/gguf_vocabulary.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "tokenizer/tokenizer.h"

#include "test_data.h"

namespace pluq {
namespace {

std::string text_of(const boost::json::value& value) {
  return boost::json::value_to<std::string>(value);
}

// What a converter writes for this tokenizer.json.
GgufVocabulary vocabulary_of(const boost::json::value& document, const std::string& model,
                             const std::string& pre) {
  GgufVocabulary out;
  out.model = model;
  out.pre = pre;
  const auto& vocab = document.at("model").at("vocab").as_object();
  out.tokens.resize(vocab.size());
  out.scores.assign(vocab.size(), -1e9f);
  out.token_types.assign(vocab.size(), 1);
  for (const auto& entry : vocab)
    out.tokens[static_cast<size_t>(entry.value().as_int64())] = entry.key();
  float rank = 0;
  for (const auto& merge : document.at("model").at("merges").as_array()) {
    const std::string joined = text_of(merge.at(0)) + text_of(merge.at(1));
    out.merges.push_back(text_of(merge.at(0)) + " " + text_of(merge.at(1)));
    float& score = out.scores[static_cast<size_t>(vocab.at(joined).as_int64())];
    if (score == -1e9f) score = -rank;
    ++rank;
  }
  for (size_t id = 0; id < out.tokens.size(); ++id) {
    if (out.tokens[id].size() == 6 && out.tokens[id].starts_with("<0x")) out.token_types[id] = 6;
  }
  for (const auto& token : document.at("added_tokens").as_array()) {
    const auto id = static_cast<size_t>(token.at("id").as_int64());
    out.token_types[id] = text_of(token.at("content")) == "<unk>" ? 2 : 3;
    if (out.token_types[id] == 2) out.unk = static_cast<int32_t>(id);
  }
  return out;
}

void expect_same(const std::string& fixture, const std::string& model, const std::string& pre,
                 int bos) {
  const std::string root = test::fixtures_path();
  if (root.empty()) GTEST_SKIP() << "the shared fixtures are not here; set PLUQ_FIXTURES";
  const auto document = parse_json_file(root + "/" + fixture + "/tokenizer.json");
  GgufVocabulary vocabulary = vocabulary_of(document, model, pre);
  if (bos >= 0) vocabulary.bos = bos;
  const auto want = Tokenizer::from_json(document, fixture);
  const auto got = Tokenizer::from_json(tokenizer_json_from_gguf(vocabulary, "x.gguf"), "x.gguf");
  const std::string sample =
      read_file(root + "/sample.txt", size_t{1} << 24) + want->id_to_token(1).value() + " after";
  const auto ids = want->encode(sample, true);
  EXPECT_EQ(got->encode(sample, true), ids);
  EXPECT_EQ(got->decode(ids, false), want->decode(ids, false));
  EXPECT_EQ(got->decode(ids, true), want->decode(ids, true));
}

TEST(GgufVocabulary, Gpt2) { expect_same("bytelevel-gpt2", "gpt2", "gpt-2", -1); }
TEST(GgufVocabulary, Llama3) { expect_same("bytelevel-llama3", "gpt2", "llama-bpe", 0); }
TEST(GgufVocabulary, Qwen2) { expect_same("bytelevel-qwen2", "gpt2", "qwen2", -1); }
TEST(GgufVocabulary, Digits) { expect_same("bytelevel-digits", "gpt2", "smollm", -1); }
TEST(GgufVocabulary, SentencePiece) { expect_same("spm-llama2-legacy", "llama", "", 1); }

GgufVocabulary small() {
  GgufVocabulary v;
  v.model = "llama";
  v.tokens = {"<unk>",
              "<s>",
              "</s>",
              "\xE2\x96\x81",
              "a",
              "b",
              "ab",
              "\xE2\x96\x81"
              "ab"};
  v.token_types = {2, 3, 3, 1, 1, 1, 1, 1};
  v.scores = {0, 0, 0, -4, -5, -6, -1, -2};
  v.bos = 1;
  v.eos = 2;
  return v;
}

TEST(GgufVocabulary, SpecialTokensAndPrefix) {
  GgufVocabulary v = small();
  auto tokenizer = Tokenizer::from_json(tokenizer_json_from_gguf(v, "x.gguf"), "x.gguf");
  EXPECT_EQ(tokenizer->encode("ab", true), (std::vector<int32_t>{1, 7}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("ab ab", true), true), "ab ab");
  EXPECT_TRUE(tokenizer->is_special(1));
  v.add_eos = true;
  v.add_bos = false;
  v.add_space_prefix = false;
  tokenizer = Tokenizer::from_json(tokenizer_json_from_gguf(v, "x.gguf"), "x.gguf");
  EXPECT_EQ(tokenizer->encode("ab</s>", true), (std::vector<int32_t>{6, 2, 2}));
}

TEST(GgufVocabulary, DefaultPreCutsNumbersAndPunctuation) {
  GgufVocabulary v;
  v.model = "gpt2";
  v.tokens = {"1", "2", "12", "121", "!", "!!", "a", "!a", "1!"};
  v.merges = {"1 2", "12 1", "! !", "! a", "1 !"};
  const auto tokenizer = Tokenizer::from_json(tokenizer_json_from_gguf(v, "x.gguf"), "x.gguf");
  EXPECT_EQ(tokenizer->encode("12112!!a", false), (std::vector<int32_t>{3, 2, 5, 6}));
}

TEST(GgufVocabulary, ErrorsNameTheKey) {
  const auto message = [](GgufVocabulary v) -> std::string {
    try {
      (void)Tokenizer::from_json(tokenizer_json_from_gguf(v, "x.gguf"), "x.gguf");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInput);
      return error.what();
    }
    return "no error";
  };
  const auto has = [&](const GgufVocabulary& v, const std::string& needle) {
    const std::string text = message(v);
    EXPECT_NE(text.find(needle), std::string::npos) << text;
    EXPECT_EQ(text.rfind("x.gguf", 0), 0u) << text;
  };
  GgufVocabulary v = small();
  v.model = "bert";
  has(v, "'bert'");
  has(v, "smollm");
  v.model = "gpt2";
  v.pre = "tekken";
  has(v, "'tekken'");
  v.pre = "gpt-2";
  has(v, "tokenizer.ggml.merges");
  v = small();
  v.tokens.clear();
  has(v, "tokenizer.ggml.tokens");
  v = small();
  v.scores.pop_back();
  has(v, "tokenizer.ggml.scores");
  v = small();
  v.token_types[3] = 77;
  has(v, "tokenizer.ggml.token_type[3]");
  v = small();
  v.token_types.pop_back();
  has(v, "tokenizer.ggml.token_type");
  v = small();
  v.bos = 100;
  has(v, "tokenizer.ggml.bos_token_id");
}

}  // namespace
}  // namespace pluq
