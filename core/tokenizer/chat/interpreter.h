// SPDX-License-Identifier: Apache-2.0
// Runs the syntax tree of a chat template.
#pragma once

#include <ctime>
#include <string>

#include "tokenizer/chat/builtins.h"
#include "tokenizer/chat/node.h"

namespace pluq::chat {

class Interpreter {
 public:
  Interpreter(Arena& arena, std::time_t now) : arena_(arena), now_(now) {}

  // The text that `body` makes with the names of `variables`. Throws std::invalid_argument,
  // std::length_error or Raised; line() is then where.
  std::string run(const Node& body, Scope* variables);
  int line() const { return line_; }

 private:
  enum class Flow { kNormal, kBreak, kContinue };
  class Deeper;

  Flow exec(const Node& n, std::string* out);
  Flow exec_body(const Node& n, std::string* out);
  Flow exec_if(const Node& n, std::string* out);
  void exec_for(const Node& n, const Value& items, Scope* around, int64_t depth, std::string* out);
  void exec_set_block(const Node& n);
  void exec_call_block(const Node& n, std::string* out);
  void exec_with(const Node& n, std::string* out);
  void define_macro(const Node& n);
  void write(std::string* out, std::string_view text) const;
  void assign(const Node& target, const Value& value);
  void assign_name(Scope* scope, const std::string& name, const Value& value);
  std::string in_scope(const Node& body, Scope* scope);  // the text of a body with its own names

  Value eval(const Node& n);
  Value eval_name(const Node& n);
  Value eval_list(const Node& n, bool tuple);
  Value eval_dict(const Node& n);
  Value eval_slice(const Node& n);
  Value eval_binary(const Node& n);
  Value eval_compare(const Node& n);
  Value eval_call(const Node& n);
  Value eval_filter(const Node& n);
  Value eval_test(const Node& n);
  Args arguments(const Node& n, std::string_view callee);
  Value call(const Value& callee, const Args& args, const Value* caller);
  Value call_macro(const Function& f, const Args& args, const Value* caller);

  Arena& arena_;
  std::time_t now_;
  Scope* scope_ = nullptr;
  int line_ = 0, depth_ = 0;
  Value input_;  // of kInput
};

}  // namespace pluq::chat
