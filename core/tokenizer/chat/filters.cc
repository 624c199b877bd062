// SPDX-License-Identifier: Apache-2.0
// The filters and tests of chat templates.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <stdexcept>

#include "tokenizer/chat/builtins.h"
#include "tokenizer/chat/parser.h"
#include "tokenizer/chat/text.h"
#include "tokenizer/unicode.h"

namespace pluq::chat {
namespace {

using Filter = Value (*)(const Value& in, const Args& args, Arena& arena);
using Test = bool (*)(const Value& in, const Args& args, Arena& arena);

struct NamedFilter {
  std::string_view name;
  Filter apply;
};
struct NamedTest {
  std::string_view name;
  Test apply;
};

Value length(const Value& in, const Args&, Arena&) {
  switch (in.kind) {
    case Kind::kString:
      return integer(text_length(in.str()));
    case Kind::kList:
      return integer(static_cast<int64_t>(in.list->items.size()));
    case Kind::kDict:
      return integer(static_cast<int64_t>(in.dict->items.size()));
    case Kind::kUndefined:
      return integer(0);
    default:
      throw std::invalid_argument(fmt::format("{} has no length", type_name(in)));
  }
}

Value default_value(const Value& in, const Args& args, Arena& arena) {
  if (!in.is_undefined() && !(args.flag(1, "boolean", false) && !truth(in))) return in;
  const Value* other = args.find(0, "default_value");
  return other != nullptr ? *other : arena.string("");
}

Value join(const Value& in, const Args& args, Arena& arena) {
  const Value* glue = args.find(0, "d");
  const std::string between = glue != nullptr ? to_text(*glue, arena) : "";
  const std::string attribute = args.text(1, "attribute", "");
  std::string out;
  bool first = true;
  for (const Value& v : elements(in, arena)) {
    if (!first) out += between;
    first = false;
    out += to_text(attribute.empty() ? v : get_path(v, attribute, arena), arena);
    arena.check_string(out.size());
  }
  return arena.string(std::move(out));
}

Value first(const Value& in, const Args&, Arena& arena) {
  const std::vector<Value> all = elements(in, arena);
  return all.empty() ? undefined("the first of an empty sequence") : all.front();
}

Value last(const Value& in, const Args&, Arena& arena) {
  const std::vector<Value> all = elements(in, arena);
  return all.empty() ? undefined("the last of an empty sequence") : all.back();
}

Value reverse(const Value& in, const Args&, Arena& arena) {
  std::vector<Value> all = elements(in, arena);
  std::reverse(all.begin(), all.end());
  if (!in.is_string()) return arena.list_value(std::move(all));
  std::string out;
  for (const Value& v : all) out += v.str();
  return arena.string(std::move(out));
}

Value title_words(const Value& in, const Args&, Arena& arena) {
  std::string out;
  bool start = true;
  const std::string s = to_text(in, arena);
  for (const std::string_view c : characters(s)) {
    size_t at = 0;
    const bool gap =
        is_space(next_char(c, at)) || std::string_view("-({[<").find(c) != std::string_view::npos;
    out += gap ? std::string(c) : start ? upper(c) : lower(c);
    start = gap;
  }
  return arena.string(std::move(out));
}

Value indent(const Value& in, const Args& args, Arena& arena) {
  const Value* width = args.find(0, "width");
  const int64_t count = width == nullptr     ? 4
                        : width->is_string() ? 0
                                             : need_int(*width, "'width' of indent");
  if (count > 1000)
    throw std::invalid_argument(
        fmt::format("'width' of indent is {}, at most 1000 is accepted", count));
  const std::string pad = width != nullptr && width->is_string()
                              ? width->str()
                              : std::string(static_cast<size_t>(std::max<int64_t>(count, 0)), ' ');
  const bool pad_first = args.flag(1, "first", false), pad_blank = args.flag(2, "blank", false);
  const std::string s = to_text(in, arena) + "\n";
  std::string out;
  bool at_first = true;
  for (const std::string_view line : split_lines(s)) {
    if (!at_first) out += '\n';
    if (at_first ? pad_first : pad_blank || !line.empty()) out += pad;
    at_first = false;
    out += line;
    arena.check_string(out.size());
  }
  return arena.string(std::move(out));
}

std::string ascii_json(const std::string& s) {
  std::string out;
  for (size_t at = 0; at < s.size();) {
    const char32_t c = next_char(s, at);
    if (c < 128)
      out += static_cast<char>(c);
    else if (c < 0x10000)
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c));
    else
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD7C0 + (static_cast<uint32_t>(c) >> 10),
                         0xDC00 + (static_cast<uint32_t>(c) & 0x3FF));
  }
  return out;
}

// The arguments of transformers' own tojson: ensure_ascii, indent, separators, sort_keys.
Value tojson(const Value& in, const Args& args, Arena& arena) {
  args.at_most(4);
  const int64_t indent = args.integer(1, "indent", -1);
  if (indent > 100)
    throw std::invalid_argument(
        fmt::format("'indent' of tojson is {}, at most 100 is accepted", indent));
  std::string comma = indent < 0 ? ", " : ",", colon = ": ";
  if (const Value* pair = args.find(2, "separators"); pair != nullptr && !pair->is_none()) {
    const bool ok = pair->is_list() && pair->list->items.size() == 2 &&
                    pair->list->items[0].is_string() && pair->list->items[1].is_string();
    if (!ok) throw std::invalid_argument("'separators' of tojson is not a pair of strings");
    comma = pair->list->items[0].str();
    colon = pair->list->items[1].str();
  }
  std::string out = to_json(in, indent, args.flag(3, "sort_keys", false), comma, colon, arena);
  return arena.string(args.flag(0, "ensure_ascii", false) ? ascii_json(out) : std::move(out));
}

std::string trimmed(const Value& v, Arena& arena) {
  return std::string(strip(to_text(v, arena), nullptr, true, true));
}

Value to_int(const Value& in, const Args& args, Arena& arena) {
  const int64_t otherwise = args.integer(0, "default", 0);
  const int64_t base = args.integer(1, "base", 10);
  if (base < 2 || base > 36)
    throw std::invalid_argument(fmt::format("'base' of int is {}, accepted are 2 to 36", base));
  if (in.kind == Kind::kInt || in.kind == Kind::kBool) return integer(in.as_int());
  double f = in.kind == Kind::kFloat ? in.f : NAN;
  if (in.is_string()) {
    const std::string s = trimmed(in, arena);
    const char* begin = s.data() + (s.size() > 1 && s[0] == '+' ? 1 : 0);
    int64_t i = 0;
    const auto r = std::from_chars(begin, s.data() + s.size(), i, static_cast<int>(base));
    if (r.ec == std::errc() && r.ptr == s.data() + s.size() && !s.empty()) return integer(i);
    const auto q = std::from_chars(begin, s.data() + s.size(), f);
    if (q.ec != std::errc() || q.ptr != s.data() + s.size()) f = NAN;
  }
  return integer(f > -9e18 && f < 9e18 ? static_cast<int64_t>(f) : otherwise);
}

Value to_float(const Value& in, const Args& args, Arena& arena) {
  if (in.is_number()) return real(in.as_double());
  const Value* otherwise = args.find(0, "default");
  if (in.is_string()) {
    const std::string s = trimmed(in, arena);
    double f = 0;
    const auto r =
        std::from_chars(s.data() + (s.size() > 1 && s[0] == '+' ? 1 : 0), s.data() + s.size(), f);
    if (r.ec == std::errc() && r.ptr == s.data() + s.size() && !s.empty()) return real(f);
  }
  return otherwise != nullptr ? *otherwise : real(0);
}

Value round_number(const Value& in, const Args& args, Arena&) {
  if (!in.is_number()) throw std::invalid_argument(fmt::format("round is given {}", type_name(in)));
  const int64_t precision = args.integer(0, "precision", 0);
  const std::string method = args.text(1, "method", "common");
  if (precision < -15 || precision > 15)
    throw std::invalid_argument(
        fmt::format("'precision' of round is {}, accepted are -15 to 15", precision));
  const double f = in.as_double(), scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return real(std::ceil(f * scale) / scale);
  if (method == "floor") return real(std::floor(f * scale) / scale);
  if (method != "common")
    throw std::invalid_argument(
        fmt::format("'method' of round is '{}', accepted are common, ceil, floor", method));
  if (precision <= 0) return real(std::nearbyint(f * scale) / scale);
  return real(std::strtod(fmt::format("{:.{}f}", f, precision).c_str(),
                          nullptr));  // decimal digits, as Python rounds
}

Value absolute(const Value& in, const Args&, Arena&) {
  if (in.kind == Kind::kFloat) return real(std::fabs(in.f));
  const int64_t i = need_int(in, "abs");
  if (i == INT64_MIN) throw std::invalid_argument("abs overflows");
  return integer(i < 0 ? -i : i);
}

// By what sort, unique, min and max compare: an attribute, and strings without case unless asked.
Value sort_key(const Value& v, const std::string& attribute, bool with_case, Arena& arena) {
  Value key = attribute.empty() ? v : get_path(v, attribute, arena);
  return key.is_string() && !with_case ? arena.string(lower(key.str())) : key;
}

Value sort(const Value& in, const Args& args, Arena& arena) {
  const bool backwards = args.flag(0, "reverse", false),
             with_case = args.flag(1, "case_sensitive", false);
  const std::string attribute = args.text(2, "attribute", "");
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& v : elements(in, arena))
    keyed.emplace_back(sort_key(v, attribute, with_case, arena), v);
  // Equal elements keep their order in both directions, as in Python. Merged from the bottom up:
  // safe with keys that have no consistent order (NaN), unlike std::sort.
  const auto before = [&](const auto& a, const auto& b) {
    return backwards ? compare(b.first, a.first, arena) < 0 : compare(a.first, b.first, arena) < 0;
  };
  std::vector<std::pair<Value, Value>> merged(keyed.size());
  for (size_t width = 1; width < keyed.size(); width *= 2) {
    for (size_t i = 0; i < keyed.size(); i += 2 * width) {
      const auto place = [&](size_t at) {
        return keyed.begin() + static_cast<ptrdiff_t>(std::min(at, keyed.size()));
      };
      std::merge(place(i), place(i + width), place(i + width), place(i + 2 * width),
                 merged.begin() + static_cast<ptrdiff_t>(i), before);
    }
    keyed.swap(merged);
  }
  std::vector<Value> out;
  for (auto& [key, v] : keyed) out.push_back(std::move(v));
  return arena.list_value(std::move(out));
}

Value unique(const Value& in, const Args& args, Arena& arena) {
  const bool with_case = args.flag(0, "case_sensitive", false);
  const std::string attribute = args.text(1, "attribute", "");
  std::vector<Value> keys, out;
  for (Value& v : elements(in, arena)) {
    Value key = sort_key(v, attribute, with_case, arena);
    if (std::any_of(keys.begin(), keys.end(), [&](const Value& k) { return equal(k, key, arena); }))
      continue;
    keys.push_back(std::move(key));
    out.push_back(std::move(v));
  }
  return arena.list_value(std::move(out));
}

template <int kSign>
Value extreme(const Value& in, const Args& args, Arena& arena) {
  const bool with_case = args.flag(0, "case_sensitive", false);
  const std::string attribute = args.text(1, "attribute", "");
  const std::vector<Value> all = elements(in, arena);
  if (all.empty()) return undefined("the extreme of an empty sequence");
  const Value* best = &all[0];
  for (const Value& v : all) {
    if (kSign * compare(sort_key(v, attribute, with_case, arena),
                        sort_key(*best, attribute, with_case, arena), arena) >
        0)
      best = &v;
  }
  return *best;
}

Value sum(const Value& in, const Args& args, Arena& arena) {
  const std::string attribute = args.text(0, "attribute", "");
  const Value* start = args.find(1, "start");
  Value total = start != nullptr ? *start : integer(0);
  for (const Value& v : elements(in, arena)) {
    const Value x = attribute.empty() ? v : get_path(v, attribute, arena);
    if (!x.is_number() || !total.is_number())
      throw std::invalid_argument(fmt::format("sum is given {}", type_name(x)));
    int64_t i = 0;
    if (x.kind == Kind::kFloat || total.kind == Kind::kFloat) {
      total = real(total.as_double() + x.as_double());
    } else if (!__builtin_add_overflow(total.as_int(), x.as_int(), &i)) {
      total = integer(i);
    } else {
      throw std::invalid_argument("sum overflows");
    }
  }
  return total;
}

Value dict_items(const Value& in, Arena& arena) {
  std::vector<Value> out;
  if (in.is_undefined()) return arena.list_value({});
  if (!in.is_dict())
    throw std::invalid_argument(
        fmt::format("items is given {}, expected a mapping", type_name(in)));
  for (const auto& [key, value] : in.dict->items)
    out.push_back(arena.list_value({arena.string(key), value}, true));
  return arena.list_value(std::move(out));
}

Value dictsort(const Value& in, const Args& args, Arena& arena) {
  const bool with_case = args.flag(0, "case_sensitive", false),
             backwards = args.flag(2, "reverse", false);
  const std::string by = args.text(1, "by", "key");
  if (by != "key" && by != "value")
    throw std::invalid_argument("'by' of dictsort is neither 'key' nor 'value'");
  Args sorting;
  sorting.callee = "dictsort";
  sorting.positional = {boolean(backwards), boolean(with_case),
                        arena.string(by == "key" ? "0" : "1")};
  return sort(dict_items(in, arena), sorting, arena);
}

Args rest_of(const Args& args, size_t from, std::string_view callee) {
  Args rest;
  rest.callee = callee;
  if (args.positional.size() > from)
    rest.positional.assign(args.positional.begin() + static_cast<ptrdiff_t>(from),
                           args.positional.end());
  rest.named = args.named;
  return rest;
}

Value map(const Value& in, const Args& args, Arena& arena) {
  std::vector<Value> out;
  if (args.positional.empty()) {
    const std::string path = to_text(args.need(0, "attribute"), arena);
    const Value* otherwise = args.find(1, "default");
    for (const Value& v : elements(in, arena)) {
      Value found = get_path(v, path, arena);
      out.push_back(found.is_undefined() && otherwise != nullptr ? *otherwise : std::move(found));
    }
  } else {
    const std::string filter = args.text(0, "filter", "");
    if (!is_filter(filter))
      throw std::invalid_argument(fmt::format("map: there is no filter '{}'", filter));
    const Args rest = rest_of(args, 1, filter);
    for (const Value& v : elements(in, arena)) out.push_back(apply_filter(filter, v, rest, arena));
  }
  return arena.list_value(std::move(out));
}

// select, reject and, with an attribute first, selectattr and rejectattr.
Value choose(const Value& in, const Args& args, Arena& arena, bool by_attribute, bool keep) {
  const std::string path = by_attribute ? to_text(args.need(0, "attribute"), arena) : "";
  const size_t at = by_attribute ? 1 : 0;
  const std::string test = args.text(at, "test", "");
  if (!test.empty() && !is_test(test))
    throw std::invalid_argument(fmt::format("{}: there is no test '{}'", args.callee, test));
  const Args rest = rest_of(args, at + 1, test);
  std::vector<Value> out;
  for (Value& v : elements(in, arena)) {
    const Value x = by_attribute ? get_path(v, path, arena) : v;
    if ((test.empty() ? truth(x) : apply_test(test, x, rest, arena)) == keep)
      out.push_back(std::move(v));
  }
  return arena.list_value(std::move(out));
}

template <std::string (*kMap)(std::string_view)>
Value mapped(const Value& in, const Args&, Arena& arena) {
  return arena.string(kMap(to_text(in, arena)));
}

std::string escaped(std::string_view s) {
  std::string out;
  for (const char c : s) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&#34;";
    else if (c == '\'')
      out += "&#39;";
    else
      out += c;
  }
  return out;
}

Value trim(const Value& in, const Args& args, Arena& arena) {
  const std::string chars = args.text(0, "chars", "");
  return arena.string(
      std::string(strip(to_text(in, arena), chars.empty() ? nullptr : &chars, true, true)));
}

Value replace_filter(const Value& in, const Args& args, Arena& arena) {
  return arena.string(replace(to_text(in, arena), to_text(args.need(0, "old"), arena),
                              to_text(args.need(1, "new"), arena), args.integer(2, "count", -1),
                              arena.limits().string_bytes));
}

constexpr NamedFilter kFilters[] = {
    {"abs", absolute},
    {"capitalize", mapped<capitalize>},
    {"count", length},
    {"d", default_value},
    {"default", default_value},
    {"dictsort", dictsort},
    {"e", mapped<escaped>},
    {"escape", mapped<escaped>},
    {"first", first},
    {"float", to_float},
    {"format",
     [](const Value& in, const Args& args, Arena& arena) {
       return arena.string(format_percent(to_text(in, arena), args.positional, arena));
     }},
    {"indent", indent},
    {"int", to_int},
    {"items", [](const Value& in, const Args&, Arena& arena) { return dict_items(in, arena); }},
    {"join", join},
    {"last", last},
    {"length", length},
    {"list", [](const Value& in, const Args&,
                Arena& arena) { return arena.list_value(elements(in, arena)); }},
    {"lower", mapped<lower>},
    {"map", map},
    {"max", extreme<1>},
    {"min", extreme<-1>},
    {"reject", [](const Value& in, const Args& args,
                  Arena& arena) { return choose(in, args, arena, false, false); }},
    {"rejectattr", [](const Value& in, const Args& args,
                      Arena& arena) { return choose(in, args, arena, true, false); }},
    {"replace", replace_filter},
    {"reverse", reverse},
    {"round", round_number},
    {"safe",
     [](const Value& in, const Args&, Arena& arena) { return arena.string(to_text(in, arena)); }},
    {"select", [](const Value& in, const Args& args,
                  Arena& arena) { return choose(in, args, arena, false, true); }},
    {"selectattr", [](const Value& in, const Args& args,
                      Arena& arena) { return choose(in, args, arena, true, true); }},
    {"sort", sort},
    {"string",
     [](const Value& in, const Args&, Arena& arena) { return arena.string(to_text(in, arena)); }},
    {"sum", sum},
    {"title", title_words},
    {"tojson", tojson},
    {"trim", trim},
    {"unique", unique},
    {"upper", mapped<upper>},
};

template <int kLow, int kHigh>
bool ordered(const Value& in, const Args& args, Arena& arena) {
  const int c = compare(in, args.need(0, "other"), arena);
  return (c > 0) - (c < 0) >= kLow && (c > 0) - (c < 0) <= kHigh;
}
bool same(const Value& in, const Args& args, Arena& arena) {
  return equal(in, args.need(0, "other"), arena);
}
bool differs(const Value& in, const Args& args, Arena& arena) { return !same(in, args, arena); }
bool is_kind_of(const Value& v, Kind k) { return v.kind == k; }
template <Kind kKind>
bool of_kind(const Value& in, const Args&, Arena&) {
  return is_kind_of(in, kKind);
}
template <bool kWanted>
bool is_bool(const Value& in, const Args&, Arena&) {
  return in.kind == Kind::kBool && in.b == kWanted;
}
bool is_sequence(const Value& in, const Args&, Arena&) {
  return in.is_string() || in.is_list() || in.is_dict() || in.is_undefined();
}
int64_t remainder(const Value& in, int64_t by) {
  if (by == 0) throw std::invalid_argument("divisibleby is given 0");
  return by == -1 ? 0 : need_int(in, "the number") % by;
}

constexpr NamedTest kTests[] = {
    {"boolean", of_kind<Kind::kBool>},
    {"callable", of_kind<Kind::kFunction>},
    {"defined", [](const Value& in, const Args&, Arena&) { return !in.is_undefined(); }},
    {"divisibleby",
     [](const Value& in, const Args& args, Arena&) {
       return remainder(in, need_int(args.need(0, "num"), "divisibleby")) == 0;
     }},
    {"eq", same},
    {"equalto", same},
    {"even", [](const Value& in, const Args&, Arena&) { return remainder(in, 2) == 0; }},
    {"false", is_bool<false>},
    {"float", of_kind<Kind::kFloat>},
    {"ge", ordered<0, 1>},
    {"greaterthan", ordered<1, 1>},
    {"gt", ordered<1, 1>},
    {"in", [](const Value& in, const Args& args,
              Arena& arena) { return contains(args.need(0, "seq"), in, arena); }},
    {"integer", of_kind<Kind::kInt>},
    {"iterable", is_sequence},
    {"le", ordered<-1, 0>},
    {"lessthan", ordered<-1, -1>},
    {"lower",
     [](const Value& in, const Args&, Arena& arena) {
       const std::string s = to_text(in, arena);
       return lower(s) == s && upper(s) != s;
     }},
    {"lt", ordered<-1, -1>},
    {"mapping", of_kind<Kind::kDict>},
    {"ne", differs},
    {"none", of_kind<Kind::kNone>},
    {"number", [](const Value& in, const Args&, Arena&) { return in.is_number(); }},
    {"odd", [](const Value& in, const Args&, Arena&) { return remainder(in, 2) != 0; }},
    {"sameas",
     [](const Value& in, const Args& args, Arena& arena) {
       return in.kind == args.need(0, "other").kind && same(in, args, arena);
     }},
    {"sequence", is_sequence},
    {"string", of_kind<Kind::kString>},
    {"true", is_bool<true>},
    {"undefined", of_kind<Kind::kUndefined>},
    {"upper",
     [](const Value& in, const Args&, Arena& arena) {
       const std::string s = to_text(in, arena);
       return upper(s) == s && lower(s) != s;
     }},
};

template <class Table>
auto find_in(const Table& table, std::string_view name) {
  const auto it = std::find_if(std::begin(table), std::end(table),
                               [&](const auto& entry) { return entry.name == name; });
  return it == std::end(table) ? nullptr : it->apply;
}

}  // namespace

bool is_filter(std::string_view name) { return find_in(kFilters, name) != nullptr; }
bool is_test(std::string_view name) { return find_in(kTests, name) != nullptr; }

Value apply_filter(std::string_view name, const Value& input, const Args& args, Arena& arena) {
  arena.step();
  return find_in(kFilters, name)(input, args, arena);
}

bool apply_test(std::string_view name, const Value& input, const Args& args, Arena& arena) {
  arena.step();
  return find_in(kTests, name)(input, args, arena);
}

}  // namespace pluq::chat
