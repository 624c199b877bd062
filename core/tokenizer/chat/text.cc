// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/chat/text.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "tokenizer/unicode.h"

namespace pluq::chat {
namespace {

bool continues(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Bytes from the start of code point `n` on.
size_t offset(std::string_view s, int64_t n) {
  size_t at = 0;
  while (n > 0 && at < s.size()) {
    ++at;
    while (at < s.size() && continues(s[at])) ++at;
    --n;
  }
  return at;
}

// White space of Python's str.strip: White_Space and the four separators of ASCII.
bool python_space(char32_t c) { return is_space(c) || (c >= 0x1C && c <= 0x1F); }

template <class Map>
std::string mapped(std::string_view s, Map map) {
  std::string out;
  out.reserve(s.size());
  for (size_t at = 0; at < s.size();) append_utf8(out, map(next_char(s, at)));
  return out;
}

char32_t up(char32_t c) {
  return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}
char32_t down(char32_t c) {
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}
char32_t head(char32_t c) {
  return static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c)));
}

std::vector<std::string_view> split_at_spaces(std::string_view s, int64_t most) {
  std::vector<std::string_view> out;
  s = strip(s, nullptr, true, false);
  while (!s.empty()) {
    if (most >= 0 && static_cast<int64_t>(out.size()) == most) {
      out.push_back(s);
      break;
    }
    size_t at = 0, end = 0;
    while (at < s.size() && !python_space(next_char(s, at))) end = at;
    out.push_back(s.substr(0, end));
    s = strip(s.substr(end), nullptr, true, false);
  }
  return out;
}

std::vector<std::string_view> rsplit_at_spaces(std::string_view s, int64_t most) {
  std::vector<std::string_view> out;
  s = strip(s, nullptr, false, true);
  while (!s.empty()) {
    if (static_cast<int64_t>(out.size()) == most) {
      out.push_back(s);
      break;
    }
    size_t at = s.size(), begin = s.size();
    while (at > 0 && !python_space(previous_char(s, at))) begin = at;
    out.push_back(s.substr(begin));
    s = strip(s.substr(0, begin), nullptr, false, true);
  }
  std::reverse(out.begin(), out.end());
  return out;
}

}  // namespace

int64_t text_length(std::string_view s) {
  return static_cast<int64_t>(s.size()) - std::count_if(s.begin(), s.end(), continues);
}

std::string_view text_range(std::string_view s, int64_t begin, int64_t end) {
  if (end <= begin) return {};
  s.remove_prefix(offset(s, begin));
  return s.substr(0, offset(s, end - begin));
}

std::vector<std::string_view> characters(std::string_view s) {
  std::vector<std::string_view> out;
  for (size_t at = 0; at < s.size();) {
    const size_t begin = at;
    next_char(s, at);
    out.push_back(s.substr(begin, at - begin));
  }
  return out;
}

std::string upper(std::string_view s) {
  std::string out;
  for (size_t at = 0; at < s.size();) {
    const char32_t c = next_char(s, at);
    if (c == 0xDF) {
      out += "SS";  // sharp s has no capital of one letter
    } else {
      append_utf8(out, up(c));
    }
  }
  return out;
}

std::string lower(std::string_view s) { return mapped(s, down); }

std::string capitalize(std::string_view s) {
  bool first = true;
  return mapped(s, [&](char32_t c) { return std::exchange(first, false) ? head(c) : down(c); });
}

bool is_letter(char32_t c) {
  const utf8proc_category_t k = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

std::string title(std::string_view s) {
  bool inside = false;
  return mapped(s, [&](char32_t c) {
    const char32_t out = inside ? down(c) : head(c);
    inside = is_letter(c) && (up(c) != c || down(c) != c);
    return out;
  });
}

std::string_view strip(std::string_view s, const std::string* chars, bool left, bool right) {
  const auto drop = [&](std::string_view one) {
    size_t at = 0;
    return chars != nullptr ? chars->find(one) != std::string::npos
                            : python_space(next_char(one, at));
  };
  while (left && !s.empty()) {
    size_t at = 0;
    next_char(s, at);
    if (!drop(s.substr(0, at))) break;
    s.remove_prefix(at);
  }
  while (right && !s.empty()) {
    size_t at = s.size();
    previous_char(s, at);
    if (!drop(s.substr(at))) break;
    s.remove_suffix(s.size() - at);
  }
  return s;
}

std::vector<std::string_view> split(std::string_view s, const std::string* separator, int64_t most,
                                    bool from_right) {
  if (separator == nullptr)
    return from_right && most >= 0 ? rsplit_at_spaces(s, most) : split_at_spaces(s, most);
  if (separator->empty()) throw std::invalid_argument("the separator of split is empty");
  std::vector<std::string_view> out;
  if (from_right) {
    while (most < 0 || static_cast<int64_t>(out.size()) < most) {
      const size_t at = s.rfind(*separator);
      if (at == std::string_view::npos) break;
      out.push_back(s.substr(at + separator->size()));
      s = s.substr(0, at);
    }
    out.push_back(s);
    std::reverse(out.begin(), out.end());
    return out;
  }
  while (most < 0 || static_cast<int64_t>(out.size()) < most) {
    const size_t at = s.find(*separator);
    if (at == std::string_view::npos) break;
    out.push_back(s.substr(0, at));
    s.remove_prefix(at + separator->size());
  }
  out.push_back(s);
  return out;
}

std::vector<std::string_view> split_lines(std::string_view s) {
  std::vector<std::string_view> out;
  while (!s.empty()) {
    const size_t at = s.find_first_of("\r\n");
    out.push_back(s.substr(0, at));
    if (at == std::string_view::npos) break;
    s.remove_prefix(at + (s.substr(at, 2) == "\r\n" ? 2 : 1));
  }
  return out;
}

std::string replace(std::string_view s, std::string_view from, std::string_view to, int64_t most,
                    size_t max_bytes) {
  std::string out;
  const auto add = [&](std::string_view part) {
    if (part.size() > max_bytes - out.size()) {
      throw std::length_error(
          fmt::format("the template makes a text of more than {} MiB", max_bytes >> 20));
    }
    out += part;
  };
  if (from.empty()) {  // between all characters
    for (const std::string_view c : characters(s)) {
      if (most != 0) add(to), --most;
      add(c);
    }
    if (most != 0) add(to);
    return out;
  }
  for (; most != 0; --most) {
    const size_t at = s.find(from);
    if (at == std::string_view::npos) break;
    add(s.substr(0, at));
    add(to);
    s.remove_prefix(at + from.size());
  }
  add(s);
  return out;
}

std::string quoted(std::string_view s) {
  const char mark =
      s.find('\'') != std::string_view::npos && s.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, mark);
  for (const char c : s) {
    if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\t')
      out += "\\t";
    else if (c == '\\')
      out += "\\\\";
    else if (c == mark)
      (out += '\\') += c;
    else if (static_cast<unsigned char>(c) < 32 || c == 127)
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    else
      out += c;
  }
  return out + mark;
}

std::string json_quoted(std::string_view s) {
  std::string out = "\"";
  for (const char c : s) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 32)
          out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
        else
          out += c;
    }
  }
  return out + '"';
}

}  // namespace pluq::chat
