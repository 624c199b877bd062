// SPDX-License-Identifier: Apache-2.0
// Cuts a chat template into text and the tokens of its tags, with trim_blocks and lstrip_blocks as
// transformers sets them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pluq::chat {

enum class TokenKind {
  kText,  // between tags
  kBlockBegin,
  kBlockEnd,  // {% %}
  kPrintBegin,
  kPrintEnd,  // {{ }}
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenKind kind;
  std::string text;  // of a string: unescaped
  int line;
};

// Where a template is wrong; what() is a sentence without the place.
struct SyntaxError {
  int line;
  std::string text;
};

// source: valid UTF-8. Throws SyntaxError.
std::vector<Token> tokenize_template(std::string_view source);

}  // namespace pluq::chat
