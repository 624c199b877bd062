// SPDX-License-Identifier: Apache-2.0
// Values of a chat template. Containers and scopes belong to the Arena of one rendering and are
// freed together when it ends, so cycles are harmless and nothing is freed recursively. The arena
// counts bytes and steps and enforces limits.
#pragma once

#include <boost/json/value.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pluq::chat {

struct Node;
struct Dict;
struct Function;
struct List;
struct Loop;

enum class Kind {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kDict,
  kNamespace,
  kFunction,
  kLoop
};

struct Value {
  Kind kind = Kind::kNone;
  union {
    bool b;
    int64_t i = 0;
    double f;
    List* list;
    Dict* dict;  // of kDict and kNamespace
    Function* function;
    Loop* loop;
  };
  std::shared_ptr<const std::string> text;  // kString: the bytes; kUndefined: what was looked up

  bool is_number() const {
    return kind == Kind::kInt || kind == Kind::kFloat || kind == Kind::kBool;
  }
  bool is_string() const { return kind == Kind::kString; }
  bool is_dict() const { return kind == Kind::kDict; }
  bool is_list() const { return kind == Kind::kList; }
  bool is_undefined() const { return kind == Kind::kUndefined; }
  bool is_none() const { return kind == Kind::kNone; }
  const std::string& str() const { return *text; }
  int64_t as_int() const { return kind == Kind::kBool ? b : i; }  // of kInt and kBool
  double as_double() const { return kind == Kind::kFloat ? f : static_cast<double>(as_int()); }
};

Value none();
Value boolean(bool b);
Value integer(int64_t i);
Value real(double f);
Value undefined(std::string what);

struct List {
  std::vector<Value> items;
  bool tuple = false;  // prints with ( )
};

// Keys are strings; order of insertion.
struct Dict {
  std::vector<std::pair<std::string, Value>> items;
  const Value* find(std::string_view key) const;
};

struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<std::string, Value>> names;
};

struct Function {
  std::string name;  // of a global or a method
  bool method = false;
  Value self;                   // of a method
  const Node* macro = nullptr;  // a macro or the body of a call block
  Scope* scope = nullptr;       // where the macro was defined
};

// The `loop` of a for statement.
struct Loop {
  List* items = nullptr;
  size_t index = 0;
  int64_t depth = 0;
  const Node* node = nullptr;  // the for statement, when recursive
  Scope* scope = nullptr;      // around the for statement
  Value changed;               // what loop.changed() saw last
  bool has_changed = false;
};

struct Limits {
  int64_t steps = 4'000'000;                // evaluations and elements touched
  size_t string_bytes = size_t{32} << 20;   // of one string, the output among them
  size_t memory_bytes = size_t{384} << 20;  // of all values made
  int depth = 1000;                         // of nested evaluation
};

// Owns what a rendering makes. Throws std::length_error with a sentence when a limit is passed.
class Arena {
 public:
  explicit Arena(const Limits& limits) : limits_(limits) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  const Limits& limits() const { return limits_; }
  void step(int64_t count = 1);
  void charge(size_t bytes);
  void check_string(size_t bytes) const;  // before it is made

  Value string(std::string s);
  List* list(size_t room = 0, bool tuple = false);
  Value list_value(std::vector<Value> items, bool tuple = false);
  void append(List* list, Value value);
  Dict* dict();
  void put(Dict* dict, std::string key, Value value);  // replaces
  Value function(Function f);
  Loop* loop();
  Scope* scope(Scope* parent);

 private:
  Limits limits_;
  int64_t steps_ = 0;
  size_t bytes_ = 0;
  std::deque<List> lists_;
  std::deque<Dict> dicts_;
  std::deque<Function> functions_;
  std::deque<Loop> loops_;
  std::deque<Scope> scopes_;
};

Value list_of(List* list);
Value dict_of(Dict* dict);

Value from_json(const boost::json::value& json, Arena& arena);

// What `is`, `if`, str() and repr() of Python make of a value. They throw std::invalid_argument
// with a sentence.
bool truth(const Value& v);
std::string_view type_name(const Value& v);
std::string to_text(const Value& v, Arena& arena);
// json.dumps without ASCII escapes. indent < 0: one line.
std::string to_json(const Value& v, int64_t indent, bool sort_keys, std::string_view comma,
                    std::string_view colon, Arena& arena);
bool equal(const Value& a, const Value& b, Arena& arena);
// Negative, zero or positive; only numbers, strings and lists have an order.
int compare(const Value& a, const Value& b, Arena& arena);
std::string float_text(double f);  // Python's repr

}  // namespace pluq::chat
