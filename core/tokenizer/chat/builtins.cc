// SPDX-License-Identifier: Apache-2.0
// What builtins.h shares among filters, tests and methods; global functions.
#include "tokenizer/chat/builtins.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "base/error.h"
#include "tokenizer/chat/text.h"
#include "tokenizer/unicode.h"

namespace pluq::chat {
namespace {

Value range(const Args& args, Arena& arena) {
  args.at_most(3);
  int64_t begin = 0, end = 0, step = 1;
  if (args.positional.empty()) throw std::invalid_argument("range needs an argument");
  if (args.positional.size() == 1) {
    end = need_int(args.positional[0], "range");
  } else {
    begin = need_int(args.positional[0], "range");
    end = need_int(args.positional[1], "range");
    step = args.positional.size() > 2 ? need_int(args.positional[2], "range") : 1;
  }
  if (step == 0) throw std::invalid_argument("the step of range is 0");
  // Unsigned, so that ends far apart do not overflow.
  const uint64_t distance =
      step > 0 ? (end > begin ? static_cast<uint64_t>(end) - static_cast<uint64_t>(begin) : 0)
               : (begin > end ? static_cast<uint64_t>(begin) - static_cast<uint64_t>(end) : 0);
  const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
  const uint64_t count = distance / stride + (distance % stride != 0);
  if (count > 100'000)
    throw std::invalid_argument(
        fmt::format("range has {} elements, at most 100000 are accepted", count));
  List* list = arena.list(count);
  for (uint64_t i = 0; i < count; ++i)
    list->items.push_back(integer(begin + static_cast<int64_t>(i) * step));
  return list_of(list);
}

Value named_entries(const Args& args, Arena& arena) {
  Dict* dict = arena.dict();
  args.at_most(1);
  if (!args.positional.empty()) {
    if (!args.positional[0].is_dict())
      throw std::invalid_argument(fmt::format("{} takes a mapping or name=value", args.callee));
    for (const auto& [key, value] : args.positional[0].dict->items) arena.put(dict, key, value);
  }
  for (const auto& [key, value] : args.named) arena.put(dict, key, value);
  return dict_of(dict);
}

std::string strftime_now(const std::string& format, std::time_t now) {
  std::tm local{};
  ::localtime_r(&now, &local);
  if (format.size() > 1000)
    throw std::invalid_argument("the format of strftime_now is longer than 1000 bytes");
  // A mark at the end tells an empty result from one that does not fit.
  std::string buffer(64 * 1024, '\0');
  const std::string marked = format + "|";
  const size_t n = std::strftime(buffer.data(), buffer.size(), marked.c_str(), &local);
  if (n == 0) throw std::invalid_argument("the result of strftime_now is too long");
  buffer.resize(n - 1);
  return sanitize_utf8(buffer);
}

}  // namespace

const Value* Args::find(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

const Value& Args::need(size_t index, std::string_view name) const {
  const Value* v = find(index, name);
  if (v == nullptr)
    throw std::invalid_argument(fmt::format("{} needs the argument '{}'", callee, name));
  return *v;
}

std::string Args::text(size_t index, std::string_view name, std::string_view otherwise) const {
  const Value* v = find(index, name);
  if (v == nullptr) return std::string(otherwise);
  if (!v->is_string())
    throw std::invalid_argument(
        fmt::format("'{}' of {} is {}, expected a string", name, callee, type_name(*v)));
  return v->str();
}

int64_t Args::integer(size_t index, std::string_view name, int64_t otherwise) const {
  const Value* v = find(index, name);
  return v == nullptr || v->is_none() ? otherwise
                                      : need_int(*v, fmt::format("'{}' of {}", name, callee));
}

bool Args::flag(size_t index, std::string_view name, bool otherwise) const {
  const Value* v = find(index, name);
  return v == nullptr ? otherwise : truth(*v);
}

void Args::at_most(size_t count) const {
  if (positional.size() > count) {
    throw std::invalid_argument(fmt::format("{} takes at most {} arguments, {} are given", callee,
                                            count, positional.size()));
  }
}

int64_t need_int(const Value& v, std::string_view what) {
  if (v.kind != Kind::kInt && v.kind != Kind::kBool) {
    throw std::invalid_argument(fmt::format("{} is {}, expected an integer", what, type_name(v)));
  }
  return v.as_int();
}

std::vector<Value> elements(const Value& v, Arena& arena) {
  std::vector<Value> out;
  if (v.is_list()) {
    arena.step(static_cast<int64_t>(v.list->items.size()));
    arena.charge(v.list->items.size() * sizeof(Value));
    return v.list->items;
  }
  if (v.is_dict()) {
    for (const auto& [key, value] : v.dict->items) {
      arena.step();
      out.push_back(arena.string(key));
    }
  } else if (v.is_string()) {
    for (const std::string_view c : characters(v.str())) {
      arena.step();
      out.push_back(arena.string(std::string(c)));
    }
  } else if (!v.is_undefined()) {
    throw std::invalid_argument(fmt::format("{} cannot be walked over", type_name(v)));
  }
  return out;
}

bool contains(const Value& container, const Value& item, Arena& arena) {
  switch (container.kind) {
    case Kind::kString:
      if (!item.is_string())
        throw std::invalid_argument(fmt::format("a string cannot contain {}", type_name(item)));
      arena.step(static_cast<int64_t>(container.str().size() / 64));
      return container.str().find(item.str()) != std::string::npos;
    case Kind::kDict:
      arena.step(static_cast<int64_t>(container.dict->items.size() / 8));
      return item.is_string() && container.dict->find(item.str()) != nullptr;
    case Kind::kList:
      return std::any_of(container.list->items.begin(), container.list->items.end(),
                         [&](const Value& v) { return equal(v, item, arena); });
    case Kind::kUndefined:
      return false;
    default:
      throw std::invalid_argument(fmt::format("{} cannot contain anything", type_name(container)));
  }
}

std::string format_percent(std::string_view format, const std::vector<Value>& args, Arena& arena) {
  std::string out;
  size_t used = 0;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    size_t end = i + 1;
    while (end < format.size() &&
           std::string_view("0123456789.-+ #").find(format[end]) != std::string_view::npos)
      ++end;
    if (end >= format.size()) throw std::invalid_argument("a format ends within a % directive");
    const std::string flags(format.substr(i + 1, end - i - 1));
    const char kind = format[end];
    i = end;
    if (kind == '%') {
      out += '%';
      continue;
    }
    if (flags.size() > 6)
      throw std::invalid_argument(fmt::format("'%{}{}' is too wide", flags, kind));
    if (used >= args.size())
      throw std::invalid_argument("a format has more % directives than arguments");
    const Value& v = args[used++];
    char buffer[1100];
    const auto print = [&](const std::string& directive, auto value) {
      const int n = std::snprintf(buffer, sizeof buffer, directive.c_str(), value);
      if (n < 0 || n >= static_cast<int>(sizeof buffer))
        throw std::invalid_argument(fmt::format("'%{}{}' is too wide", flags, kind));
      out.append(buffer, static_cast<size_t>(n));
    };
    if (kind == 's' && flags.empty()) {
      out += to_text(v, arena);
    } else if (kind == 's') {
      print("%" + flags + "s", to_text(v, arena).c_str());
    } else if (!v.is_number()) {
      throw std::invalid_argument(
          fmt::format("'%{}{}' is given {}", flags, printable(std::string(1, kind)), type_name(v)));
    } else if (kind == 'd' || kind == 'i' || kind == 'x' || kind == 'X') {
      const bool fits = v.kind != Kind::kFloat || (v.f > -9e18 && v.f < 9e18);
      if (!fits) throw std::invalid_argument("a float is too large for an integer directive");
      print(
          "%" + flags + "ll" + kind,
          static_cast<long long>(v.kind == Kind::kFloat ? static_cast<int64_t>(v.f) : v.as_int()));
    } else if (kind == 'f' || kind == 'e' || kind == 'g') {
      print("%" + flags + kind, v.as_double());
    } else {
      throw std::invalid_argument(
          fmt::format("'%{}' is not a format directive; accepted are s d i x X f e g %",
                      printable(std::string(1, kind))));
    }
    arena.check_string(out.size());
  }
  if (used < args.size())
    throw std::invalid_argument("a format has fewer % directives than arguments");
  return out;
}

bool is_global(std::string_view name) {
  return name == "range" || name == "namespace" || name == "dict" || name == "raise_exception" ||
         name == "strftime_now";
}

Value call_global(std::string_view name, const Args& args, std::time_t now, Arena& arena) {
  if (name == "range") return range(args, arena);
  if (name == "strftime_now") return arena.string(strftime_now(args.text(0, "format", ""), now));
  if (name == "raise_exception") throw Raised{to_text(args.need(0, "message"), arena)};
  Value v = named_entries(args, arena);
  if (name == "namespace") v.kind = Kind::kNamespace;
  return v;
}

}  // namespace pluq::chat
