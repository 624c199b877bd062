// SPDX-License-Identifier: Apache-2.0
// The syntax tree of a chat template: one node type; what `kids`, `names` and `text` hold depends
// on `kind`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tokenizer/chat/value.h"

namespace pluq::chat {

enum class Op {
  // Expressions.
  kConst,    // value (or text, when value is a string: see `text`)
  kString,   // text
  kName,     // text
  kList,     // kids
  kTuple,    // kids; also a target of assignments
  kDict,     // kids: key, value, key, value ...
  kAttr,     // kids: object; text: name
  kItem,     // kids: object, index
  kSlice,    // kids: object, begin, end, step; each of the last three may be null
  kCall,     // kids: callee, arguments; names: keyword of each argument or ""
  kFilter,   // kids: input, arguments; names as in kCall; text
  kTest,     // kids: input, arguments; names as in kCall; text
  kNegate,   // kids: operand
  kPlus,     // kids: operand
  kNot,      // kids: operand
  kAnd,      // kids: left, right
  kOr,       // kids: left, right
  kBinary,   // kids: left, right; text: + - * / // % ** ~
  kCompare,  // kids: operands; names: == != < <= > >= in, notin; one fewer than kids
  kChoose,   // kids: value, condition, otherwise (may be null)
  kInput,    // the text of the enclosing block, first input of its filters
  // Statements.
  kText,   // text
  kPrint,  // kids: expression
  kBody,   // kids: statements
  kScope,  // kids: body; generation
  kIf,     // kids: condition, body, condition, body ..., and a last body for else
  kFor,    // kids: target, iterable, condition (may be null), body, else body (may be null); flag:
           // recursive
  kSet,    // kids: target, value
  kSetBlock,   // kids: target, body, filters (may be null)
  kMacro,      // kids: body, default of each parameter (may be null); names: parameters; text: name
  kCallBlock,  // kids: body, defaults as in kMacro, and last the call; names: parameters
  kFilterBlock,  // kids: filters, body
  kWith,         // kids: body, target, value, target, value ...
  kBreak,
  kContinue,
};

struct Node {
  Op op;
  int line = 0;
  int height = 1;  // of the tree below, bounded so that no walk over it is too deep
  std::string text;
  Value value;
  bool flag = false;
  std::vector<std::unique_ptr<Node>> kids;
  std::vector<std::string> names;
};

using NodePtr = std::unique_ptr<Node>;

}  // namespace pluq::chat
