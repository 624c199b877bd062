// SPDX-License-Identifier: Apache-2.0
// Added tokens: strings that become one token wherever they stand in the text, before anything else
// is done.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/bpe.h"
#include "tokenizer/normalizer.h"

namespace pluq {

class JsonNode;

struct AddedToken {
  std::string content;
  std::string decoded;  // what the id decodes to: the normalized content when `normalized` is set
  int32_t id = 0;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = false;
  bool special = false;
};

// A piece of text, or one added token (id set) with the text it took.
struct TextPiece {
  size_t begin;
  size_t end;
  std::optional<int32_t> id;
};

// Immutable; const use from many threads is safe.
class AddedTokens {
 public:
  // "added_tokens" of the document. A content that the model's vocabulary knows takes its id from
  // there. `normalizer` may be null. Throws Error(kInput).
  AddedTokens(const JsonNode& document, const BpeModel& model, const Normalizer* normalizer);

  // Cuts text at the tokens that are matched before normalization / after it.
  std::vector<TextPiece> cut_raw(std::string_view text) const { return cut(raw_, text); }
  std::vector<TextPiece> cut_normalized(std::string_view text) const {
    return cut(normalized_, text);
  }

  const AddedToken* by_content(std::string_view content) const;
  const AddedToken* by_id(int32_t id) const;
  int32_t end_id() const { return end_id_; }

 private:
  // A trie over bytes; the longest token at the leftmost place wins.
  class Matcher {
   public:
    Matcher();
    void add(std::string_view content, size_t token);
    bool empty() const { return nodes_.size() == 1; }
    struct Match {
      size_t begin, end, token;
    };
    // The first match at or behind `from`, if any. O(length of the longest token) per byte.
    std::optional<Match> find(std::string_view text, size_t from) const;

   private:
    static constexpr size_t kNoToken = static_cast<size_t>(-1);
    struct Node {
      size_t token = kNoToken;
      std::vector<std::pair<unsigned char, uint32_t>> next;
    };
    uint32_t child(uint32_t node, unsigned char byte) const;  // 0: none
    std::vector<Node> nodes_;
    std::vector<uint32_t> first_;  // children of the root by byte
  };

  std::vector<TextPiece> cut(const Matcher& matcher, std::string_view text) const;

  std::vector<AddedToken> tokens_;
  StringMap<size_t> by_content_;
  std::unordered_map<int32_t, size_t> by_id_;
  Matcher raw_;
  Matcher normalized_;
  int32_t end_id_ = 0;
};

}  // namespace pluq
