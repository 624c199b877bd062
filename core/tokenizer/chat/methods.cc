// SPDX-License-Identifier: Apache-2.0
// Attributes, items and methods of the values of chat templates. Only data and the methods listed
// here can be reached.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <stdexcept>

#include "base/error.h"
#include "tokenizer/chat/builtins.h"
#include "tokenizer/chat/text.h"
#include "tokenizer/unicode.h"

namespace pluq::chat {
namespace {

using Method = Value (*)(const Value& self, const Args& args, Arena& arena);
struct NamedMethod {
  std::string_view name;
  Method call;
};

// The characters that strip removes: null for white space.
Value stripped(const Value& self, const Args& args, Arena& arena, bool left, bool right) {
  const Value* chars = args.find(0, "chars");
  if (chars == nullptr || chars->is_none())
    return arena.string(std::string(strip(self.str(), nullptr, left, right)));
  const std::string set = args.text(0, "chars", "");
  return arena.string(std::string(strip(self.str(), &set, left, right)));
}

Value texts(const std::vector<std::string_view>& parts, Arena& arena) {
  List* list = arena.list(parts.size());
  for (const std::string_view part : parts) list->items.push_back(arena.string(std::string(part)));
  return list_of(list);
}

Value split_method(const Value& self, const Args& args, Arena& arena, bool from_right) {
  args.at_most(2);
  const Value* separator = args.find(0, "sep");
  const int64_t most = args.integer(1, "maxsplit", -1);
  arena.step(static_cast<int64_t>(self.str().size() / 16));
  if (separator == nullptr || separator->is_none())
    return texts(split(self.str(), nullptr, most, from_right), arena);
  const std::string by = args.text(0, "sep", "");
  return texts(split(self.str(), &by, most, from_right), arena);
}

Value affix(const Value& self, const Args& args, bool front) {
  const Value& given = args.need(0, "prefix");
  const auto has = [&](const Value& v) {
    if (!v.is_string())
      throw std::invalid_argument(
          fmt::format("{} is given {}, expected a string", args.callee, type_name(v)));
    return front ? self.str().starts_with(v.str()) : self.str().ends_with(v.str());
  };
  if (given.is_list())
    return boolean(std::any_of(given.list->items.begin(), given.list->items.end(), has));
  return boolean(has(given));
}

Value position(const Value& self, const Args& args, bool from_right) {
  const std::string what = args.text(0, "sub", "");
  const size_t at = from_right ? self.str().rfind(what) : self.str().find(what);
  return integer(at == std::string::npos ? -1
                                         : text_length(std::string_view(self.str()).substr(0, at)));
}

template <bool (*kIs)(char32_t)>
Value all_are(const Value& self, const Args&, Arena&) {
  const std::string& s = self.str();
  for (size_t at = 0; at < s.size();) {
    if (!kIs(next_char(s, at))) return boolean(false);
  }
  return boolean(!s.empty());
}
bool is_digit(char32_t c) { return c >= '0' && c <= '9'; }
bool is_letter_or_digit(char32_t c) { return is_letter(c) || is_numeric(c); }

Value join_method(const Value& self, const Args& args, Arena& arena) {
  std::string out;
  bool first = true;
  for (const Value& v : elements(args.need(0, "iterable"), arena)) {
    if (!v.is_string())
      throw std::invalid_argument(fmt::format("join is given {}, expected strings", type_name(v)));
    if (!first) out += self.str();
    first = false;
    out += v.str();
    arena.check_string(out.size());
  }
  return arena.string(std::move(out));
}

Value count_method(const Value& self, const Args& args, Arena&) {
  const std::string what = args.text(0, "sub", "");
  if (what.empty()) return integer(text_length(self.str()) + 1);
  int64_t n = 0;
  for (size_t at = 0; (at = self.str().find(what, at)) != std::string::npos; at += what.size()) ++n;
  return integer(n);
}

Value remove_affix(const Value& self, const Args& args, Arena& arena, bool front) {
  const std::string what = args.text(0, front ? "prefix" : "suffix", "");
  const std::string& s = self.str();
  if (!(front ? s.starts_with(what) : s.ends_with(what))) return self;
  return arena.string(front ? s.substr(what.size()) : s.substr(0, s.size() - what.size()));
}

constexpr NamedMethod kStringMethods[] = {
    {"capitalize", [](const Value& self, const Args&,
                      Arena& arena) { return arena.string(capitalize(self.str())); }},
    {"count", count_method},
    {"endswith",
     [](const Value& self, const Args& args, Arena&) { return affix(self, args, false); }},
    {"find",
     [](const Value& self, const Args& args, Arena&) { return position(self, args, false); }},
    {"isalnum", all_are<is_letter_or_digit>},
    {"isalpha", all_are<is_letter>},
    {"isdigit", all_are<is_digit>},
    {"isspace", all_are<is_space>},
    {"join", join_method},
    {"lower",
     [](const Value& self, const Args&, Arena& arena) { return arena.string(lower(self.str())); }},
    {"lstrip", [](const Value& self, const Args& args,
                  Arena& arena) { return stripped(self, args, arena, true, false); }},
    {"removeprefix", [](const Value& self, const Args& args,
                        Arena& arena) { return remove_affix(self, args, arena, true); }},
    {"removesuffix", [](const Value& self, const Args& args,
                        Arena& arena) { return remove_affix(self, args, arena, false); }},
    {"replace",
     [](const Value& self, const Args& args, Arena& arena) {
       args.need(0, "old"), args.need(1, "new");
       return arena.string(replace(self.str(), args.text(0, "old", ""), args.text(1, "new", ""),
                                   args.integer(2, "count", -1), arena.limits().string_bytes));
     }},
    {"rfind",
     [](const Value& self, const Args& args, Arena&) { return position(self, args, true); }},
    {"rsplit", [](const Value& self, const Args& args,
                  Arena& arena) { return split_method(self, args, arena, true); }},
    {"rstrip", [](const Value& self, const Args& args,
                  Arena& arena) { return stripped(self, args, arena, false, true); }},
    {"split", [](const Value& self, const Args& args,
                 Arena& arena) { return split_method(self, args, arena, false); }},
    {"splitlines", [](const Value& self, const Args&,
                      Arena& arena) { return texts(split_lines(self.str()), arena); }},
    {"startswith",
     [](const Value& self, const Args& args, Arena&) { return affix(self, args, true); }},
    {"strip", [](const Value& self, const Args& args,
                 Arena& arena) { return stripped(self, args, arena, true, true); }},
    {"title",
     [](const Value& self, const Args&, Arena& arena) { return arena.string(title(self.str())); }},
    {"upper",
     [](const Value& self, const Args&, Arena& arena) { return arena.string(upper(self.str())); }},
};

Value entries(const Value& self, Arena& arena, bool keys, bool values) {
  List* list = arena.list(self.dict->items.size());
  for (const auto& [key, value] : self.dict->items) {
    if (keys && values)
      list->items.push_back(arena.list_value({arena.string(key), value}, true));
    else
      list->items.push_back(keys ? arena.string(key) : value);
  }
  return list_of(list);
}

constexpr NamedMethod kDictMethods[] = {
    {"get",
     [](const Value& self, const Args& args, Arena& arena) {
       const Value& key = args.need(0, "key");
       arena.step(static_cast<int64_t>(self.dict->items.size() / 8));
       const Value* found = key.is_string() ? self.dict->find(key.str()) : nullptr;
       const Value* otherwise = args.find(1, "default");
       return found != nullptr ? *found : otherwise != nullptr ? *otherwise : none();
     }},
    {"items",
     [](const Value& self, const Args&, Arena& arena) { return entries(self, arena, true, true); }},
    {"keys", [](const Value& self, const Args&,
                Arena& arena) { return entries(self, arena, true, false); }},
    {"values", [](const Value& self, const Args&,
                  Arena& arena) { return entries(self, arena, false, true); }},
};

constexpr NamedMethod kListMethods[] = {
    {"append",
     [](const Value& self, const Args& args, Arena& arena) {
       if (self.list->tuple) throw std::invalid_argument("a tuple cannot be appended to");
       arena.append(self.list, args.need(0, "object"));
       return none();
     }},
    {"count",
     [](const Value& self, const Args& args, Arena& arena) {
       const Value& what = args.need(0, "value");
       return integer(std::count_if(self.list->items.begin(), self.list->items.end(),
                                    [&](const Value& v) { return equal(v, what, arena); }));
     }},
    {"index",
     [](const Value& self, const Args& args, Arena& arena) {
       const Value& what = args.need(0, "value");
       const auto& items = self.list->items;
       const auto it = std::find_if(items.begin(), items.end(),
                                    [&](const Value& v) { return equal(v, what, arena); });
       if (it == items.end()) throw std::invalid_argument("index: the list has no such element");
       return integer(it - items.begin());
     }},
};

constexpr NamedMethod kLoopMethods[] = {
    {"changed",
     [](const Value& self, const Args& args, Arena& arena) {
       Value now = arena.list_value(args.positional, true);
       Loop& loop = *self.loop;
       const bool changed = !loop.has_changed || !equal(loop.changed, now, arena);
       loop.has_changed = true;
       loop.changed = std::move(now);
       return boolean(changed);
     }},
    {"cycle",
     [](const Value& self, const Args& args, Arena&) {
       if (args.positional.empty()) throw std::invalid_argument("loop.cycle needs arguments");
       return args.positional[self.loop->index % args.positional.size()];
     }},
};

template <class Table>
Method find_method(const Table& table, std::string_view name) {
  const auto it = std::find_if(std::begin(table), std::end(table),
                               [&](const NamedMethod& m) { return m.name == name; });
  return it == std::end(table) ? nullptr : it->call;
}

Method method_of(const Value& self, std::string_view name) {
  switch (self.kind) {
    case Kind::kString:
      return find_method(kStringMethods, name);
    case Kind::kDict:
      return find_method(kDictMethods, name);
    case Kind::kList:
      return find_method(kListMethods, name);
    case Kind::kLoop:
      return find_method(kLoopMethods, name);
    default:
      return nullptr;
  }
}

Value loop_attribute(const Loop& loop, std::string_view name) {
  const auto index = static_cast<int64_t>(loop.index),
             count = static_cast<int64_t>(loop.items->items.size());
  if (name == "index") return integer(index + 1);
  if (name == "index0") return integer(index);
  if (name == "first") return boolean(index == 0);
  if (name == "last") return boolean(index + 1 == count);
  if (name == "length") return integer(count);
  if (name == "revindex") return integer(count - index);
  if (name == "revindex0") return integer(count - index - 1);
  if (name == "depth") return integer(loop.depth + 1);
  if (name == "depth0") return integer(loop.depth);
  if (name == "previtem" && index > 0) return loop.items->items[loop.index - 1];
  if (name == "nextitem" && index + 1 < count) return loop.items->items[loop.index + 1];
  return undefined(fmt::format("the loop has no '{}'", name));
}

}  // namespace

Value get_attribute(const Value& object, std::string_view name, Arena& arena) {
  arena.step();
  if (object.is_undefined())
    throw std::invalid_argument(
        fmt::format("{}, so it has no '{}'", object.str(), printable(name, 40)));
  if (object.kind == Kind::kLoop && method_of(object, name) == nullptr)
    return loop_attribute(*object.loop, name);
  if (method_of(object, name) != nullptr) {
    Function f;
    f.name = std::string(name);
    f.method = true;
    f.self = object;
    return arena.function(std::move(f));
  }
  if (object.is_dict() || object.kind == Kind::kNamespace) {
    arena.step(static_cast<int64_t>(object.dict->items.size() / 8));
    if (const Value* found = object.dict->find(name)) return *found;
  }
  return undefined(fmt::format("{} has no '{}'", type_name(object), printable(name, 40)));
}

Value get_item(const Value& object, const Value& index, Arena& arena) {
  arena.step();
  if (object.is_undefined())
    throw std::invalid_argument(fmt::format("{}, so it has no elements", object.str()));
  if (index.is_string()) {
    if (object.is_dict()) {
      arena.step(static_cast<int64_t>(object.dict->items.size() / 8));
      if (const Value* found = object.dict->find(index.str())) return *found;
    }
    return get_attribute(object, index.str(), arena);
  }
  if ((object.is_list() || object.is_string()) &&
      (index.kind == Kind::kInt || index.kind == Kind::kBool)) {
    const int64_t count = object.is_list() ? static_cast<int64_t>(object.list->items.size())
                                           : text_length(object.str());
    const int64_t i = index.as_int() < 0 ? index.as_int() + count : index.as_int();
    if (i >= 0 && i < count) {
      if (object.is_list()) return object.list->items[static_cast<size_t>(i)];
      arena.step(static_cast<int64_t>(object.str().size() / 64));
      return arena.string(std::string(text_range(object.str(), i, i + 1)));
    }
    return undefined(fmt::format("{} of {} elements has no element {}", type_name(object), count,
                                 index.as_int()));
  }
  return undefined(fmt::format("{} has no element by {}", type_name(object), type_name(index)));
}

Value get_path(const Value& object, std::string_view path, Arena& arena) {
  static const std::string dot = ".";
  Value v = object;
  for (const std::string_view part : split(path, &dot, -1, false)) {
    int64_t i = 0;
    const auto r = std::from_chars(part.data(), part.data() + part.size(), i);
    const bool number = r.ec == std::errc() && r.ptr == part.data() + part.size() && !part.empty();
    v = get_item(v, number ? integer(i) : arena.string(std::string(part)), arena);
  }
  return v;
}

Value call_method(const Function& f, const Args& args, Arena& arena) {
  arena.step();
  if (f.self.is_string()) arena.step(static_cast<int64_t>(f.self.str().size() / 64));
  return method_of(f.self, f.name)(f.self, args, arena);
}

}  // namespace pluq::chat
