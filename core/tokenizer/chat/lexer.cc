// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/chat/lexer.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "tokenizer/chat/text.h"
#include "tokenizer/unicode.h"

namespace pluq::chat {
namespace {

constexpr std::string_view kOperators[] = {"**", "//", "==", "!=", "<=", ">=", "+", "-", "*",
                                           "/",  "%",  "~",  "<",  ">",  "=",  "(", ")", "[",
                                           "]",  "{",  "}",  "|",  ".",  ",",  ":", ";"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool starts_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

std::string with_plain_newlines(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      if (i + 1 < source.size() && source[i + 1] == '\n') continue;
      out += '\n';
    } else {
      out += source[i];
    }
  }
  if (!out.empty() && out.back() == '\n')
    out.pop_back();  // one newline at the end of a file is not part of it
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)), s_(source_) {}

  std::vector<Token> run() {
    while (at_ < s_.size()) {
      const size_t tag = find_tag();
      text(tag);
      if (tag == std::string_view::npos) break;
      const char kind = s_[at_ + 1];
      at_ += 2;
      if (at_ < s_.size() && (s_[at_] == '-' || s_[at_] == '+')) ++at_;
      if (kind == '#')
        comment();
      else if (kind == '%' && raw())
        continue;
      else
        tag_body(kind == '%');
    }
    out_.push_back({TokenKind::kEnd, "", line_});
    return std::move(out_);
  }

 private:
  [[noreturn]] void fail(std::string text) const { throw SyntaxError{line_, std::move(text)}; }

  size_t find_tag() const {
    for (size_t i = at_; (i = s_.find('{', i)) != std::string_view::npos; ++i) {
      if (i + 1 < s_.size() && (s_[i + 1] == '%' || s_[i + 1] == '{' || s_[i + 1] == '#')) return i;
    }
    return std::string_view::npos;
  }

  // Emits the text up to `tag`, stripped as the tag and lstrip_blocks ask.
  void text(size_t tag) {
    std::string_view part = s_.substr(at_, tag == std::string_view::npos ? tag : tag - at_);
    const std::string_view whole = part;
    if (tag != std::string_view::npos)
      part = before_tag(part, s_[tag + 1], tag + 2 < s_.size() ? s_[tag + 2] : ' ');
    if (!part.empty()) out_.push_back({TokenKind::kText, std::string(part), line_});
    advance(whole.size());
  }

  std::string_view before_tag(std::string_view part, char kind, char sign) const {
    if (sign == '-') return strip(part, nullptr, false, true);
    if (sign == '+' || kind == '{') return part;
    const size_t newline = part.rfind('\n');
    if (newline == std::string_view::npos && !line_start_) return part;
    const size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    return strip(part.substr(begin), nullptr, true, false).empty() ? part.substr(0, begin) : part;
  }

  void advance(size_t n) {
    line_ += static_cast<int>(std::count(s_.begin() + static_cast<ptrdiff_t>(at_),
                                         s_.begin() + static_cast<ptrdiff_t>(at_ + n), '\n'));
    at_ += n;
  }

  // Behind the end of a tag: what `-`, `+` or trim_blocks remove.
  void after_tag(char sign, bool trim) {
    line_start_ = false;
    const size_t begin = at_;
    if (sign == '-') {
      advance(s_.size() - at_ - strip(s_.substr(at_), nullptr, true, false).size());
    } else if (trim && sign != '+' && at_ < s_.size() && s_[at_] == '\n') {
      advance(1);
    }
    line_start_ = at_ > begin && s_[at_ - 1] == '\n';
  }

  void comment() {
    const size_t end = s_.find("#}", at_);
    if (end == std::string_view::npos) fail("a comment {# has no #}");
    const char sign = end > at_ && (s_[end - 1] == '-' || s_[end - 1] == '+') ? s_[end - 1] : ' ';
    advance(end + 2 - at_);
    after_tag(sign, true);
  }

  // Skips spaces, a word and spaces at `from`; npos when it is not there.
  size_t past_word(size_t from, std::string_view word) const {
    const auto skip = [&](size_t i) {
      while (i < s_.size() && std::string_view(" \t\n").find(s_[i]) != std::string_view::npos) ++i;
      return i;
    };
    from = skip(from);
    return s_.substr(from, word.size()) == word ? skip(from + word.size()) : std::string_view::npos;
  }

  // Where a tag ends at `from`: its length with the sign, or 0.
  size_t tag_end(size_t from) const {
    if (s_.substr(from, 2) == "%}") return 2;
    if (s_.substr(from, 3) == "-%}" || s_.substr(from, 3) == "+%}") return 3;
    return 0;
  }

  // {% raw %} ... {% endraw %}; false when this tag is another one.
  bool raw() {
    const size_t open = past_word(at_, "raw");
    if (open == std::string_view::npos || tag_end(open) == 0) return false;
    const char open_sign = s_[open];
    advance(open + tag_end(open) - at_);
    after_tag(open_sign, true);
    for (size_t i = at_; (i = s_.find("{%", i)) != std::string_view::npos; ++i) {
      size_t inside = i + 2;
      const char sign = inside < s_.size() ? s_[inside] : ' ';
      if (sign == '-' || sign == '+') ++inside;
      const size_t close = past_word(inside, "endraw");
      if (close == std::string_view::npos || tag_end(close) == 0) continue;
      const std::string_view part = before_tag(s_.substr(at_, i - at_), '%', sign);
      if (!part.empty()) out_.push_back({TokenKind::kText, std::string(part), line_});
      const char close_sign = s_[close];
      advance(close + tag_end(close) - at_);
      after_tag(close_sign, true);
      return true;
    }
    fail("{% raw %} has no {% endraw %}");
  }

  void tag_body(bool block) {
    out_.push_back({block ? TokenKind::kBlockBegin : TokenKind::kPrintBegin, "", line_});
    const std::string_view close = block ? "%}" : "}}";
    std::vector<char> open;  // brackets, so that }} may end two mappings
    for (;;) {
      while (at_ < s_.size() &&
             std::string_view(" \t\n\v\f").find(s_[at_]) != std::string_view::npos)
        advance(1);
      if (at_ >= s_.size()) fail(fmt::format("a tag has no '{}'", close));
      const char c = s_[at_];
      const bool sign = (c == '-' || c == '+') && s_.substr(at_ + 1, 2) == close;
      if (open.empty() && (sign || s_.substr(at_, 2) == close)) {
        out_.push_back({block ? TokenKind::kBlockEnd : TokenKind::kPrintEnd, "", line_});
        advance(sign ? 3 : 2);
        return after_tag(sign ? c : ' ', block);
      }
      token(c, &open);
    }
  }

  void token(char c, std::vector<char>* open) {
    if (starts_name(c)) {
      size_t n = 1;
      while (at_ + n < s_.size() && (starts_name(s_[at_ + n]) || is_digit(s_[at_ + n]))) ++n;
      return emit(TokenKind::kName, n);
    }
    if (is_digit(c)) return number();
    if (c == '\'' || c == '"') return string(c);
    for (const std::string_view op : kOperators) {
      if (s_.substr(at_, op.size()) != op) continue;
      if (c == '(' || c == '[' || c == '{') open->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
      if (c == ')' || c == ']' || c == '}') {
        if (open->empty() || open->back() != c) {
          fail(open->empty() ? fmt::format("unexpected '{}'", c)
                             : fmt::format("unexpected '{}', expected '{}'", c, open->back()));
        }
        open->pop_back();
      }
      return emit(TokenKind::kOperator, op.size());
    }
    fail(fmt::format("unexpected character '{}'", printable(s_.substr(at_, 1))));
  }

  void emit(TokenKind kind, size_t n) {
    out_.push_back({kind, std::string(s_.substr(at_, n)), line_});
    at_ += n;
  }

  void number() {
    size_t n = 0;
    std::string digits;
    bool real = false;
    const auto run = [&] {
      while (at_ + n < s_.size() && (is_digit(s_[at_ + n]) || s_[at_ + n] == '_')) {
        if (s_[at_ + n] != '_') digits += s_[at_ + n];
        ++n;
      }
    };
    const auto at = [&](size_t i) { return at_ + i < s_.size() ? s_[at_ + i] : ' '; };
    run();
    if (at(n) == '.' && is_digit(at(n + 1))) {
      real = true;
      digits += '.', ++n;
      run();
    }
    if ((at(n) == 'e' || at(n) == 'E') &&
        (is_digit(at(n + 1)) || ((at(n + 1) == '-' || at(n + 1) == '+') && is_digit(at(n + 2))))) {
      real = true;
      digits += 'e', ++n;
      if (!is_digit(at(n))) digits += at(n), ++n;
      run();
    }
    out_.push_back({real ? TokenKind::kFloat : TokenKind::kInteger, std::move(digits), line_});
    at_ += n;
  }

  void string(char mark) {
    const int line = line_;
    std::string out;
    advance(1);
    while (at_ < s_.size() && s_[at_] != mark) {
      if (s_[at_] == '\\' && at_ + 1 < s_.size()) {
        escape(&out);
      } else {
        out += s_[at_];
        advance(1);
      }
    }
    if (at_ >= s_.size()) throw SyntaxError{line, fmt::format("a string has no closing {}", mark)};
    advance(1);
    out_.push_back({TokenKind::kString, sanitize_utf8(out), line});
  }

  void escape(std::string* out) {
    static constexpr std::string_view from = "nrtbfav0\\'\"", to("\n\r\t\b\f\a\v\0\\'\"", 11);
    const char c = s_[at_ + 1];
    const size_t known = from.find(c);
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (known != std::string_view::npos) {
      *out += to[known];
    } else if (digits > 0) {
      const std::string hex(s_.substr(at_ + 2, digits));
      if (hex.size() < digits ||
          hex.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
        fail(fmt::format("\\{} needs {} hexadecimal digits", c, digits));
      }
      const unsigned long code = std::stoul(hex, nullptr, 16);
      if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        fail(fmt::format("\\{}{} is not a character", c, hex));
      append_utf8(*out, static_cast<char32_t>(code));
    } else if (c != '\n') {  // a backslash before a newline joins lines
      *out += '\\';
      *out += c;
    }
    advance(2 + digits);
  }

  std::string source_;
  std::string_view s_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_start_ = true;  // the text that follows begins a line
  std::vector<Token> out_;
};

}  // namespace

std::vector<Token> tokenize_template(std::string_view source) {
  return Lexer(with_plain_newlines(source)).run();
}

}  // namespace pluq::chat
