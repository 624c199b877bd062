// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/error.h"

namespace pluq {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<signed char>(c) >= 0; });
}

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

int combining_class(utf8proc_int32_t c) {
  return static_cast<int>(utf8proc_get_property(c)->combining_class);
}

// Sorts a run of non-starters by combining class (0..255), keeping the order of equal ones: a
// counting sort.
void order_run(utf8proc_int32_t* run, size_t count, std::vector<utf8proc_int32_t>& scratch) {
  if (count < 2) return;
  std::array<size_t, 257> start{};
  for (size_t i = 0; i < count; ++i) ++start[static_cast<size_t>(combining_class(run[i])) + 1];
  for (size_t k = 1; k < start.size(); ++k) start[k] += start[k - 1];
  scratch.resize(count);
  for (size_t i = 0; i < count; ++i)
    scratch[start[static_cast<size_t>(combining_class(run[i]))]++] = run[i];
  std::copy(scratch.begin(), scratch.end(), run);
}

// Canonical ordering in linear time. utf8proc's own loop swaps neighbours and is quadratic in a
// run's length.
void order_marks(std::vector<utf8proc_int32_t>& chars) {
  std::vector<utf8proc_int32_t> scratch;
  for (size_t i = 0; i < chars.size();) {
    size_t end = i;
    while (end < chars.size() && combining_class(chars[end]) != 0) ++end;
    order_run(chars.data() + i, end - i, scratch);
    i = end + 1;
  }
}

}  // namespace

void Utf8Repair::accept(unsigned char byte, std::string& out) {
  if (wanted_ == 0) {
    low_ = 0x80;
    high_ = 0xBF;
    if (byte < 0x80) {
      out.push_back(static_cast<char>(byte));
      return;
    }
    if (byte >= 0xC2 && byte <= 0xDF) {
      wanted_ = 2;
    } else if (byte >= 0xE0 && byte <= 0xEF) {
      wanted_ = 3;
      if (byte == 0xE0) low_ = 0xA0;   // no overlong forms
      if (byte == 0xED) high_ = 0x9F;  // no surrogates
    } else if (byte >= 0xF0 && byte <= 0xF4) {
      wanted_ = 4;
      if (byte == 0xF0) low_ = 0x90;
      if (byte == 0xF4) high_ = 0x8F;  // nothing above U+10FFFF
    } else {
      out.append(kReplacement);
      return;
    }
    held_[0] = static_cast<char>(byte);
    held_count_ = 1;
    return;
  }
  if (byte < low_ || byte > high_) {
    finish(out);
    accept(byte, out);  // one level: wanted_ is 0 now
    return;
  }
  low_ = 0x80;
  high_ = 0xBF;
  held_[held_count_++] = static_cast<char>(byte);
  if (held_count_ == wanted_) {
    out.append(held_, static_cast<size_t>(held_count_));
    wanted_ = held_count_ = 0;
  }
}

void Utf8Repair::push(std::string_view bytes, std::string& out) {
  for (const char c : bytes) accept(static_cast<unsigned char>(c), out);
}

void Utf8Repair::finish(std::string& out) {
  if (wanted_ != 0) out.append(kReplacement);
  wanted_ = held_count_ = 0;
}

std::string sanitize_utf8(std::string_view bytes) {
  if (is_ascii(bytes)) return std::string(bytes);
  std::string out;
  out.reserve(bytes.size());
  Utf8Repair repair;
  repair.push(bytes, out);
  repair.finish(out);
  return out;
}

bool is_valid_utf8(std::string_view bytes) {
  return is_ascii(bytes) || sanitize_utf8(bytes) == bytes;
}

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&out](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | (c >> 6));
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3F));
    put(0x80 | ((c >> 6) & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

char32_t next_char(std::string_view text, size_t& pos) {
  const auto at = [&](size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[i]));
  };
  const char32_t first = at(pos);
  const size_t left = text.size() - pos;
  if (first < 0x80 || left < 2) {
    ++pos;
    return first;
  }
  if (first < 0xE0 || left < 3) {
    const char32_t c = ((first & 0x1F) << 6) | (at(pos + 1) & 0x3F);
    pos += 2;
    return c;
  }
  if (first < 0xF0 || left < 4) {
    const char32_t c = ((first & 0x0F) << 12) | ((at(pos + 1) & 0x3F) << 6) | (at(pos + 2) & 0x3F);
    pos += 3;
    return c;
  }
  const char32_t c = ((first & 0x07) << 18) | ((at(pos + 1) & 0x3F) << 12) |
                     ((at(pos + 2) & 0x3F) << 6) | (at(pos + 3) & 0x3F);
  pos += 4;
  return c;
}

char32_t previous_char(std::string_view text, size_t& pos) {
  --pos;
  while (pos > 0 && (static_cast<unsigned char>(text[pos]) & 0xC0) == 0x80) --pos;
  size_t start = pos;
  return next_char(text, start);
}

bool is_space(char32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_mark(char32_t c) {
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ME;
}

bool is_numeric(char32_t c) {
  const auto k = category(c);
  return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80)
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
           (c >= '{' && c <= '~');
  const auto k = category(c);
  return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

bool is_word(char32_t c) {
  if (c < 0x80)
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  if (c == 0x200C || c == 0x200D) return true;                           // Join_Control
  if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||  // circled, squared and
      (c >= 0x1F150 && c <= 0x1F169) ||
      (c >= 0x1F170 && c <= 0x1F189)) {  // negative letters: Alphabetic
    return true;
  }
  const auto k = category(c);
  return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_ME) || k == UTF8PROC_CATEGORY_ND ||
         k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_PC;
}

std::string normalize(std::string_view text, NormalForm form) {
  if (is_ascii(text)) return std::string(text);
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  const bool compat = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  int flags = UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
  if (compat) flags |= UTF8PROC_COMPAT;
  const auto options = static_cast<utf8proc_option_t>(flags);

  std::vector<utf8proc_int32_t> chars;
  chars.reserve(text.size() / 2 + 16);
  for (size_t pos = 0; pos < text.size();) {
    const auto c = static_cast<utf8proc_int32_t>(next_char(text, pos));
    utf8proc_int32_t parts[32];  // the longest decomposition, of U+FDFA, has 18
    int boundary = 0;
    const utf8proc_ssize_t n = utf8proc_decompose_char(c, parts, 32, options, &boundary);
    if (n < 0 || n > 32)
      fail(ErrorKind::kFailed, "Unicode normalization of U+{:04X} failed",
           static_cast<uint32_t>(c));
    chars.insert(chars.end(), parts, parts + n);
  }
  order_marks(chars);
  auto count = static_cast<utf8proc_ssize_t>(chars.size());
  if (compose) {
    count = utf8proc_normalize_utf32(chars.data(), count, options);
    if (count < 0)
      fail(ErrorKind::kFailed, "Unicode composition failed: {}", utf8proc_errmsg(count));
  }
  std::string out;
  out.reserve(text.size());
  for (utf8proc_ssize_t i = 0; i < count; ++i)
    append_utf8(out, static_cast<char32_t>(chars[static_cast<size_t>(i)]));
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const char32_t c = next_char(text, pos);
    if (c == 0x130) {
      out.append("i\xCC\x87");  // the one letter whose lower case is two code points
    } else {
      append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
    }
  }
  return out;
}

}  // namespace pluq
