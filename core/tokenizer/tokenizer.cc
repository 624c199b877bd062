// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/tokenizer.h"

#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decoder.h"
#include "tokenizer/json_node.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/unicode.h"

namespace pluq {
namespace {

namespace json = boost::json;

constexpr size_t kMaxText = size_t{1} << 30;  // bytes, before and after normalization
constexpr int kMaxDepth = 32;                 // levels of a document; those who read it recurse

// Without recursion, so that a value built by a caller cannot exhaust the stack either.
void check_depth(const json::value& document, std::string_view where) {
  std::vector<std::pair<const json::value*, int>> open{{&document, 1}};
  while (!open.empty()) {
    const auto [value, depth] = open.back();
    open.pop_back();
    if (depth > kMaxDepth)
      fail_input("{}: nested deeper than {} levels, which no tokenizer file needs", where,
                 kMaxDepth);
    if (const json::array* array = value->if_array()) {
      for (const json::value& item : *array) {
        if (item.is_array() || item.is_object()) open.emplace_back(&item, depth + 1);
      }
    } else if (const json::object* object = value->if_object()) {
      for (const auto& entry : *object) {
        if (entry.value().is_array() || entry.value().is_object())
          open.emplace_back(&entry.value(), depth + 1);
      }
    }
  }
}

template <class Component>
std::unique_ptr<const Component> optional_part(const JsonNode& document, std::string_view key) {
  return document.has(key) ? Component::from_json(document.child(key)) : nullptr;
}

// The end of the decoding chain: collects text.
class TextSink : public DecodeSink {
 public:
  void part(std::string_view text, bool, bool) override { text_ += text; }
  void finish() override {}
  std::string take() { return std::exchange(text_, std::string()); }

 private:
  std::string text_;
};

}  // namespace

struct Tokenizer::Parts {
  explicit Parts(const JsonNode& document)
      : model(document.child("model")),
        normalizer(optional_part<Normalizer>(document, "normalizer")),
        pre_tokenizer(optional_part<PreTokenizer>(document, "pre_tokenizer")),
        added(document, model, normalizer.get()),
        end_id(std::max(model.end_id(), added.end_id())) {
    if (document.has("post_processor")) {
      post_processor = PostProcessor::from_json(document.child("post_processor"), end_id);
    }
    decoder =
        document.has("decoder") ? Decoder::from_json(document.child("decoder")) : Decoder::spaces();
  }

  // What the id decodes to; null when it names no token.
  const std::string* token(int32_t id) const {
    const AddedToken* entry = added.by_id(id);
    return entry != nullptr ? &entry->decoded : model.id_to_token(id);
  }
  // Whether decoding may leave it out: judged by its text, as the tokenizers package does.
  bool is_skipped(const std::string& text) const {
    const AddedToken* entry = added.by_content(text);
    return entry != nullptr && entry->special;
  }
  void encode_text(std::string_view text, bool at_origin, BpeModel::Scratch& scratch,
                   std::vector<int32_t>& out) const;
  void encode_normal(std::string_view text, bool at_origin, BpeModel::Scratch& scratch,
                     std::vector<int32_t>& out) const;

  BpeModel model;
  std::unique_ptr<const Normalizer> normalizer;
  std::unique_ptr<const PreTokenizer> pre_tokenizer;
  AddedTokens added;
  int32_t end_id;
  PostProcessor post_processor;
  std::unique_ptr<const Decoder> decoder;
};

// A piece without raw added tokens: normalize it, then look for the added tokens of normalized
// text.
void Tokenizer::Parts::encode_text(std::string_view text, bool at_origin,
                                   BpeModel::Scratch& scratch, std::vector<int32_t>& out) const {
  NormalText normal{std::string(text), at_origin};
  if (normalizer) normalizer->apply(normal);
  if (normal.text.size() > kMaxText) {
    fail_input("a text of {} bytes becomes {} bytes when normalized, at most {} are accepted",
               text.size(), normal.text.size(), kMaxText);
  }
  for (const TextPiece& piece : added.cut_normalized(normal.text)) {
    if (piece.id) {
      out.push_back(*piece.id);
    } else {
      encode_normal(std::string_view(normal.text).substr(piece.begin, piece.end - piece.begin),
                    normal.at_origin && piece.begin == 0, scratch, out);
    }
  }
}

void Tokenizer::Parts::encode_normal(std::string_view text, bool at_origin,
                                     BpeModel::Scratch& scratch, std::vector<int32_t>& out) const {
  Words words;
  words.text = text;
  words.at_origin = at_origin;
  if (!text.empty()) words.ranges.push_back({0, text.size()});
  if (pre_tokenizer) pre_tokenizer->apply(words);
  for (const WordRange& range : words.ranges) model.encode_word(words.word(range), scratch, out);
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::from_json(const json::value& document,
                                                      std::string_view where) {
  check_depth(document, where);
  auto parts = std::make_unique<const Parts>(JsonNode(document, std::string(where), ""));
  return std::shared_ptr<const Tokenizer>(new Tokenizer(std::move(parts)));
}

std::shared_ptr<const Tokenizer> Tokenizer::from_file(const std::string& path) {
  return from_json(parse_json_file(path), path);
}

std::shared_ptr<const Tokenizer> Tokenizer::from_directory(const std::string& directory) {
  const std::string path = directory + "/tokenizer.json";
  struct stat info;
  if (::stat(directory.c_str(), &info) != 0) {
    fail_input("{}: no such model directory or .gguf file", printable(directory, 4096));
  }
  if (::stat(path.c_str(), &info) != 0) {
    fail_input(
        "{}: the model directory has no tokenizer.json, which pluq needs to turn text into token "
        "ids",
        printable(directory, 4096));
  }
  return from_file(path);
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  if (text.size() > kMaxText) {
    fail_input("a text of {} bytes is too long to tokenize, at most {} are accepted", text.size(),
               kMaxText);
  }
  const std::string clean = sanitize_utf8(text);
  std::vector<int32_t> out;
  if (add_special) out = parts_->post_processor.before;
  BpeModel::Scratch scratch;
  for (const TextPiece& piece : parts_->added.cut_raw(clean)) {
    if (piece.id) {
      out.push_back(*piece.id);
    } else {
      parts_->encode_text(std::string_view(clean).substr(piece.begin, piece.end - piece.begin),
                          piece.begin == 0, scratch, out);
    }
  }
  if (add_special) {
    out.insert(out.end(), parts_->post_processor.after.begin(), parts_->post_processor.after.end());
  }
  return out;
}

struct StreamDecoder::State {
  State(const Tokenizer::Parts& tokenizer_parts, bool skip)
      : parts(tokenizer_parts), skip_special(skip), head(parts.decoder->start(sink, stages)) {}

  void push(int32_t id) {
    const std::string* token = parts.token(id);
    if (token == nullptr || (skip_special && parts.is_skipped(*token))) return;
    head.part(*token, true, true);
  }

  const Tokenizer::Parts& parts;
  bool skip_special;
  TextSink sink;
  std::vector<std::unique_ptr<DecodeSink>> stages;
  DecodeSink& head;
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : state_(std::make_unique<State>(*tokenizer.parts_, skip_special)) {}
StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::push(int32_t id) {
  state_->push(id);
  return state_->sink.take();
}

std::string StreamDecoder::finish() {
  state_->head.finish();
  return state_->sink.take();
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  StreamDecoder stream(*this, skip_special);
  for (const int32_t id : ids) stream.state_->push(id);
  return stream.finish();
}

int32_t Tokenizer::vocab_size() const { return parts_->end_id; }

std::optional<int32_t> Tokenizer::token_to_id(std::string_view token) const {
  if (const AddedToken* added = parts_->added.by_content(token)) return added->id;
  return parts_->model.token_to_id(token);
}

std::optional<std::string> Tokenizer::id_to_token(int32_t id) const {
  const std::string* token = parts_->token(id);
  return token == nullptr ? std::nullopt : std::optional<std::string>(*token);
}

bool Tokenizer::is_special(int32_t id) const {
  const AddedToken* entry = parts_->added.by_id(id);
  return entry != nullptr && entry->special;
}

}  // namespace pluq
