// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/decoder.h"

#include <functional>
#include <optional>
#include <utility>

#include "base/error.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/json_node.h"
#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

namespace pluq {
namespace {

constexpr std::string_view kSupported =
    "Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace";

// A stage that needs whole tokens: collects the parts of each.
class TokenStage : public DecodeSink {
 public:
  explicit TokenStage(DecodeSink& next) : next_(next) {}
  void part(std::string_view text, bool begins, bool ends) final {
    if (begins && ends) return token(text);
    if (begins) whole_.clear();
    whole_ += text;
    if (ends) token(whole_);
  }
  void finish() override { next_.finish(); }

 protected:
  virtual void token(std::string_view text) = 0;
  DecodeSink& next_;

 private:
  std::string whole_;
};

// A stage that makes one token of all: hands text on at once and closes the token at the end.
class JoinStage : public DecodeSink {
 public:
  explicit JoinStage(DecodeSink& next) : next_(next) {}
  void part(std::string_view text, bool begins, bool) override { add(text, begins); }
  void finish() override {
    if (open_) next_.part("", false, true);
    next_.finish();
  }

 protected:
  virtual void add(std::string_view text, bool) { emit(text); }
  void emit(std::string_view text) {
    next_.part(text, !open_, false);
    open_ = true;
  }
  DecodeSink& next_;
  bool open_ = false;
};

// Tokens of the byte alphabet to UTF-8; what is no UTF-8 becomes U+FFFD.
class ByteLevelStage : public TokenStage {
 public:
  using TokenStage::TokenStage;
  void finish() override {
    std::string text;
    repair_.finish(text);
    if (open_ || !text.empty()) next_.part(text, !open_, true);
    next_.finish();
  }

 private:
  void token(std::string_view token_text) override {
    std::string bytes;
    append_as_bytes(token_text, bytes);
    std::string text;
    repair_.push(bytes, text);
    if (text.empty()) return;
    next_.part(text, !open_, false);
    open_ = true;
  }
  Utf8Repair repair_;
  bool open_ = false;
};

class SpacesStage : public JoinStage {
 public:
  using JoinStage::JoinStage;

 private:
  void add(std::string_view text, bool begins) override {
    if (begins && open_) emit(" ");
    emit(text);
  }
};

class ReplaceStage : public TokenStage {
 public:
  ReplaceStage(DecodeSink& next, const Regex& pattern, std::string_view content)
      : TokenStage(next), pattern_(pattern), content_(content) {}

 private:
  void token(std::string_view text) override {
    next_.part(pattern_.replace_all(text, content_), true, true);
  }
  const Regex& pattern_;
  std::string_view content_;
};

// Runs of "<0xXX>" tokens to text. A run that is not valid UTF-8 as a whole becomes one U+FFFD per
// byte, so a run is final only when it has ended.
class ByteFallbackStage : public TokenStage {
 public:
  using TokenStage::TokenStage;
  void finish() override {
    flush();
    next_.finish();
  }

 private:
  static std::optional<char> byte_of(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
    int value = 0;
    for (const char c : token.substr(3, 2)) {
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) return std::nullopt;
      value = value * 16 + digit;
    }
    return static_cast<char>(value);
  }
  void token(std::string_view text) override {
    if (const auto byte = byte_of(text)) {
      run_ += *byte;
      return;
    }
    flush();
    next_.part(text, true, true);
  }
  void flush() {
    if (run_.empty()) return;
    if (is_valid_utf8(run_)) {
      next_.part(run_, true, true);
    } else {
      for (size_t i = 0; i < run_.size(); ++i) next_.part("\xEF\xBF\xBD", true, true);
    }
    run_.clear();
  }
  std::string run_;
};

// Takes up to `start` copies of a character off the front of each token and up to `stop` off its
// end.
class StripStage : public DecodeSink {
 public:
  StripStage(DecodeSink& next, std::string_view content, size_t start, size_t stop)
      : next_(next), content_(content), start_(start), stop_(stop) {}

  void part(std::string_view text, bool begins, bool ends) override {
    if (begins) {
      to_strip_ = start_;
      held_ = 0;
      begun_ = false;
    }
    while (to_strip_ > 0 && text.starts_with(content_)) {
      text.remove_prefix(content_.size());
      --to_strip_;
    }
    if (!text.empty()) to_strip_ = 0;
    std::string out;
    size_t tail = 0;  // copies at the end of `text`, held back: they may be the token's last
    while (tail < stop_ && text.ends_with(content_)) {
      text.remove_suffix(content_.size());
      ++tail;
    }
    if (text.empty()) {  // nothing but copies: the oldest held ones can no longer be among the last
                         // `stop`
      held_ += tail;
      for (; held_ > stop_; --held_) out += content_;
    } else {
      for (; held_ > 0; --held_) out += content_;
      out += text;
      held_ = tail;
    }
    if (!out.empty() || ends) {
      next_.part(out, !begun_, ends);
      begun_ = true;
    }
  }
  void finish() override { next_.finish(); }

 private:
  DecodeSink& next_;
  std::string_view content_;
  size_t start_;
  size_t stop_;
  size_t to_strip_ = 0;
  size_t held_ = 0;
  bool begun_ = false;
};

class MetaspaceStage : public TokenStage {
 public:
  MetaspaceStage(DecodeSink& next, std::string_view mark, bool drop_first)
      : TokenStage(next), mark_(mark), drop_(drop_first) {}

 private:
  void token(std::string_view text) override {
    std::string out;
    size_t done = 0;
    for (size_t at = text.find(mark_); at != std::string_view::npos; at = text.find(mark_, done)) {
      out += text.substr(done, at - done);
      if (!drop_) out += ' ';
      done = at + mark_.size();
    }
    out += text.substr(done);
    drop_ = false;  // only the first token stands for the start of the text
    next_.part(out, true, true);
  }
  std::string_view mark_;
  bool drop_;
};

using StageMaker = std::function<std::unique_ptr<DecodeSink>(DecodeSink& next)>;

class SingleDecoder : public Decoder {
 public:
  explicit SingleDecoder(StageMaker make) : make_(std::move(make)) {}
  DecodeSink& start(DecodeSink& next,
                    std::vector<std::unique_ptr<DecodeSink>>& stages) const override {
    stages.push_back(make_(next));
    return *stages.back();
  }

 private:
  StageMaker make_;
};

class SequenceDecoder : public Decoder {
 public:
  explicit SequenceDecoder(const JsonNode& node) {
    for (const JsonNode& part : node.children("decoders"))
      parts_.push_back(Decoder::from_json(part));
  }
  DecodeSink& start(DecodeSink& next,
                    std::vector<std::unique_ptr<DecodeSink>>& stages) const override {
    DecodeSink* sink = &next;
    for (auto part = parts_.rbegin(); part != parts_.rend(); ++part)
      sink = &(*part)->start(*sink, stages);
    return *sink;
  }

 private:
  std::vector<std::unique_ptr<const Decoder>> parts_;
};

template <class Stage>
std::unique_ptr<const Decoder> plain() {
  return std::make_unique<SingleDecoder>(
      [](DecodeSink& next) { return std::make_unique<Stage>(next); });
}

}  // namespace

std::unique_ptr<const Decoder> Decoder::spaces() { return plain<SpacesStage>(); }

std::unique_ptr<const Decoder> Decoder::from_json(const JsonNode& node) {
  const std::string type = node.string("type");
  if (type == "Sequence") return std::make_unique<SequenceDecoder>(node);
  if (type == "ByteLevel") return plain<ByteLevelStage>();
  if (type == "ByteFallback") return plain<ByteFallbackStage>();
  if (type == "Fuse") return plain<JoinStage>();
  if (type == "Replace") {
    const auto pattern = std::make_shared<const Regex>(Regex::from_json(node, "pattern"));
    std::string content = node.string("content");
    if (content.size() > 256) node.wrong("content", "a string of at most 256 bytes");
    const auto shared = std::make_shared<const std::string>(std::move(content));
    return std::make_unique<SingleDecoder>([pattern, shared](DecodeSink& next) {
      return std::make_unique<ReplaceStage>(next, *pattern, *shared);
    });
  }
  if (type == "Strip") {
    const auto content = std::make_shared<std::string>();
    append_utf8(*content, node.character("content"));
    const auto start = static_cast<size_t>(node.integer("start", 0, 1 << 20));
    const auto stop = static_cast<size_t>(node.integer("stop", 0, 1 << 20));
    return std::make_unique<SingleDecoder>([content, start, stop](DecodeSink& next) {
      return std::make_unique<StripStage>(next, *content, start, stop);
    });
  }
  if (type == "Metaspace") {
    const auto mark = std::make_shared<std::string>();
    append_utf8(*mark, node.character("replacement"));
    const std::string scheme = node.string_or(
        "prepend_scheme", node.boolean_or("add_prefix_space", true) ? "always" : "never");
    if (scheme != "always" && scheme != "first" && scheme != "never") {
      node.wrong("prepend_scheme", "one of always, first, never");
    }
    return std::make_unique<SingleDecoder>([mark, drop = scheme != "never"](DecodeSink& next) {
      return std::make_unique<MetaspaceStage>(next, *mark, drop);
    });
  }
  node.unsupported("decoder", type, kSupported);
}

}  // namespace pluq
