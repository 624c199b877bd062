// SPDX-License-Identifier: Apache-2.0
#include "config/matcher.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <utility>

#include "base/error.h"

namespace pluq {
namespace {

constexpr uint32_t kMatchLimit = 1'000'000, kDepthLimit = 10'000, kHeapLimitKib = 32 << 10;
constexpr size_t kMaxPattern = 10'000;

// '*' stands for any text, also none. Linear: a later '*' never needs to revisit an earlier one.
bool wildcard(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = std::string_view::npos, mark = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace

struct PrefixRegex::Impl {
  std::string pattern;
  pcre2_code* code = nullptr;
  pcre2_match_context* limits = nullptr;
  pcre2_match_data* data = nullptr;
  ~Impl() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(limits);
    pcre2_code_free(code);
  }
};

PrefixRegex::PrefixRegex(std::string_view pattern) : impl_(std::make_unique<Impl>()) {
  if (pattern.size() > kMaxPattern)
    fail_input("a pattern of {} bytes, at most {}", pattern.size(), kMaxPattern);
  impl_->pattern = pattern;
  int error = 0;
  PCRE2_SIZE at = 0;
  impl_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_ANCHORED | PCRE2_UTF, &error, &at, nullptr);
  if (impl_->code == nullptr) {
    PCRE2_UCHAR message[128] = {};
    pcre2_get_error_message(error, message, sizeof message);
    fail_input("pattern '{}' is not a regular expression at position {}: {}", printable(pattern),
               at, reinterpret_cast<const char*>(message));
  }
  impl_->limits = pcre2_match_context_create(nullptr);
  impl_->data = pcre2_match_data_create(1, nullptr);
  pcre2_set_match_limit(impl_->limits, kMatchLimit);
  pcre2_set_depth_limit(impl_->limits, kDepthLimit);
  pcre2_set_heap_limit(impl_->limits, kHeapLimitKib);
}

PrefixRegex::~PrefixRegex() = default;
PrefixRegex::PrefixRegex(PrefixRegex&&) noexcept = default;
PrefixRegex& PrefixRegex::operator=(PrefixRegex&&) noexcept = default;

bool PrefixRegex::match(std::string_view name) const {
  const int rc = pcre2_match(impl_->code, reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0,
                             0, impl_->data, impl_->limits);
  if (rc >= 0) return true;
  if (rc == PCRE2_ERROR_NOMATCH) return false;
  fail_input("pattern '{}' takes too many steps on '{}'", printable(impl_->pattern),
             printable(name));
}

LayerPattern::LayerPattern(std::string pattern) : text_(std::move(pattern)) {
  if (std::string_view(text_).substr(0, 3) == "re:") {
    regex_ = std::make_shared<PrefixRegex>(std::string_view(text_).substr(3));
  }
}

bool LayerPattern::match(std::string_view name) const {
  return regex_ ? regex_->match(name) : wildcard(text_, name);
}

}  // namespace pluq
