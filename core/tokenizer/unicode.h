// SPDX-License-Identifier: Apache-2.0
// UTF-8 and Unicode properties as the tokenizer needs them. All functions except the first two
// groups expect valid UTF-8: Tokenizer::encode cleans its input once, with sanitize_utf8, at the
// door.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pluq {

// Turns a stream of bytes into valid UTF-8. Every maximal part of an invalid sequence becomes one
// U+FFFD, the rule of the Unicode standard (section 3.9) and of Rust's from_utf8_lossy. At most 3
// bytes are ever held back.
class Utf8Repair {
 public:
  void push(std::string_view bytes, std::string& out);
  // A sequence that is still open becomes one U+FFFD.
  void finish(std::string& out);

 private:
  void accept(unsigned char byte, std::string& out);
  char held_[4] = {};
  int held_count_ = 0;
  int wanted_ = 0;            // length in bytes of the open sequence
  unsigned char low_ = 0x80;  // accepted range of the next byte
  unsigned char high_ = 0xBF;
};

std::string sanitize_utf8(std::string_view bytes);
bool is_valid_utf8(std::string_view bytes);

void append_utf8(std::string& out, char32_t c);
// The code point at text[pos]; pos moves behind it.
char32_t next_char(std::string_view text, size_t& pos);
// The code point that ends at text[pos], pos > 0; pos moves to its first byte.
char32_t previous_char(std::string_view text, size_t& pos);

bool is_space(char32_t c);        // property White_Space
bool is_word(char32_t c);         // \w of UTS 18: Alphabetic, Mark, Nd, Pc, Join_Control
bool is_mark(char32_t c);         // categories Mn, Mc, Me
bool is_numeric(char32_t c);      // categories Nd, Nl, No
bool is_punctuation(char32_t c);  // ASCII punctuation or category P*

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// Linear time for any input, long runs of combining marks included. Throws Error(kFailed) out of
// memory.
std::string normalize(std::string_view text, NormalForm form);

std::string to_lower(std::string_view text);  // full mapping per code point, no context rules

}  // namespace pluq
