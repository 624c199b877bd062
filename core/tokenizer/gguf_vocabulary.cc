// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/gguf_vocabulary.h"

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "tokenizer/unicode.h"

namespace pluq {
namespace {

namespace json = boost::json;

enum class TokenType {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

// Names of `pre` by the way they cut words. Names in one group share the pattern in the tools that
// write them.
enum class WordCut { kGpt2, kLlama3, kQwen2, kDigits, kDefault };
constexpr std::array<std::pair<std::string_view, WordCut>, 24> kCuts = {{
    {"gpt-2", WordCut::kGpt2},
    {"gpt2", WordCut::kGpt2},
    {"phi-2", WordCut::kGpt2},
    {"mpt", WordCut::kGpt2},
    {"olmo", WordCut::kGpt2},
    {"jina-es", WordCut::kGpt2},
    {"jina-de", WordCut::kGpt2},
    {"llama-bpe", WordCut::kLlama3},
    {"llama3", WordCut::kLlama3},
    {"llama-v3", WordCut::kLlama3},
    {"falcon3", WordCut::kLlama3},
    {"dbrx", WordCut::kLlama3},
    {"smaug-bpe", WordCut::kLlama3},
    {"qwen2", WordCut::kQwen2},
    {"deepseek-r1-qwen", WordCut::kQwen2},
    {"stablelm2", WordCut::kQwen2},
    {"megrez", WordCut::kQwen2},
    {"smollm", WordCut::kDigits},
    {"starcoder", WordCut::kDigits},
    {"refact", WordCut::kDigits},
    {"command-r", WordCut::kDigits},
    {"codeshell", WordCut::kDigits},
    {"default", WordCut::kDefault},
    {"", WordCut::kDefault},
}};
constexpr std::string_view kSupported =
    "the model 'gpt2' with pre 'gpt-2', 'llama-bpe', 'qwen2', 'smollm' or 'default' (or a name "
    "that means the same), "
    "and the model 'llama'";

constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// The cuts of files written before `pre` existed, applied one after the other.
constexpr std::array<std::string_view, 4> kDefaultPatterns = {
    R"([\p{P}\$\+<=>\^~\|]+)",
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S))", R"(\p{N}+)",
    "[0-9][0-9][0-9]"};
constexpr std::string_view kMark = "\xE2\x96\x81";  // U+2581, the space of SentencePiece

json::object split_by(std::string_view pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

json::object byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

class Converter {
 public:
  Converter(const GgufVocabulary& vocabulary, std::string_view where)
      : v_(vocabulary), where_(where) {}

  json::value run() {
    if (v_.model != "gpt2" && v_.model != "llama") {
      fail_input("{}: tokenizer.ggml.model is '{}', which is not supported; supported are {}",
                 where_, printable(v_.model), kSupported);
    }
    check();
    json::object out{{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
    out["added_tokens"] = added_tokens();
    if (v_.model == "gpt2") {
      byte_level_parts(out);
    } else {
      sentencepiece_parts(out);
    }
    return out;
  }

 private:
  TokenType type(size_t id) const {
    return v_.token_types.empty() ? TokenType::kNormal : static_cast<TokenType>(v_.token_types[id]);
  }

  void check() const {
    const size_t count = v_.tokens.size();
    if (count == 0) fail_input("{}: tokenizer.ggml.tokens is missing or empty", where_);
    if (count > (size_t{1} << 24))
      fail_input("{}: tokenizer.ggml.tokens has {} entries, at most {} are accepted", where_, count,
                 1 << 24);
    if (!v_.token_types.empty() && v_.token_types.size() != count) {
      fail_input("{}: tokenizer.ggml.token_type has {} entries, tokenizer.ggml.tokens has {}",
                 where_, v_.token_types.size(), count);
    }
    for (size_t id = 0; id < v_.token_types.size(); ++id) {
      if (v_.token_types[id] < 1 || v_.token_types[id] > 6) {
        fail_input("{}: tokenizer.ggml.token_type[{}] is {}, it must be from 1 to 6", where_, id,
                   v_.token_types[id]);
      }
    }
    if (v_.model == "llama" && v_.scores.size() != count) {
      fail_input(
          "{}: tokenizer.ggml.scores has {} entries, the model 'llama' needs {}, one per token",
          where_, v_.scores.size(), count);
    }
    const std::pair<const char*, std::optional<int32_t>> ids[] = {
        {"bos", v_.bos}, {"eos", v_.eos}, {"unknown", v_.unk}, {"padding", v_.pad}};
    for (const auto& [name, id] : ids) {
      if (id && (*id < 0 || static_cast<size_t>(*id) >= count)) {
        fail_input("{}: tokenizer.ggml.{}_token_id is {}, it must be from 0 to {}", where_, name,
                   *id, count - 1);
      }
    }
  }

  // Tokens the file marks as matched before anything else. The first of equal contents counts.
  json::array added_tokens() const {
    json::array out;
    std::unordered_map<std::string_view, size_t> seen;
    for (size_t id = 0; id < v_.tokens.size(); ++id) {
      const TokenType kind = type(id);
      const bool special = kind == TokenType::kControl || kind == TokenType::kUnknown;
      if ((!special && kind != TokenType::kUserDefined) || v_.tokens[id].empty()) continue;
      if (!is_valid_utf8(v_.tokens[id]) || !seen.emplace(v_.tokens[id], id).second) continue;
      out.push_back({{"id", static_cast<int64_t>(id)},
                     {"content", v_.tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", special}});
    }
    return out;
  }

  json::object vocabulary() const {
    json::object out;
    out.reserve(v_.tokens.size());
    for (size_t id = 0; id < v_.tokens.size(); ++id) {
      std::string token = sanitize_utf8(v_.tokens[id]);
      // Padding entries may repeat; a name that no text produces keeps the ids in place.
      if (out.contains(token)) token = fmt::format("<duplicate {} of {}>", id, token);
      if (out.contains(token))
        fail_input("{}: tokenizer.ggml.tokens[{}] repeats a token", where_, id);
      out.emplace(token, static_cast<int64_t>(id));
    }
    return out;
  }

  json::value post_processor(bool bos_by_default) const {
    const bool bos = v_.bos && v_.add_bos.value_or(bos_by_default);
    const bool eos = v_.eos && v_.add_eos.value_or(false);
    if (!bos && !eos) return nullptr;
    json::array single;
    json::array pair;
    json::object special;
    const auto put = [&](int32_t id, int type_id) {
      const std::string name = sanitize_utf8(v_.tokens[static_cast<size_t>(id)]);
      special[name] = {{"id", name}, {"ids", json::array{id}}, {"tokens", json::array{name}}};
      return json::object{{"SpecialToken", {{"id", name}, {"type_id", type_id}}}};
    };
    const auto text = [](std::string_view name, int type_id) {
      return json::object{{"Sequence", {{"id", name}, {"type_id", type_id}}}};
    };
    if (bos) single.push_back(put(*v_.bos, 0));
    single.push_back(text("A", 0));
    if (eos) single.push_back(put(*v_.eos, 0));
    pair = single;
    if (bos) pair.push_back(put(*v_.bos, 1));
    pair.push_back(text("B", 1));
    if (eos) pair.push_back(put(*v_.eos, 1));
    return json::object{{"type", "TemplateProcessing"},
                        {"single", single},
                        {"pair", pair},
                        {"special_tokens", special}};
  }

  void byte_level_parts(json::object& out) const {
    const auto cut =
        std::find_if(kCuts.begin(), kCuts.end(), [&](const auto& c) { return c.first == v_.pre; });
    if (cut == kCuts.end()) {
      fail_input("{}: tokenizer.ggml.pre is '{}', which is not supported; supported are {}", where_,
                 printable(v_.pre), kSupported);
    }
    if (v_.merges.empty())
      fail_input("{}: tokenizer.ggml.merges is missing or empty, the model 'gpt2' needs it",
                 where_);
    const bool llama3 =
        v_.pre == "llama-bpe" || v_.pre == "llama3" || v_.pre == "llama-v3" || v_.pre == "falcon3";
    out["normalizer"] =
        cut->second == WordCut::kQwen2 ? json::value{{"type", "NFC"}} : json::value(nullptr);
    json::array steps;
    switch (cut->second) {
      case WordCut::kGpt2:
        break;
      case WordCut::kLlama3:
        steps.push_back(split_by(kLlama3Pattern));
        break;
      case WordCut::kQwen2:
        steps.push_back(split_by(kQwen2Pattern));
        break;
      case WordCut::kDigits:
        steps.push_back(json::object{{"type", "Digits"}, {"individual_digits", true}});
        break;
      case WordCut::kDefault:
        for (const std::string_view pattern : kDefaultPatterns) steps.push_back(split_by(pattern));
        break;
    }
    steps.push_back(byte_level(cut->second == WordCut::kGpt2 || cut->second == WordCut::kDigits));
    out["pre_tokenizer"] = json::object{{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
    out["post_processor"] = post_processor(llama3);
    out["decoder"] = byte_level(true);
    json::array merges;
    merges.reserve(v_.merges.size());
    for (const std::string& merge : v_.merges) {
      const size_t space =
          merge.find(' ', 1);  // a token may itself begin with a space, never hold one later
      if (space == std::string::npos) {
        fail_input(
            "{}: tokenizer.ggml.merges has the entry '{}', it must be two tokens with a space "
            "between",
            where_, printable(merge));
      }
      merges.push_back(json::array{sanitize_utf8(merge.substr(0, space)),
                                   sanitize_utf8(merge.substr(space + 1))});
    }
    out["model"] = json::object{{"type", "BPE"},
                                {"dropout", nullptr},
                                {"unk_token", nullptr},
                                {"continuing_subword_prefix", nullptr},
                                {"end_of_word_suffix", nullptr},
                                {"fuse_unk", false},
                                {"byte_fallback", false},
                                {"ignore_merges", llama3},
                                {"vocab", vocabulary()},
                                {"merges", std::move(merges)}};
  }

  // SentencePiece merges the pair whose joined token has the best score: every way to cut a normal
  // token in two known ones is a merge, ordered by that score.
  json::array merges_by_score() const {
    std::unordered_map<std::string_view, size_t> ids;
    ids.reserve(v_.tokens.size());
    for (size_t id = 0; id < v_.tokens.size(); ++id) {
      if (type(id) == TokenType::kNormal || type(id) == TokenType::kUnused)
        ids.emplace(v_.tokens[id], id);
    }
    struct Merge {
      float score;
      size_t left, right, joined;
    };
    std::vector<Merge> merges;
    constexpr size_t kMaxToken = 1024;  // bytes; the cuts of one token cost its length squared
    for (size_t id = 0; id < v_.tokens.size(); ++id) {
      const std::string_view token = v_.tokens[id];
      if (type(id) != TokenType::kNormal || token.size() > kMaxToken || !is_valid_utf8(token))
        continue;
      for (size_t cut = 1; cut < token.size(); ++cut) {
        if ((static_cast<unsigned char>(token[cut]) & 0xC0) == 0x80)
          continue;  // inside a character
        const auto left = ids.find(token.substr(0, cut));
        const auto right = ids.find(token.substr(cut));
        if (left != ids.end() && right != ids.end())
          merges.push_back({v_.scores[id], left->second, right->second, id});
      }
    }
    // Not a number sorts last, so that the order is total.
    const auto key = [](float score) {
      return score == score ? score : -std::numeric_limits<float>::infinity();
    };
    std::sort(merges.begin(), merges.end(), [&](const Merge& a, const Merge& b) {
      const float x = key(a.score);
      const float y = key(b.score);
      if (x != y) return x > y;
      if (a.joined != b.joined) return a.joined < b.joined;
      return std::pair(a.left, a.right) < std::pair(b.left, b.right);
    });
    json::array out;
    out.reserve(merges.size());
    for (const Merge& m : merges) out.push_back(json::array{v_.tokens[m.left], v_.tokens[m.right]});
    return out;
  }

  void sentencepiece_parts(json::object& out) const {
    const bool prefix = v_.add_space_prefix.value_or(true);
    json::array steps;
    if (prefix) steps.push_back(json::object{{"type", "Prepend"}, {"prepend", kMark}});
    steps.push_back(
        json::object{{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kMark}});
    out["normalizer"] = json::object{{"type", "Sequence"}, {"normalizers", std::move(steps)}};
    out["pre_tokenizer"] = nullptr;
    out["post_processor"] = post_processor(true);
    json::array decoders{
        json::object{{"type", "Replace"}, {"pattern", {{"String", kMark}}}, {"content", " "}},
        json::object{{"type", "ByteFallback"}},
        json::object{{"type", "Fuse"}},
    };
    if (prefix) {
      decoders.push_back(
          json::object{{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
    }
    out["decoder"] = json::object{{"type", "Sequence"}, {"decoders", std::move(decoders)}};
    json::value unk = nullptr;
    std::optional<int32_t> unk_id = v_.unk;
    for (size_t id = 0; !unk_id && id < v_.tokens.size(); ++id) {
      if (type(id) == TokenType::kUnknown) unk_id = static_cast<int32_t>(id);
    }
    if (unk_id) unk = sanitize_utf8(v_.tokens[static_cast<size_t>(*unk_id)]);
    out["model"] = json::object{{"type", "BPE"},
                                {"dropout", nullptr},
                                {"unk_token", unk},
                                {"continuing_subword_prefix", nullptr},
                                {"end_of_word_suffix", nullptr},
                                {"fuse_unk", true},
                                {"byte_fallback", true},
                                {"ignore_merges", false},
                                {"vocab", vocabulary()},
                                {"merges", merges_by_score()}};
  }

  const GgufVocabulary& v_;
  std::string_view where_;
};

}  // namespace

json::value tokenizer_json_from_gguf(const GgufVocabulary& vocabulary, std::string_view where) {
  return Converter(vocabulary, where).run();
}

}  // namespace pluq
