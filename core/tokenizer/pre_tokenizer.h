// SPDX-License-Identifier: Apache-2.0
// The "pre_tokenizer" of a tokenizer file: cuts normalized text into words; no token crosses a
// word's end.
#pragma once

#include <boost/json.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace pluq {

class JsonNode;

struct WordRange {  // bytes [begin, end) of Words::text, never empty
  size_t begin;
  size_t end;
};

// One buffer and the words in it, in order. Ranges do not overlap but may leave gaps (removed
// text).
struct Words {
  std::string text;
  std::vector<WordRange> ranges;
  bool at_origin = false;  // byte 0 of text comes from the first character of the caller's text

  std::string_view word(const WordRange& range) const {
    return std::string_view(text).substr(range.begin, range.end - range.begin);
  }
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(Words& words) const = 0;

  // Throws Error(kInput) naming an unknown type and the supported ones.
  static std::unique_ptr<const PreTokenizer> from_json(const JsonNode& node);
};

}  // namespace pluq
