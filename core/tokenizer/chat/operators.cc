// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/chat/operators.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "tokenizer/chat/builtins.h"
#include "tokenizer/chat/text.h"

namespace pluq::chat {
namespace {

[[noreturn]] void mismatch(std::string_view op, const Value& a, const Value& b) {
  for (const Value* v : {&a, &b}) {
    if (v->is_undefined()) throw std::invalid_argument(v->str());
  }
  throw std::invalid_argument(
      fmt::format("'{}' does not join {} and {}", op, type_name(a), type_name(b)));
}

Value repeat(const Value& v, int64_t times, Arena& arena) {
  const auto n = static_cast<size_t>(std::clamp<int64_t>(times, 0, int64_t{1} << 40));
  if (v.is_string()) {
    if (!v.str().empty())
      arena.check_string(n > arena.limits().string_bytes ? n : n * v.str().size());
    std::string out;
    for (size_t i = 0; i < n && !v.str().empty(); ++i) out += v.str();
    return arena.string(std::move(out));
  }
  const size_t count = v.list->items.size();
  List* list =
      arena.list(count == 0 ? 0 : std::min(n, (size_t{1} << 40) / count) * count, v.list->tuple);
  for (size_t i = 0; i < n && count > 0; ++i)
    list->items.insert(list->items.end(), v.list->items.begin(), v.list->items.end());
  return list_of(list);
}

Value power(int64_t base, int64_t exponent) {
  if (exponent < 0) return real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  if (base == 0 || base == 1 || base == -1)
    return integer(base == -1 ? (exponent % 2 == 0 ? 1 : -1) : exponent == 0 ? 1 : base);
  int64_t out = 1;
  for (int64_t i = 0; i < exponent; ++i) {
    if (__builtin_mul_overflow(out, base, &out))
      throw std::invalid_argument("'**' overflows an integer of 64 bits");
  }
  return integer(out);
}

Value integers(std::string_view op, int64_t a, int64_t b) {
  int64_t out = 0;
  bool overflow = false;
  if (op == "**") return power(a, b);
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &out);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &out);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &out);
  } else {
    if (b == 0) throw std::invalid_argument("division by zero");
    if (op == "/") return real(static_cast<double>(a) / static_cast<double>(b));
    if (b == -1) {
      overflow = a == INT64_MIN;
      out = overflow || op == "%" ? 0 : -a;
    } else {
      const int64_t r = a % b;
      const bool down = r != 0 && (r < 0) != (b < 0);  // Python rounds towards minus infinity
      out = op == "//" ? a / b - down : r + (down ? b : 0);
    }
  }
  if (overflow)
    throw std::invalid_argument(fmt::format("'{}' overflows an integer of 64 bits", op));
  return integer(out);
}

Value reals(std::string_view op, double a, double b) {
  if (op == "+") return real(a + b);
  if (op == "-") return real(a - b);
  if (op == "*") return real(a * b);
  if (op == "**") return real(std::pow(a, b));
  if (b == 0) throw std::invalid_argument("division by zero");
  if (op == "/") return real(a / b);
  if (op == "//") return real(std::floor(a / b));
  const double r = std::fmod(a, b);
  return real(r != 0 && (r < 0) != (b < 0) ? r + b : r);
}

}  // namespace

Value apply_operator(std::string_view op, const Value& a, const Value& b, Arena& arena) {
  if (op == "~") {
    std::string left = to_text(a, arena), right = to_text(b, arena);
    arena.check_string(left.size() + right.size());
    return arena.string(left + right);
  }
  if (a.is_number() && b.is_number()) {
    const bool whole = a.kind != Kind::kFloat && b.kind != Kind::kFloat;
    return whole ? integers(op, a.as_int(), b.as_int()) : reals(op, a.as_double(), b.as_double());
  }
  if (op == "+" && a.is_string() && b.is_string()) {
    arena.check_string(a.str().size() + b.str().size());
    return arena.string(a.str() + b.str());
  }
  if (op == "+" && a.is_list() && b.is_list() && a.list->tuple == b.list->tuple) {
    List* list = arena.list(a.list->items.size() + b.list->items.size(), a.list->tuple);
    for (const List* part : {a.list, b.list})
      list->items.insert(list->items.end(), part->items.begin(), part->items.end());
    return list_of(list);
  }
  if (op == "*") {
    const Value &x = a.is_number() ? b : a, &n = a.is_number() ? a : b;
    if ((x.is_string() || x.is_list()) && (n.kind == Kind::kInt || n.kind == Kind::kBool))
      return repeat(x, n.as_int(), arena);
  }
  if (op == "%" && a.is_string()) {
    std::vector<Value> args{b};
    if (b.is_list() && b.list->tuple) args = b.list->items;
    return arena.string(format_percent(a.str(), args, arena));
  }
  mismatch(op, a, b);
}

Value negate(const Value& v) {
  if (v.kind == Kind::kFloat) return real(-v.f);
  const int64_t i = need_int(v, "the operand of '-'");
  if (i == INT64_MIN) throw std::invalid_argument("'-' overflows an integer of 64 bits");
  return integer(-i);
}

Value slice(const Value& object, const Value* begin, const Value* end, const Value* step,
            Arena& arena) {
  if (object.is_undefined()) throw std::invalid_argument(object.str());
  if (!object.is_list() && !object.is_string())
    throw std::invalid_argument(fmt::format("{} cannot be sliced", type_name(object)));
  const int64_t count = object.is_list() ? static_cast<int64_t>(object.list->items.size())
                                         : text_length(object.str());
  const auto given = [](const Value* v) { return v != nullptr && !v->is_none(); };
  const int64_t by = given(step) ? need_int(*step, "the step of a slice") : 1;
  if (by == 0) throw std::invalid_argument("the step of a slice is 0");
  const int64_t low = by > 0 ? 0 : -1, high = by > 0 ? count : count - 1;
  const auto place = [&](const Value* v, int64_t otherwise) {
    if (!given(v)) return otherwise;
    const int64_t i = need_int(*v, "the bound of a slice");
    return std::clamp(i < 0 ? i + count : i, low, high);
  };
  const int64_t from = place(begin, by > 0 ? low : high), to = place(end, by > 0 ? high : low);
  if (object.is_string() && by == 1)
    return arena.string(std::string(text_range(object.str(), from, to)));
  const std::vector<Value> all = elements(object, arena);
  std::vector<Value> out;
  // The bounds are within the sequence, so a huge step is one step.
  const int64_t stride = std::clamp<int64_t>(by, -count - 1, count + 1);
  for (int64_t i = from; by > 0 ? i < to : i > to; i += stride)
    out.push_back(all[static_cast<size_t>(i)]);
  if (object.is_list()) return arena.list_value(std::move(out), object.list->tuple);
  std::string text;
  for (const Value& v : out) text += v.str();
  return arena.string(std::move(text));
}

}  // namespace pluq::chat
