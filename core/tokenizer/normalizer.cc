// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/normalizer.h"

#include <utility>
#include <vector>

#include "base/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/json_node.h"
#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

namespace pluq {
namespace {

constexpr std::string_view kSupported =
    "Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, ByteLevel";

class SequenceNormalizer : public Normalizer {
 public:
  explicit SequenceNormalizer(const JsonNode& node) {
    for (const JsonNode& part : node.children("normalizers"))
      parts_.push_back(Normalizer::from_json(part));
  }
  void apply(NormalText& text) const override {
    for (const auto& part : parts_) part->apply(text);
  }

 private:
  std::vector<std::unique_ptr<const Normalizer>> parts_;
};

class PrependNormalizer : public Normalizer {
 public:
  explicit PrependNormalizer(const JsonNode& node) : prefix_(node.string("prepend")) {}
  void apply(NormalText& text) const override {
    if (!text.text.empty()) text.text.insert(0, prefix_);
  }

 private:
  std::string prefix_;
};

class ReplaceNormalizer : public Normalizer {
 public:
  explicit ReplaceNormalizer(const JsonNode& node)
      : pattern_(Regex::from_json(node, "pattern")), content_(node.string("content")) {
    if (content_.size() > 256) node.wrong("content", "a string of at most 256 bytes");
  }
  void apply(NormalText& text) const override {
    std::string out = pattern_.replace_all(text.text, content_);
    if (content_.empty() && out.size() != text.text.size() &&
        (out.empty() || out[0] != text.text[0])) {
      text.at_origin = false;
    }
    text.text = std::move(out);
  }

 private:
  Regex pattern_;
  std::string content_;
};

class FormNormalizer : public Normalizer {
 public:
  explicit FormNormalizer(NormalForm form) : form_(form) {}
  void apply(NormalText& text) const override { text.text = normalize(text.text, form_); }

 private:
  NormalForm form_;
};

class LowercaseNormalizer : public Normalizer {
 public:
  void apply(NormalText& text) const override { text.text = to_lower(text.text); }
};

class ByteLevelNormalizer : public Normalizer {
 public:
  void apply(NormalText& text) const override {
    std::string out;
    out.reserve(text.text.size() * 2);
    append_as_alphabet(text.text, out);
    text.text = std::move(out);
  }
};

class StripNormalizer : public Normalizer {
 public:
  explicit StripNormalizer(const JsonNode& node)
      : left_(node.boolean("strip_left")), right_(node.boolean("strip_right")) {}
  void apply(NormalText& text) const override {
    size_t begin = 0;
    size_t end = text.text.size();
    while (left_ && begin < end) {
      size_t pos = begin;
      if (!is_space(next_char(text.text, pos))) break;
      begin = pos;
    }
    while (right_ && end > begin) {
      size_t pos = end;
      if (!is_space(previous_char(text.text, pos))) break;
      end = pos;
    }
    if (begin > 0) text.at_origin = false;
    text.text = text.text.substr(begin, end - begin);
  }

 private:
  bool left_;
  bool right_;
};

class StripAccentsNormalizer : public Normalizer {
 public:
  void apply(NormalText& text) const override {
    std::string out;
    out.reserve(text.text.size());
    for (size_t pos = 0; pos < text.text.size();) {
      const size_t start = pos;
      const char32_t c = next_char(text.text, pos);
      if (is_mark(c)) {
        if (start == 0) text.at_origin = false;
      } else {
        append_utf8(out, c);
      }
    }
    text.text = std::move(out);
  }
};

}  // namespace

std::unique_ptr<const Normalizer> Normalizer::from_json(const JsonNode& node) {
  const std::string type = node.string("type");
  if (type == "Sequence") return std::make_unique<SequenceNormalizer>(node);
  if (type == "Prepend") return std::make_unique<PrependNormalizer>(node);
  if (type == "Replace") return std::make_unique<ReplaceNormalizer>(node);
  if (type == "NFC") return std::make_unique<FormNormalizer>(NormalForm::kNfc);
  if (type == "NFD") return std::make_unique<FormNormalizer>(NormalForm::kNfd);
  if (type == "NFKC") return std::make_unique<FormNormalizer>(NormalForm::kNfkc);
  if (type == "NFKD") return std::make_unique<FormNormalizer>(NormalForm::kNfkd);
  if (type == "Lowercase") return std::make_unique<LowercaseNormalizer>();
  if (type == "Strip") return std::make_unique<StripNormalizer>(node);
  if (type == "StripAccents") return std::make_unique<StripAccentsNormalizer>();
  if (type == "ByteLevel") return std::make_unique<ByteLevelNormalizer>();
  node.unsupported("normalizer", type, kSupported);
}

}  // namespace pluq
