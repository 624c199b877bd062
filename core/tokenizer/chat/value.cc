// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/chat/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <charconv>
#include <cmath>
#include <stdexcept>

#include "tokenizer/chat/text.h"

namespace pluq::chat {
namespace {

constexpr int kMaxDepth = 100;  // of nested lists and dicts where they are walked

void check_depth(int depth) {
  if (depth > kMaxDepth)
    throw std::invalid_argument(
        fmt::format("a value is nested deeper than {} levels, or contains itself", kMaxDepth));
}

void add(std::string* out, std::string_view text, Arena& arena) {
  arena.check_string(out->size() + text.size());
  *out += text;
}

void write_text(const Value& v, bool quote, int depth, std::string* out, Arena& arena);

void write_list(const List& list, int depth, std::string* out, Arena& arena) {
  add(out, list.tuple ? "(" : "[", arena);
  for (size_t i = 0; i < list.items.size(); ++i) {
    if (i > 0) add(out, ", ", arena);
    write_text(list.items[i], true, depth + 1, out, arena);
  }
  add(out, list.tuple ? (list.items.size() == 1 ? ",)" : ")") : "]", arena);
}

void write_dict(const Dict& dict, int depth, std::string* out, Arena& arena) {
  add(out, "{", arena);
  for (size_t i = 0; i < dict.items.size(); ++i) {
    if (i > 0) add(out, ", ", arena);
    add(out, quoted(dict.items[i].first), arena);
    add(out, ": ", arena);
    write_text(dict.items[i].second, true, depth + 1, out, arena);
  }
  add(out, "}", arena);
}

void write_text(const Value& v, bool quote, int depth, std::string* out, Arena& arena) {
  check_depth(depth);
  arena.step();
  switch (v.kind) {
    case Kind::kUndefined:
      return add(out, quote ? "Undefined" : "", arena);
    case Kind::kNone:
      return add(out, "None", arena);
    case Kind::kBool:
      return add(out, v.b ? "True" : "False", arena);
    case Kind::kInt:
      return add(out, std::to_string(v.i), arena);
    case Kind::kFloat:
      return add(out, float_text(v.f), arena);
    case Kind::kString:
      return add(out, quote ? quoted(v.str()) : v.str(), arena);
    case Kind::kList:
      return write_list(*v.list, depth, out, arena);
    case Kind::kDict:
      return write_dict(*v.dict, depth, out, arena);
    case Kind::kNamespace:
      add(out, "<Namespace ", arena);
      write_dict(*v.dict, depth, out, arena);
      return add(out, ">", arena);
    case Kind::kFunction:
      return add(out, fmt::format("<function {}>", v.function->name), arena);
    case Kind::kLoop:
      return add(out, "<loop>", arena);
  }
}

struct JsonWriter {
  int64_t indent;
  bool sort_keys;
  std::string_view comma, colon;
  Arena& arena;
  std::string out;

  void line(int depth) {
    if (indent < 0) return;
    arena.check_string(out.size() + static_cast<size_t>(indent * depth) + 1);
    out += '\n';
    out.append(static_cast<size_t>(indent * depth), ' ');
  }
  void separate(bool first, int depth) {
    if (!first) add(&out, comma, arena);
    line(depth + 1);
  }
  void write_object(const Dict& dict, int depth) {
    std::vector<const std::pair<std::string, Value>*> items;
    for (const auto& item : dict.items) items.push_back(&item);
    if (sort_keys)
      std::sort(items.begin(), items.end(), [](auto* a, auto* b) { return a->first < b->first; });
    out += '{';
    for (size_t i = 0; i < items.size(); ++i) {
      separate(i == 0, depth);
      add(&out, json_quoted(items[i]->first), arena);
      add(&out, colon, arena);
      write(items[i]->second, depth + 1);
    }
    if (!items.empty()) line(depth);
    out += '}';
  }
  void write(const Value& v, int depth) {
    check_depth(depth);
    arena.step();
    switch (v.kind) {
      case Kind::kNone:
        return add(&out, "null", arena);
      case Kind::kBool:
        return add(&out, v.b ? "true" : "false", arena);
      case Kind::kInt:
        return add(&out, std::to_string(v.i), arena);
      case Kind::kFloat:
        return add(&out,
                   std::isnan(v.f)   ? "NaN"
                   : std::isinf(v.f) ? (v.f > 0 ? "Infinity" : "-Infinity")
                                     : float_text(v.f),
                   arena);
      case Kind::kString:
        return add(&out, json_quoted(v.str()), arena);
      case Kind::kDict:
        return write_object(*v.dict, depth);
      case Kind::kList:
        out += '[';
        for (size_t i = 0; i < v.list->items.size(); ++i) {
          separate(i == 0, depth);
          write(v.list->items[i], depth + 1);
        }
        if (!v.list->items.empty()) line(depth);
        out += ']';
        return;
      default:
        throw std::invalid_argument(fmt::format("{} cannot be written as JSON", type_name(v)));
    }
  }
};

bool equal_at(const Value& a, const Value& b, int depth, Arena& arena) {
  check_depth(depth);
  arena.step();
  if (a.is_number() && b.is_number()) {
    if (a.kind != Kind::kFloat && b.kind != Kind::kFloat) return a.as_int() == b.as_int();
    return a.as_double() == b.as_double();
  }
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      return a.str() == b.str();
    case Kind::kList:
      if (a.list->tuple != b.list->tuple || a.list->items.size() != b.list->items.size())
        return false;
      for (size_t i = 0; i < a.list->items.size(); ++i) {
        if (!equal_at(a.list->items[i], b.list->items[i], depth + 1, arena)) return false;
      }
      return true;
    case Kind::kDict:
      if (a.dict->items.size() != b.dict->items.size()) return false;
      for (const auto& [key, value] : a.dict->items) {
        arena.step(static_cast<int64_t>(b.dict->items.size() / 8));
        const Value* other = b.dict->find(key);
        if (other == nullptr || !equal_at(value, *other, depth + 1, arena)) return false;
      }
      return true;
    default:
      return a.list == b.list;  // the same object
  }
}

int compare_at(const Value& a, const Value& b, int depth, Arena& arena) {
  check_depth(depth);
  arena.step();
  if (a.is_number() && b.is_number()) {
    if (a.kind != Kind::kFloat && b.kind != Kind::kFloat)
      return (a.as_int() > b.as_int()) - (a.as_int() < b.as_int());
    return (a.as_double() > b.as_double()) - (a.as_double() < b.as_double());
  }
  if (a.is_string() && b.is_string()) return a.str().compare(b.str());
  if (a.is_list() && b.is_list()) {
    const size_t n = std::min(a.list->items.size(), b.list->items.size());
    for (size_t i = 0; i < n; ++i) {
      const Value &x = a.list->items[i], &y = b.list->items[i];
      if (!equal_at(x, y, depth + 1, arena)) return compare_at(x, y, depth + 1, arena);
    }
    return (a.list->items.size() > b.list->items.size()) -
           (a.list->items.size() < b.list->items.size());
  }
  throw std::invalid_argument(fmt::format("{} and {} have no order", type_name(a), type_name(b)));
}

}  // namespace

Value none() { return {}; }

Value boolean(bool b) {
  Value v;
  v.kind = Kind::kBool;
  v.b = b;
  return v;
}

Value integer(int64_t i) {
  Value v;
  v.kind = Kind::kInt;
  v.i = i;
  return v;
}

Value real(double f) {
  Value v;
  v.kind = Kind::kFloat;
  v.f = f;
  return v;
}

Value undefined(std::string what) {
  Value v;
  v.kind = Kind::kUndefined;
  v.text = std::make_shared<const std::string>(std::move(what));
  return v;
}

Value list_of(List* list) {
  Value v;
  v.kind = Kind::kList;
  v.list = list;
  return v;
}

Value dict_of(Dict* dict) {
  Value v;
  v.kind = Kind::kDict;
  v.dict = dict;
  return v;
}

const Value* Dict::find(std::string_view key) const {
  for (const auto& [name, value] : items) {
    if (name == key) return &value;
  }
  return nullptr;
}

void Arena::step(int64_t count) {
  steps_ += count;
  if (steps_ > limits_.steps)
    throw std::length_error(fmt::format("the template takes more than {} steps", limits_.steps));
}

void Arena::charge(size_t bytes) {
  if (bytes > limits_.memory_bytes - bytes_) {
    throw std::length_error(
        fmt::format("the template makes more than {} MiB of values", limits_.memory_bytes >> 20));
  }
  bytes_ += bytes;
}

void Arena::check_string(size_t bytes) const {
  if (bytes > limits_.string_bytes) {
    throw std::length_error(
        fmt::format("the template makes a text of more than {} MiB", limits_.string_bytes >> 20));
  }
}

Value Arena::string(std::string s) {
  check_string(s.size());
  charge(s.size() + 64);
  Value v;
  v.kind = Kind::kString;
  v.text = std::make_shared<const std::string>(std::move(s));
  return v;
}

List* Arena::list(size_t room, bool tuple) {
  step(static_cast<int64_t>(std::min<size_t>(room, size_t{1} << 40)));
  charge(sizeof(List) + room * sizeof(Value));
  List& made = lists_.emplace_back();
  made.items.reserve(room);
  made.tuple = tuple;
  return &made;
}

Value Arena::list_value(std::vector<Value> items, bool tuple) {
  charge(sizeof(List) + items.size() * sizeof(Value));
  List& made = lists_.emplace_back();
  made.items = std::move(items);
  made.tuple = tuple;
  return list_of(&made);
}

void Arena::append(List* list, Value value) {
  step();
  charge(2 * sizeof(Value));
  list->items.push_back(std::move(value));
}

Dict* Arena::dict() {
  charge(sizeof(Dict) + 64);
  return &dicts_.emplace_back();
}

void Arena::put(Dict* dict, std::string key, Value value) {
  step(1 + static_cast<int64_t>(dict->items.size() / 8));  // a search
  for (auto& [name, old] : dict->items) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  charge(2 * (sizeof(Value) + sizeof(std::string)) + key.size());
  dict->items.emplace_back(std::move(key), std::move(value));
}

Value Arena::function(Function f) {
  charge(sizeof(Function) + 64);
  Value v;
  v.kind = Kind::kFunction;
  v.function = &functions_.emplace_back(std::move(f));
  return v;
}

Loop* Arena::loop() {
  charge(sizeof(Loop) + 64);
  return &loops_.emplace_back();
}

Scope* Arena::scope(Scope* parent) {
  charge(sizeof(Scope) + 192);
  Scope& made = scopes_.emplace_back();
  made.parent = parent;
  return &made;
}

Value from_json(const boost::json::value& json, Arena& arena) {
  if (json.is_bool()) return boolean(json.get_bool());
  if (json.is_int64()) return integer(json.get_int64());
  if (json.is_uint64()) return real(static_cast<double>(json.get_uint64()));
  if (json.is_double()) return real(json.get_double());
  if (json.is_string()) return arena.string(std::string(json.get_string()));
  if (json.is_array()) {
    List* list = arena.list(json.get_array().size());
    for (const boost::json::value& item : json.get_array())
      list->items.push_back(from_json(item, arena));
    return list_of(list);
  }
  if (json.is_object()) {
    Dict* dict = arena.dict();
    for (const auto& [key, value] : json.get_object())
      arena.put(dict, std::string(key), from_json(value, arena));
    return dict_of(dict);
  }
  return none();
}

bool truth(const Value& v) {
  switch (v.kind) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return v.b;
    case Kind::kInt:
      return v.i != 0;
    case Kind::kFloat:
      return v.f != 0;
    case Kind::kString:
      return !v.str().empty();
    case Kind::kList:
      return !v.list->items.empty();
    case Kind::kDict:
      return !v.dict->items.empty();
    default:
      return true;
  }
}

std::string_view type_name(const Value& v) {
  switch (v.kind) {
    case Kind::kUndefined:
      return "an undefined value";
    case Kind::kNone:
      return "none";
    case Kind::kBool:
      return "a boolean";
    case Kind::kInt:
      return "an integer";
    case Kind::kFloat:
      return "a float";
    case Kind::kString:
      return "a string";
    case Kind::kList:
      return "a list";
    case Kind::kDict:
      return "a mapping";
    case Kind::kNamespace:
      return "a namespace";
    case Kind::kFunction:
      return "a function";
    case Kind::kLoop:
      return "the loop";
  }
  return "a value";
}

std::string to_text(const Value& v, Arena& arena) {
  if (v.is_string()) return v.str();
  std::string out;
  write_text(v, false, 0, &out, arena);
  return out;
}

std::string to_json(const Value& v, int64_t indent, bool sort_keys, std::string_view comma,
                    std::string_view colon, Arena& arena) {
  JsonWriter writer{indent, sort_keys, comma, colon, arena, {}};
  writer.write(v, 0);
  return std::move(writer.out);
}

bool equal(const Value& a, const Value& b, Arena& arena) { return equal_at(a, b, 0, arena); }
int compare(const Value& a, const Value& b, Arena& arena) { return compare_at(a, b, 0, arena); }

std::string float_text(double f) {
  if (std::isnan(f)) return "nan";
  if (std::isinf(f)) return f > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, f, std::chars_format::scientific).ptr;
  std::string s(buffer, end);
  const size_t e = s.find('e');
  const int exponent = std::stoi(s.substr(e + 1));
  if (exponent < -4 || exponent >= 16) {
    return fmt::format("{}e{}{:02}", s.substr(0, e), exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, f, std::chars_format::fixed).ptr;
  std::string out(buffer, fixed);
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

}  // namespace pluq::chat
