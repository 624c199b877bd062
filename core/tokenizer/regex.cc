// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

#include "base/error.h"
#include "tokenizer/json_node.h"
#include "tokenizer/regex_syntax.h"
#include "tokenizer/unicode.h"

namespace pluq {
namespace {

struct Deleter {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
  void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
};
template <class T>
using Owned = std::unique_ptr<T, Deleter>;

template <class T>
Owned<T> need(T* p) {
  if (p == nullptr) fail(ErrorKind::kFailed, "out of memory in the regular expression engine");
  return Owned<T>(p);
}

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  if (pcre2_get_error_message(code, text, sizeof text) < 0) return fmt::format("error {}", code);
  return reinterpret_cast<const char*>(text);
}

// Steps one match may take: a scan over the whole text and its undoing, some times over, but
// nothing exponential.
uint32_t match_limit(size_t text_bytes) {
  constexpr size_t kBase = 2'000'000;
  constexpr size_t kPerByte = 16;
  return static_cast<uint32_t>(std::min<size_t>(kBase + kPerByte * text_bytes, 4'000'000'000u));
}
constexpr uint32_t kHeapLimitKib = 512 * 1024;
constexpr uint32_t kDepthLimit = 1'000'000;

}  // namespace

struct Regex::Code {
  Owned<pcre2_code> code;
  std::string shown;
  std::string where;
};

Regex Regex::compile_pcre(const std::string& pcre, std::string_view shown, std::string_view where) {
  const auto context = need(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 100);
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto made = std::make_shared<Code>();
  made->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pcre.data()), pcre.size(),
                                 PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                 &error, &offset, context.get()));
  if (made->code == nullptr) {
    fail_input("{}: the pattern '{}' is not a supported regular expression: {}", where,
               printable(shown), message_of(error));
  }
  // Without JIT (an exotic machine, or memory that may not be executable) the interpreter gives the
  // same matches.
  (void)pcre2_jit_compile(made->code.get(), PCRE2_JIT_COMPLETE);
  made->shown = shown;
  made->where = where;
  return Regex(std::move(made));
}

Regex Regex::compile(std::string_view pattern, std::string_view where) {
  return compile_pcre(translate_regex(pattern, where), pattern, where);
}

Regex Regex::literal(std::string_view text, std::string_view where) {
  if (text.empty())
    fail_input("{}: an empty string cannot be searched for, give at least one character", where);
  return compile_pcre(quote_regex(text), text, where);
}

Regex Regex::from_json(const JsonNode& node, std::string_view key) {
  const JsonNode pattern = node.child(key);
  const std::string where = node.file() + ": " + node.place(key);
  if (pattern.has("Regex")) return compile(pattern.string("Regex"), where);
  if (pattern.has("String")) return literal(pattern.string("String"), where);
  node.wrong(key, "an object with the key 'Regex' or 'String'");
}

void Regex::for_each_match(std::string_view text,
                           const std::function<void(size_t, size_t)>& visit) const {
  const auto data = need(pcre2_match_data_create(1, nullptr));
  const auto context = need(pcre2_match_context_create(nullptr));
  pcre2_set_match_limit(context.get(), match_limit(text.size()));
  pcre2_set_depth_limit(context.get(), kDepthLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.empty() ? "" : text.data());

  const auto run = [&](size_t from, uint32_t options) {
    return pcre2_match(code_->code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK | options,
                       data.get(), context.get());
  };
  size_t from = 0;
  size_t last_end = static_cast<size_t>(-1);
  while (from <= text.size()) {
    int rc = run(from, 0);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) rc = run(from, PCRE2_NO_JIT);
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      fail_input("{}: the pattern '{}' gave up on a text of {} bytes: {}", code_->where,
                 printable(code_->shown), text.size(), message_of(rc));
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
    const size_t begin = ends[0];
    const size_t end = ends[1];
    if (begin < from || end < begin) {
      fail_input("{}: the pattern '{}' moves the start of its match, which is not supported",
                 code_->where, printable(code_->shown));
    }
    const bool empty = begin == end;
    if (!empty || begin != last_end) visit(begin, end);
    last_end = end;
    from = end;
    if (empty) {
      if (from >= text.size()) break;
      next_char(text, from);
    }
  }
}

std::vector<RegexPart> Regex::split(std::string_view text) const {
  std::vector<RegexPart> parts;
  size_t done = 0;
  for_each_match(text, [&](size_t begin, size_t end) {
    if (begin > done) parts.push_back({done, begin, false});
    parts.push_back({begin, end, true});
    done = end;
  });
  if (done < text.size()) parts.push_back({done, text.size(), false});
  return parts;
}

std::string Regex::replace_all(std::string_view text, std::string_view replacement) const {
  std::string out;
  size_t done = 0;
  for_each_match(text, [&](size_t begin, size_t end) {
    out.append(text.substr(done, begin - done)).append(replacement);
    done = end;
  });
  return out.append(text.substr(done));
}

}  // namespace pluq
