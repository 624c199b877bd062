// SPDX-License-Identifier: Apache-2.0
// From the tokens of a chat template to its syntax tree.
#pragma once

#include <string_view>

#include "tokenizer/chat/lexer.h"
#include "tokenizer/chat/node.h"

namespace pluq::chat {

// A kBody. Throws SyntaxError. Trees deeper than 200 levels are refused.
NodePtr parse_template(std::string_view source);

// Whether there is a filter or a test of that name, so that a wrong one is found before anything is
// rendered.
bool is_filter(std::string_view name);
bool is_test(std::string_view name);

}  // namespace pluq::chat
