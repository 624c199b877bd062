// SPDX-License-Identifier: Apache-2.0
// Arithmetic and slices of chat templates, as Python computes them. They throw
// std::invalid_argument with a sentence.
#pragma once

#include <string_view>

#include "tokenizer/chat/value.h"

namespace pluq::chat {

// op: + - * / // % ** ~
Value apply_operator(std::string_view op, const Value& a, const Value& b, Arena& arena);
Value negate(const Value& v);
// Null pointers: not given.
Value slice(const Value& object, const Value* begin, const Value* end, const Value* step,
            Arena& arena);

}  // namespace pluq::chat
