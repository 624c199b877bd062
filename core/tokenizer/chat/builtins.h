// SPDX-License-Identifier: Apache-2.0
// Filters, tests, methods and functions of chat templates. They throw std::invalid_argument with a
// sentence.
#pragma once

#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/chat/value.h"

namespace pluq::chat {

// The arguments of one call.
struct Args {
  std::string_view callee;  // for messages
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // The argument at `index` or called `name`; null when it is not given.
  const Value* find(size_t index, std::string_view name) const;
  const Value& need(size_t index, std::string_view name) const;
  std::string text(size_t index, std::string_view name, std::string_view otherwise) const;
  int64_t integer(size_t index, std::string_view name, int64_t otherwise) const;
  bool flag(size_t index, std::string_view name, bool otherwise) const;
  void at_most(size_t count) const;  // positional arguments
};

// raise_exception(message) of a template.
struct Raised {
  std::string message;
};

Value apply_filter(std::string_view name, const Value& input, const Args& args, Arena& arena);
bool apply_test(std::string_view name, const Value& input, const Args& args, Arena& arena);

// `object.name`: a method, an entry or an attribute; undefined when there is none. Throws for
// undefined objects.
Value get_attribute(const Value& object, std::string_view name, Arena& arena);
// `object[index]`.
Value get_item(const Value& object, const Value& index, Arena& arena);
// "a.b.0" as filters take it.
Value get_path(const Value& object, std::string_view path, Arena& arena);
Value call_method(const Function& f, const Args& args, Arena& arena);

// Functions that every template sees; `now` is for strftime_now.
bool is_global(std::string_view name);
Value call_global(std::string_view name, const Args& args, std::time_t now, Arena& arena);

// What a for statement walks over: entries, keys or characters.
std::vector<Value> elements(const Value& v, Arena& arena);
bool contains(const Value& container, const Value& item, Arena& arena);
int64_t need_int(const Value& v, std::string_view what);
// "%s of %d" with arguments.
std::string format_percent(std::string_view format, const std::vector<Value>& args, Arena& arena);

}  // namespace pluq::chat
