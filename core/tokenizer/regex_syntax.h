// SPDX-License-Identifier: Apache-2.0
// Tokenizer files hold patterns in Oniguruma's Ruby syntax. This translates them to PCRE2's,
// construct by construct; what has no equal meaning there is refused by name instead of matching
// something else.
#pragma once

#include <string>
#include <string_view>

namespace pluq {

// `pattern` is valid UTF-8; `where` names file and key for the error. The result is meant for
// PCRE2_UTF, PCRE2_UCP, PCRE2_MULTILINE and newline = LF. Throws Error(kInput).
std::string translate_regex(std::string_view pattern, std::string_view where);

// The pattern that matches exactly this text.
std::string quote_regex(std::string_view text);

}  // namespace pluq
