// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/pre_tokenizer.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/json_node.h"
#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

namespace pluq {
namespace {

constexpr std::string_view kSupported =
    "Sequence, ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, Metaspace";
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// What happens to the parts a pattern matched (the delimiters).
enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

Behavior behavior_from_json(const JsonNode& node, std::string_view key, std::string_view fallback) {
  const std::string name = node.string_or(key, fallback);
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return Behavior::kMergedWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  node.wrong(key, "one of Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

// Appends the words that `parts`, which cover one old word starting at `base`, become.
void join_parts(const std::vector<RegexPart>& parts, Behavior behavior, size_t base,
                std::vector<WordRange>& out) {
  const size_t first = out.size();
  const auto add = [&](size_t begin, size_t end) { out.push_back({base + begin, base + end}); };
  bool previous = false;
  switch (behavior) {
    case Behavior::kRemoved:
      for (const RegexPart& p : parts) {
        if (!p.is_match) add(p.begin, p.end);
      }
      break;
    case Behavior::kIsolated:
      for (const RegexPart& p : parts) add(p.begin, p.end);
      break;
    case Behavior::kContiguous:
      for (const RegexPart& p : parts) {
        if (p.is_match == previous && out.size() > first) {
          out.back().end = base + p.end;
        } else {
          add(p.begin, p.end);
        }
        previous = p.is_match;
      }
      break;
    case Behavior::kMergedWithPrevious:
      for (const RegexPart& p : parts) {
        if (p.is_match && !previous && out.size() > first) {
          out.back().end = base + p.end;
        } else {
          add(p.begin, p.end);
        }
        previous = p.is_match;
      }
      break;
    case Behavior::kMergedWithNext:
      for (auto p = parts.rbegin(); p != parts.rend(); ++p) {
        if (p->is_match && !previous && out.size() > first) {
          out.back().begin = base + p->begin;
        } else {
          add(p->begin, p->end);
        }
        previous = p->is_match;
      }
      std::reverse(out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
      break;
  }
  std::erase_if(out, [](const WordRange& r) { return r.begin == r.end; });
}

// Cuts every word by `parts_of(word)`.
template <class PartsOf>
void split_words(Words& words, Behavior behavior, const PartsOf& parts_of) {
  std::vector<WordRange> out;
  std::vector<WordRange> one;
  for (const WordRange& range : words.ranges) {
    one.clear();
    join_parts(parts_of(words.word(range)), behavior, range.begin, one);
    out.insert(out.end(), one.begin(), one.end());
  }
  words.ranges = std::move(out);
}

// Parts by a property of single characters: each character with it is a match of its own.
template <class Predicate>
std::vector<RegexPart> char_parts(std::string_view text, const Predicate& is_match) {
  std::vector<RegexPart> parts;
  size_t done = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    if (!is_match(next_char(text, pos))) continue;
    if (begin > done) parts.push_back({done, begin, false});
    parts.push_back({begin, pos, true});
    done = pos;
  }
  if (done < text.size()) parts.push_back({done, text.size(), false});
  return parts;
}

// Replaces the text of every word; write(word, is_first, out) appends the new text.
template <class Write>
void rewrite_words(Words& words, const Write& write) {
  Words out;
  out.at_origin = words.at_origin && !words.ranges.empty() && words.ranges[0].begin == 0;
  out.text.reserve(words.text.size() * 2);
  out.ranges.reserve(words.ranges.size());
  for (const WordRange& range : words.ranges) {
    const size_t begin = out.text.size();
    write(words.word(range), out.at_origin && begin == 0, out.text);
    if (out.text.size() > begin) out.ranges.push_back({begin, out.text.size()});
  }
  words = std::move(out);
}

class SequencePreTokenizer : public PreTokenizer {
 public:
  explicit SequencePreTokenizer(const JsonNode& node) {
    for (const JsonNode& part : node.children("pretokenizers"))
      parts_.push_back(PreTokenizer::from_json(part));
  }
  void apply(Words& words) const override {
    for (const auto& part : parts_) part->apply(words);
  }

 private:
  std::vector<std::unique_ptr<const PreTokenizer>> parts_;
};

class SplitPreTokenizer : public PreTokenizer {
 public:
  explicit SplitPreTokenizer(const JsonNode& node)
      : pattern_(Regex::from_json(node, "pattern")),
        behavior_(behavior_from_json(node, "behavior", "")),
        invert_(node.boolean_or("invert", false)) {}
  void apply(Words& words) const override {
    split_words(words, behavior_, [this](std::string_view word) {
      std::vector<RegexPart> parts = pattern_.split(word);
      if (invert_) {
        for (RegexPart& part : parts) part.is_match = !part.is_match;
      }
      return parts;
    });
  }

 private:
  Regex pattern_;
  Behavior behavior_;
  bool invert_;
};

class ByteLevelPreTokenizer : public PreTokenizer {
 public:
  explicit ByteLevelPreTokenizer(const JsonNode& node)
      : add_prefix_space_(node.boolean("add_prefix_space")),
        use_regex_(node.boolean_or("use_regex", true)),
        pattern_(Regex::compile(kGpt2Pattern, "the ByteLevel pre-tokenizer")) {}
  void apply(Words& words) const override {
    if (add_prefix_space_) {
      rewrite_words(words, [](std::string_view word, bool, std::string& out) {
        if (!word.starts_with(' ')) out += ' ';
        out += word;
      });
    }
    if (use_regex_) {
      split_words(words, Behavior::kIsolated,
                  [this](std::string_view word) { return pattern_.split(word); });
    }
    rewrite_words(words, [](std::string_view word, bool, std::string& out) {
      append_as_alphabet(word, out);
    });
  }

 private:
  bool add_prefix_space_;
  bool use_regex_;
  Regex pattern_;
};

// Words by a predicate on characters: Digits, Punctuation, WhitespaceSplit.
class CharPreTokenizer : public PreTokenizer {
 public:
  CharPreTokenizer(bool (*predicate)(char32_t), Behavior behavior)
      : predicate_(predicate), behavior_(behavior) {}
  void apply(Words& words) const override {
    split_words(words, behavior_,
                [this](std::string_view word) { return char_parts(word, predicate_); });
  }

 private:
  bool (*predicate_)(char32_t);
  Behavior behavior_;
};

// Runs of word characters and runs of other visible ones: \w+|[^\w\s]+
class WhitespacePreTokenizer : public PreTokenizer {
 public:
  void apply(Words& words) const override {
    std::vector<WordRange> out;
    for (const WordRange& range : words.ranges) {
      const std::string_view word = words.word(range);
      int run = 0;  // 0 space, 1 word, 2 other
      size_t begin = 0;
      for (size_t pos = 0; pos < word.size();) {
        const size_t at = pos;
        const char32_t c = next_char(word, pos);
        const int kind = is_word(c) ? 1 : is_space(c) ? 0 : 2;
        if (kind == run) continue;
        if (run != 0) out.push_back({range.begin + begin, range.begin + at});
        run = kind;
        begin = at;
      }
      if (run != 0) out.push_back({range.begin + begin, range.end});
    }
    words.ranges = std::move(out);
  }
};

class MetaspacePreTokenizer : public PreTokenizer {
 public:
  explicit MetaspacePreTokenizer(const JsonNode& node) : split_(node.boolean_or("split", true)) {
    append_utf8(mark_, node.character("replacement"));
    const std::string scheme = node.string_or(
        "prepend_scheme", node.boolean_or("add_prefix_space", true) ? "always" : "never");
    if (scheme == "always") {
      scheme_ = Scheme::kAlways;
    } else if (scheme == "first") {
      scheme_ = Scheme::kFirst;
    } else if (scheme != "never") {
      node.wrong("prepend_scheme", "one of always, first, never");
    }
  }

  void apply(Words& words) const override {
    rewrite_words(words, [this](std::string_view word, bool is_first, std::string& out) {
      const bool prepend = scheme_ == Scheme::kAlways || (scheme_ == Scheme::kFirst && is_first);
      if (prepend && !word.starts_with(' ') && !word.starts_with(mark_)) out += mark_;
      for (const char c : word) {
        if (c == ' ') {
          out += mark_;
        } else {
          out += c;
        }
      }
    });
    if (!split_) return;
    split_words(words, Behavior::kMergedWithNext, [this](std::string_view word) {
      std::vector<RegexPart> parts;
      size_t done = 0;
      for (size_t at = word.find(mark_); at != std::string_view::npos;
           at = word.find(mark_, done)) {
        if (at > done) parts.push_back({done, at, false});
        done = at + mark_.size();
        parts.push_back({at, done, true});
      }
      if (done < word.size()) parts.push_back({done, word.size(), false});
      return parts;
    });
  }

 private:
  enum class Scheme { kAlways, kFirst, kNever };
  std::string mark_;
  Scheme scheme_ = Scheme::kNever;
  bool split_;
};

}  // namespace

std::unique_ptr<const PreTokenizer> PreTokenizer::from_json(const JsonNode& node) {
  const std::string type = node.string("type");
  if (type == "Sequence") return std::make_unique<SequencePreTokenizer>(node);
  if (type == "ByteLevel") return std::make_unique<ByteLevelPreTokenizer>(node);
  if (type == "Split") return std::make_unique<SplitPreTokenizer>(node);
  if (type == "Digits") {
    return std::make_unique<CharPreTokenizer>(
        is_numeric,
        node.boolean_or("individual_digits", false) ? Behavior::kIsolated : Behavior::kContiguous);
  }
  if (type == "Punctuation") {
    return std::make_unique<CharPreTokenizer>(is_punctuation,
                                              behavior_from_json(node, "behavior", "Isolated"));
  }
  if (type == "Whitespace") return std::make_unique<WhitespacePreTokenizer>();
  if (type == "WhitespaceSplit")
    return std::make_unique<CharPreTokenizer>(is_space, Behavior::kRemoved);
  if (type == "Metaspace") return std::make_unique<MetaspacePreTokenizer>(node);
  node.unsupported("pre-tokenizer", type, kSupported);
}

}  // namespace pluq
