// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/chat/interpreter.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "tokenizer/chat/operators.h"

namespace pluq::chat {
namespace {

bool compared(std::string_view op, const Value& a, const Value& b, Arena& arena) {
  if (op == "==") return equal(a, b, arena);
  if (op == "!=") return !equal(a, b, arena);
  if (op == "in") return contains(b, a, arena);
  if (op == "notin") return !contains(b, a, arena);
  for (const Value* v : {&a, &b}) {
    if (v->is_undefined()) throw std::invalid_argument(v->str());
  }
  const int c = compare(a, b, arena);
  return op == "<" ? c < 0 : op == "<=" ? c <= 0 : op == ">" ? c > 0 : c >= 0;
}

}  // namespace

// One level of nested evaluation.
class Interpreter::Deeper {
 public:
  Deeper(Interpreter* i, int line) : i_(i) {
    i->line_ = line;
    i->arena_.step();
    if (i->depth_ >= i->arena_.limits().depth) {
      throw std::length_error(
          fmt::format("the template nests more than {} evaluations", i->arena_.limits().depth));
    }
    ++i->depth_;
  }
  ~Deeper() { --i_->depth_; }
  Deeper(const Deeper&) = delete;
  Deeper& operator=(const Deeper&) = delete;

 private:
  Interpreter* i_;
};

std::string Interpreter::run(const Node& body, Scope* variables) {
  std::string out;
  scope_ = variables;
  exec(body, &out);
  return out;
}

void Interpreter::write(std::string* out, std::string_view text) const {
  arena_.check_string(out->size() + text.size());
  *out += text;
}

// --- statements

Interpreter::Flow Interpreter::exec(const Node& n, std::string* out) {
  const Deeper deeper(this, n.line);
  switch (n.op) {
    case Op::kText:
      write(out, n.text);
      break;
    case Op::kPrint:
      write(out, to_text(eval(*n.kids[0]), arena_));
      break;
    case Op::kBody:
      return exec_body(n, out);
    case Op::kScope:
      write(out, in_scope(*n.kids[0], arena_.scope(scope_)));
      break;
    case Op::kIf:
      return exec_if(n, out);
    case Op::kFor:
      exec_for(n, eval(*n.kids[1]), scope_, 0, out);
      break;
    case Op::kSet:
      assign(*n.kids[0], eval(*n.kids[1]));
      break;
    case Op::kSetBlock:
      exec_set_block(n);
      break;
    case Op::kMacro:
      define_macro(n);
      break;
    case Op::kCallBlock:
      exec_call_block(n, out);
      break;
    case Op::kFilterBlock: {
      Value text = arena_.string(in_scope(*n.kids[1], arena_.scope(scope_)));
      std::swap(input_, text);
      const Value filtered = eval(*n.kids[0]);
      std::swap(input_, text);
      write(out, to_text(filtered, arena_));
      break;
    }
    case Op::kWith:
      exec_with(n, out);
      break;
    case Op::kBreak:
      return Flow::kBreak;
    case Op::kContinue:
      return Flow::kContinue;
    default:
      throw std::invalid_argument("an expression where a statement is expected");
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::exec_body(const Node& n, std::string* out) {
  for (const NodePtr& kid : n.kids) {
    const Flow flow = exec(*kid, out);
    if (flow != Flow::kNormal) return flow;
  }
  return Flow::kNormal;
}

Interpreter::Flow Interpreter::exec_if(const Node& n, std::string* out) {
  size_t i = 0;
  for (; i + 1 < n.kids.size(); i += 2) {
    if (truth(eval(*n.kids[i]))) return exec(*n.kids[i + 1], out);
  }
  return i < n.kids.size() ? exec(*n.kids[i], out) : Flow::kNormal;
}

std::string Interpreter::in_scope(const Node& body, Scope* scope) {
  std::string out;
  Scope* const outer = std::exchange(scope_, scope);
  exec(body, &out);
  scope_ = outer;
  return out;
}

void Interpreter::exec_for(const Node& n, const Value& items, Scope* around, int64_t depth,
                           std::string* out) {
  const Deeper deeper(this, n.line);
  Scope* const outer = scope_;
  Loop* loop = arena_.loop();
  loop->items = arena_.list();
  loop->depth = depth;
  loop->node = n.flag ? &n : nullptr;
  loop->scope = around;
  for (Value& v : elements(items, arena_)) {
    if (n.kids[2] != nullptr) {
      scope_ = arena_.scope(around);
      assign(*n.kids[0], v);
      if (!truth(eval(*n.kids[2]))) continue;
    }
    arena_.append(loop->items, std::move(v));
  }
  Value self;
  self.kind = Kind::kLoop;
  self.loop = loop;
  // By index: the body may not change the list of the loop, which is its own copy.
  for (; loop->index < loop->items->items.size(); ++loop->index) {
    arena_.step();
    scope_ = arena_.scope(around);
    assign_name(scope_, "loop", self);
    assign(*n.kids[0], loop->items->items[loop->index]);
    if (exec(*n.kids[3], out) == Flow::kBreak) break;
  }
  scope_ = outer;
  if (loop->items->items.empty() && n.kids[4] != nullptr)
    write(out, in_scope(*n.kids[4], arena_.scope(around)));
}

void Interpreter::exec_set_block(const Node& n) {
  Value text = arena_.string(in_scope(*n.kids[1], arena_.scope(scope_)));
  if (n.kids[2] != nullptr) {
    std::swap(input_, text);
    Value filtered = eval(*n.kids[2]);
    std::swap(input_, text);
    text = std::move(filtered);
  }
  assign(*n.kids[0], text);
}

void Interpreter::exec_with(const Node& n, std::string* out) {
  Scope* inner = arena_.scope(scope_);
  for (size_t i = 1; i + 1 < n.kids.size(); i += 2) {
    const Value v = eval(*n.kids[i + 1]);  // outside, as jinja does
    Scope* const outer = std::exchange(scope_, inner);
    assign(*n.kids[i], v);
    scope_ = outer;
  }
  write(out, in_scope(*n.kids[0], inner));
}

void Interpreter::define_macro(const Node& n) {
  Function f;
  f.name = n.text;
  f.macro = &n;
  f.scope = scope_;
  assign_name(scope_, n.text, arena_.function(std::move(f)));
}

void Interpreter::exec_call_block(const Node& n, std::string* out) {
  Function f;
  f.name = n.text;
  f.macro = &n;
  f.scope = scope_;
  const Value caller = arena_.function(std::move(f));
  const Node& call_node = *n.kids.back();
  const Value callee = eval(*call_node.kids[0]);
  write(out, to_text(call(callee, arguments(call_node, "the call"), &caller), arena_));
}

void Interpreter::assign_name(Scope* scope, const std::string& name, const Value& value) {
  for (auto& [known, old] : scope->names) {
    arena_.step();
    if (known == name) {
      old = value;
      return;
    }
  }
  arena_.charge(2 * (sizeof(Value) + sizeof(std::string)));
  scope->names.emplace_back(name, value);
}

void Interpreter::assign(const Node& target, const Value& value) {
  if (target.op == Op::kName) return assign_name(scope_, target.text, value);
  if (target.op == Op::kAttr) {
    const Value object = eval(*target.kids[0]);
    if (object.kind != Kind::kNamespace) {
      throw std::invalid_argument(fmt::format("'{}.{}' cannot be set: {} is not a namespace",
                                              target.kids[0]->text, target.text,
                                              type_name(object)));
    }
    return arena_.put(object.dict, target.text, value);
  }
  const std::vector<Value> parts = elements(value, arena_);
  if (parts.size() != target.kids.size()) {
    throw std::invalid_argument(
        fmt::format("{} values for {} names", parts.size(), target.kids.size()));
  }
  for (size_t i = 0; i < parts.size(); ++i) assign(*target.kids[i], parts[i]);
}

// --- expressions

Value Interpreter::eval(const Node& n) {
  const Deeper deeper(this, n.line);
  switch (n.op) {
    case Op::kConst:
      return n.value;
    case Op::kString:
      return arena_.string(n.text);
    case Op::kName:
      return eval_name(n);
    case Op::kList:
      return eval_list(n, false);
    case Op::kTuple:
      return eval_list(n, true);
    case Op::kDict:
      return eval_dict(n);
    case Op::kAttr:
      return get_attribute(eval(*n.kids[0]), n.text, arena_);
    case Op::kItem: {
      const Value object = eval(*n.kids[0]);
      return get_item(object, eval(*n.kids[1]), arena_);
    }
    case Op::kSlice:
      return eval_slice(n);
    case Op::kCall:
      return eval_call(n);
    case Op::kFilter:
      return eval_filter(n);
    case Op::kTest:
      return eval_test(n);
    case Op::kNegate:
      return negate(eval(*n.kids[0]));
    case Op::kPlus:
      return apply_operator("+", integer(0), eval(*n.kids[0]), arena_);
    case Op::kNot:
      return boolean(!truth(eval(*n.kids[0])));
    case Op::kAnd: {
      Value v = eval(*n.kids[0]);
      return truth(v) ? eval(*n.kids[1]) : v;
    }
    case Op::kOr: {
      Value v = eval(*n.kids[0]);
      return truth(v) ? v : eval(*n.kids[1]);
    }
    case Op::kBinary:
      return eval_binary(n);
    case Op::kCompare:
      return eval_compare(n);
    case Op::kChoose:
      if (truth(eval(*n.kids[1]))) return eval(*n.kids[0]);
      return n.kids[2] != nullptr ? eval(*n.kids[2]) : undefined("the inline if has no else");
    case Op::kInput:
      return input_;
    default:
      throw std::invalid_argument("a statement where an expression is expected");
  }
}

Value Interpreter::eval_name(const Node& n) {
  for (const Scope* s = scope_; s != nullptr; s = s->parent) {
    arena_.step();
    for (const auto& [name, value] : s->names) {
      if (name == n.text) return value;
    }
  }
  if (is_global(n.text)) {
    Function f;
    f.name = n.text;
    return arena_.function(std::move(f));
  }
  return undefined(fmt::format("'{}' is undefined", printable(n.text, 60)));
}

Value Interpreter::eval_list(const Node& n, bool tuple) {
  std::vector<Value> items;
  for (const NodePtr& kid : n.kids) items.push_back(eval(*kid));
  return arena_.list_value(std::move(items), tuple);
}

Value Interpreter::eval_dict(const Node& n) {
  Dict* dict = arena_.dict();
  for (size_t i = 0; i < n.kids.size(); i += 2) {
    const Value key = eval(*n.kids[i]);
    if (!key.is_string())
      throw std::invalid_argument(
          fmt::format("the key of a mapping is {}, expected a string", type_name(key)));
    arena_.put(dict, key.str(), eval(*n.kids[i + 1]));
  }
  return dict_of(dict);
}

Value Interpreter::eval_slice(const Node& n) {
  const Value object = eval(*n.kids[0]);
  Value bounds[3];
  const Value* given[3] = {};
  for (size_t i = 0; i < 3; ++i) {
    if (n.kids[i + 1] == nullptr) continue;
    bounds[i] = eval(*n.kids[i + 1]);
    given[i] = &bounds[i];
  }
  line_ = n.line;
  return slice(object, given[0], given[1], given[2], arena_);
}

Value Interpreter::eval_binary(const Node& n) {
  const Value a = eval(*n.kids[0]), b = eval(*n.kids[1]);
  line_ = n.line;
  return apply_operator(n.text, a, b, arena_);
}

Value Interpreter::eval_compare(const Node& n) {
  Value left = eval(*n.kids[0]);
  for (size_t i = 0; i < n.names.size(); ++i) {
    Value right = eval(*n.kids[i + 1]);
    line_ = n.line;
    if (!compared(n.names[i], left, right, arena_)) return boolean(false);
    left = std::move(right);
  }
  return boolean(true);
}

Args Interpreter::arguments(const Node& n, std::string_view callee) {
  Args args;
  args.callee = callee;
  for (size_t i = 0; i < n.names.size(); ++i) {
    Value v = eval(*n.kids[i + 1]);
    if (n.names[i].empty())
      args.positional.push_back(std::move(v));
    else
      args.named.emplace_back(n.names[i], std::move(v));
  }
  line_ = n.line;
  return args;
}

Value Interpreter::eval_call(const Node& n) {
  const Value callee = eval(*n.kids[0]);
  const std::string name = callee.kind == Kind::kFunction ? callee.function->name : "the call";
  return call(callee, arguments(n, name), nullptr);
}

Value Interpreter::call(const Value& callee, const Args& args, const Value* caller) {
  if (callee.is_undefined())
    throw std::invalid_argument(fmt::format("{}, so it cannot be called", callee.str()));
  if (callee.kind == Kind::kLoop && callee.loop->node != nullptr) {
    args.at_most(1);
    std::string out;
    exec_for(*callee.loop->node, args.need(0, "iterable"), callee.loop->scope,
             callee.loop->depth + 1, &out);
    return arena_.string(std::move(out));
  }
  if (callee.kind != Kind::kFunction)
    throw std::invalid_argument(fmt::format("{} cannot be called", type_name(callee)));
  const Function& f = *callee.function;
  if (f.macro != nullptr) return call_macro(f, args, caller);
  if (caller != nullptr)
    throw std::invalid_argument(
        fmt::format("'{}' is not a macro, so a call block cannot call it", f.name));
  return f.method ? call_method(f, args, arena_) : call_global(f.name, args, now_, arena_);
}

Value Interpreter::call_macro(const Function& f, const Args& args, const Value* caller) {
  const Node& macro = *f.macro;
  args.at_most(macro.names.size());
  for (const auto& [name, value] : args.named) {
    const size_t at = static_cast<size_t>(std::find(macro.names.begin(), macro.names.end(), name) -
                                          macro.names.begin());
    if (at >= macro.names.size() || at < args.positional.size()) {
      throw std::invalid_argument(fmt::format(
          "the macro '{}' {} '{}'", f.name,
          at < args.positional.size() ? "gets twice" : "has no parameter", printable(name, 40)));
    }
  }
  Scope* inner = arena_.scope(f.scope);
  if (caller != nullptr) assign_name(inner, "caller", *caller);
  Scope* const outer = std::exchange(scope_, inner);
  for (size_t i = 0; i < macro.names.size(); ++i) {
    const Value* given = args.find(i, macro.names[i]);
    if (given != nullptr)
      assign_name(inner, macro.names[i], *given);
    else if (macro.kids[i + 1] != nullptr)
      assign_name(inner, macro.names[i], eval(*macro.kids[i + 1]));
    else
      assign_name(inner, macro.names[i],
                  undefined(fmt::format("the parameter '{}' is not given", macro.names[i])));
  }
  scope_ = outer;
  return arena_.string(in_scope(*macro.kids[0], inner));
}

Value Interpreter::eval_filter(const Node& n) {
  const Value input = eval(*n.kids[0]);
  return apply_filter(n.text, input, arguments(n, n.text), arena_);
}

Value Interpreter::eval_test(const Node& n) {
  const Value input = eval(*n.kids[0]);
  return boolean(apply_test(n.text, input, arguments(n, n.text), arena_));
}

}  // namespace pluq::chat
