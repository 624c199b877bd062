// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/regex_syntax.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/error.h"
#include "tokenizer/unicode.h"

namespace pluq {
namespace {

// Contents of character classes. PCRE2's own \s and \h take U+180E for a space, and its \w knows
// only letters, numbers and underscore; Oniguruma follows the Unicode properties.
constexpr std::string_view kSpace =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027})"
    R"(\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
constexpr std::string_view kWord =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";
constexpr std::string_view kHex = "0-9A-Fa-f";
constexpr std::string_view kNotHex = R"(\x{0}-\x{2f}\x{3a}-\x{40}\x{47}-\x{60}\x{67}-\x{10ffff})";

constexpr std::array<std::pair<std::string_view, std::string_view>, 37> kCategories = {{
    {"letter", "L"},
    {"casedletter", "L&"},
    {"uppercaseletter", "Lu"},
    {"lowercaseletter", "Ll"},
    {"titlecaseletter", "Lt"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"mark", "M"},
    {"combiningmark", "M"},
    {"nonspacingmark", "Mn"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"openpunctuation", "Ps"},
    {"closepunctuation", "Pe"},
    {"initialpunctuation", "Pi"},
    {"finalpunctuation", "Pf"},
    {"otherpunctuation", "Po"},
    {"symbol", "S"},
    {"mathsymbol", "Sm"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"spaceseparator", "Zs"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"other", "C"},
    {"control", "Cc"},
    {"format", "Cf"},
    {"privateuse", "Co"},
}};

// Properties that PCRE2 knows by the same name; any other name is taken for a script.
constexpr std::array<std::string_view, 22> kBinaryProperties = {"any",
                                                                "alphabetic",
                                                                "uppercase",
                                                                "lowercase",
                                                                "emoji",
                                                                "emojipresentation",
                                                                "emojimodifier",
                                                                "emojimodifierbase",
                                                                "emojicomponent",
                                                                "extendedpictographic",
                                                                "ideographic",
                                                                "math",
                                                                "dash",
                                                                "diacritic",
                                                                "extender",
                                                                "hexdigit",
                                                                "cased",
                                                                "caseignorable",
                                                                "idstart",
                                                                "idcontinue",
                                                                "xidstart",
                                                                "xidcontinue"};

char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
char ascii_upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'f'); }

class Translator {
 public:
  Translator(std::string_view pattern, std::string_view where) : in_(pattern), where_(where) {}

  std::string run() {
    while (pos_ < in_.size()) step();
    if (!groups_.empty()) refuse("an unclosed group", in_.size());
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what, size_t at) const {
    fail_input("{}: the pattern '{}' has {} at byte {}, which is not supported", where_,
               printable(in_), what, at);
  }
  bool starts(std::string_view text) const { return in_.substr(pos_).starts_with(text); }
  char peek() const { return pos_ < in_.size() ? in_[pos_] : '\0'; }
  void begin_atom() { atom_ = out_.size(); }

  void copy_char() {  // one code point, quoted when PCRE2 gives it a meaning
    const size_t start = pos_;
    next_char(in_, pos_);
    if (in_[start] == ']' || in_[start] == '}') out_ += '\\';
    out_ += in_.substr(start, pos_ - start);
  }

  void step() {
    const char c = in_[pos_];
    switch (c) {
      case '\\':
        begin_atom();
        escape(false);
        break;
      case '[':
        begin_atom();
        char_class();
        break;
      case '(':
        open_group();
        break;
      case ')':
        if (groups_.empty()) refuse("an unmatched ')'", pos_);
        atom_ = groups_.back();
        groups_.pop_back();
        out_ += in_[pos_++];
        break;
      case '*':
      case '+':
      case '?':
        out_ += in_[pos_++];
        if (peek() == '?' || peek() == '+') out_ += in_[pos_++];
        break;
      case '{':
        interval();
        break;
      default:
        begin_atom();
        copy_char();
    }
  }

  void open_group() {
    groups_.push_back(out_.size());
    const size_t start = pos_;
    if (starts("(*")) refuse("a verb '(*'", start);
    if (!starts("(?")) {
      out_ += in_[pos_++];
      return;
    }
    for (const std::string_view head : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!"}) {
      if (starts(head)) {
        out_ += head;
        pos_ += head.size();
        return;
      }
    }
    pos_ += 2;
    out_ += "(?";
    for (; pos_ < in_.size() && (in_[pos_] == 'i' || in_[pos_] == 'm' || in_[pos_] == '-');
         ++pos_) {
      out_ += in_[pos_] == 'm' ? 's' : in_[pos_];  // Ruby's m lets '.' match a newline
    }
    if (peek() == ')') groups_.pop_back();
    if (peek() != ')' && peek() != ':') refuse("a group of an unknown kind", start);
    out_ += in_[pos_++];
  }

  void interval() {
    size_t p = pos_ + 1;
    const auto digits = [&] {
      const size_t start = p;
      while (p < in_.size() && is_digit(in_[p])) ++p;
      return in_.substr(start, p - start);
    };
    const std::string_view low = digits();
    const bool comma = p < in_.size() && in_[p] == ',';
    if (comma) ++p;
    const std::string_view high = comma ? digits() : std::string_view();
    if (p >= in_.size() || in_[p] != '}' || (low.empty() && high.empty())) {
      begin_atom();
      out_ += "\\{";
      ++pos_;
      return;
    }
    pos_ = p + 1;
    const std::string counts = comma ? fmt::format("{{{},{}}}", low.empty() ? "0" : low, high)
                                     : fmt::format("{{{}}}", low);
    // In Ruby's syntax a '+' here repeats the interval, and '?' behind a fixed count makes it
    // optional; PCRE2 would take them for possessive and lazy.
    if (peek() == '+' || (peek() == '?' && !comma)) {
      out_.insert(atom_, "(?:");
      out_ += counts + ")" + in_[pos_++];
      return;
    }
    out_ += counts;
    if (peek() == '?') out_ += in_[pos_++];
  }

  // Puts a set given as class contents where one is expected.
  void emit_set(std::string_view contents, bool negated, bool in_class) {
    if (!in_class) {
      out_ += negated ? "[^" : "[";
      out_ += contents;
      out_ += ']';
      return;
    }
    out_ += contents;
    if (peek() == '-') {  // a set is no end of a range
      out_ += "\\-";
      ++pos_;
    }
  }

  void hex_escape(size_t max_digits, size_t start) {
    std::string digits;
    const bool braces = peek() == '{' && max_digits == 2;
    if (braces) {
      ++pos_;
      max_digits = 6;
    }
    while (digits.size() < max_digits && is_hex(peek())) digits += in_[pos_++];
    if (digits.empty() || (braces && peek() != '}')) refuse("an incomplete character code", start);
    if (braces) ++pos_;
    out_ += "\\x{" + digits + "}";
  }

  void property(bool negated, bool in_class, size_t start) {
    const size_t end = in_.find('}', pos_);
    if (peek() != '{' || end == std::string_view::npos) refuse("an incomplete property", start);
    std::string_view name = in_.substr(pos_ + 1, end - pos_ - 1);
    pos_ = end + 1;
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    std::string key;
    for (const char c : name) {
      if (c != ' ' && c != '_' && c != '-') key += ascii_lower(c);
    }
    if (key == "space" || key == "whitespace")
      return emit_set(negated ? kNotSpace : kSpace, false, in_class);
    if (key == "word" && !(negated && in_class)) return emit_set(kWord, negated, in_class);
    const auto known = std::find_if(kCategories.begin(), kCategories.end(),
                                    [&](const auto& entry) { return entry.first == key; });
    std::string pcre;
    if (known != kCategories.end()) {
      pcre = known->second;
    } else if (key.size() == 1 || key.size() == 2) {
      pcre = key;
      pcre[0] = ascii_upper(pcre[0]);
    } else if (key == "alpha" || key == "upper" || key == "lower") {
      pcre = key == "alpha" ? "Alphabetic" : key == "upper" ? "Uppercase" : "Lowercase";
    } else if (key == "digit") {
      pcre = "Nd";
    } else if (std::find(kBinaryProperties.begin(), kBinaryProperties.end(), key) !=
               kBinaryProperties.end()) {
      pcre = key;
    } else {
      pcre = "sc:" + key;  // without "sc:" PCRE2 would match script extensions
    }
    for (const char c : pcre) {
      if (!is_digit(c) && c != ':' && c != '&' &&
          !(ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z')) {
        refuse("an unknown property", start);
      }
    }
    out_ += (negated ? "\\P{" : "\\p{") + pcre + "}";
    if (in_class && peek() == '-') {
      out_ += "\\-";
      ++pos_;
    }
  }

  void escape(bool in_class) {
    const size_t start = pos_++;
    if (pos_ >= in_.size()) refuse("a trailing backslash", start);
    const char c = in_[pos_];
    if (static_cast<signed char>(c) < 0) return copy_char();
    ++pos_;
    switch (c) {
      case 's':
        return emit_set(kSpace, false, in_class);
      case 'S':
        return emit_set(kNotSpace, false, in_class);
      case 'h':
        return emit_set(kHex, false, in_class);
      case 'H':
        return emit_set(kNotHex, false, in_class);
      case 'd':
        return emit_set("\\p{Nd}", false, in_class);
      case 'D':
        return emit_set("\\P{Nd}", false, in_class);
      case 'w':
        return emit_set(kWord, false, in_class);
      case 'p':
        return property(false, in_class, start);
      case 'P':
        return property(true, in_class, start);
      case 'u':
        return hex_escape(4, start);
      case 'x':
        return hex_escape(2, start);
      case 'v':
        out_ += "\\x{b}";
        return;
      case 'n':
      case 't':
      case 'r':
      case 'f':
      case 'a':
      case 'e':
        out_ += '\\';
        out_ += c;
        return;
      default:
        break;
    }
    if (in_class) {
      if (c == 'b') {
        out_ += "\\x{8}";
        return;
      }
    } else {
      const std::string word = fmt::format("[{}]", kWord);
      switch (c) {
        case 'W':
          return emit_set(kWord, true, false);
        case 'b':
          out_ += fmt::format("(?:(?<={0})(?!{0})|(?<!{0})(?={0}))", word);
          return;
        case 'B':
          out_ += fmt::format("(?:(?<={0})(?={0})|(?<!{0})(?!{0}))", word);
          return;
        case 'A':
        case 'z':
        case 'Z':
        case 'R':
        case 'X':
          out_ += '\\';
          out_ += c;
          return;
        default:
          break;
      }
    }
    if (is_digit(c) || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z')) {
      refuse(fmt::format("the escape '\\{}'{}", c, in_class ? " in a class" : ""), start);
    }
    out_ += '\\';
    out_ += c;
  }

  void char_class() {
    const size_t start = pos_++;
    out_ += '[';
    if (peek() == '^') out_ += in_[pos_++];
    for (bool first = true;; first = false) {
      if (pos_ >= in_.size()) refuse("an unclosed character class", start);
      const char c = in_[pos_];
      if (c == ']' && !first) break;
      if (starts("[:")) {
        posix_set();
      } else if (c == '[') {
        refuse("a class inside a class", pos_);
      } else if (starts("&&")) {
        refuse("an intersection of classes '&&'", pos_);
      } else if (c == '\\') {
        escape(true);
      } else {
        copy_char();
      }
    }
    out_ += ']';
    ++pos_;
  }

  void posix_set() {
    const size_t start = pos_;
    const size_t end = in_.find(":]", pos_);
    const std::string_view name =
        end == std::string_view::npos ? "" : in_.substr(pos_ + 2, end - pos_ - 2);
    constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kSets = {{
        {"alpha", "\\p{Alphabetic}"},
        {"digit", "\\p{Nd}"},
        {"alnum", "\\p{Alphabetic}\\p{Nd}"},
        {"upper", "\\p{Uppercase}"},
        {"lower", "\\p{Lowercase}"},
        {"space", kSpace},
        {"word", kWord},
        {"xdigit", kHex},
    }};
    for (const auto& [key, contents] : kSets) {
      if (name == key) {
        pos_ = end + 2;
        return emit_set(contents, false, true);
      }
    }
    refuse("an unknown POSIX class", start);
  }

  std::string_view in_;
  std::string_view where_;
  size_t pos_ = 0;
  std::string out_;
  size_t atom_ = 0;             // where the last atom starts in out_
  std::vector<size_t> groups_;  // where the open groups start in out_
};

}  // namespace

std::string translate_regex(std::string_view pattern, std::string_view where) {
  constexpr size_t kMaxBytes = 16384;
  if (pattern.size() > kMaxBytes) {
    fail_input("{}: a pattern of {} bytes, at most {} are accepted", where, pattern.size(),
               kMaxBytes);
  }
  return Translator(pattern, where).run();
}

std::string quote_regex(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain = static_cast<signed char>(c) < 0 || is_digit(c) ||
                       (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
    if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\x{{{:x}}}", static_cast<unsigned>(c));
    } else {
      if (!plain) out += '\\';
      out += c;
    }
  }
  return out;
}

}  // namespace pluq
