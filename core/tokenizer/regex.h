// SPDX-License-Identifier: Apache-2.0
// A compiled pattern of a tokenizer file: PCRE2 with JIT where the machine has one, in UTF mode,
// with limits on steps and memory so that a hostile pattern ends in an error.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace pluq {

class JsonNode;

// A part [begin, end) in bytes, and whether the pattern matched it.
struct RegexPart {
  size_t begin;
  size_t end;
  bool is_match;
};

// Immutable; const use from many threads is safe.
class Regex {
 public:
  // Oniguruma syntax. `where` names file and key in errors. Throws Error(kInput).
  static Regex compile(std::string_view pattern, std::string_view where);
  static Regex literal(std::string_view text, std::string_view where);
  // The object {"Regex": pattern} or {"String": text} at `key`.
  static Regex from_json(const JsonNode& node, std::string_view key);

  // Calls visit(begin, end) for each match from left to right; an empty match directly behind a
  // match is skipped. `text` is valid UTF-8. Throws Error(kInput) when a limit is exhausted.
  void for_each_match(std::string_view text,
                      const std::function<void(size_t, size_t)>& visit) const;
  // Matches and the gaps between them; together they cover `text`.
  std::vector<RegexPart> split(std::string_view text) const;
  std::string replace_all(std::string_view text, std::string_view replacement) const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  static Regex compile_pcre(const std::string& pcre, std::string_view shown,
                            std::string_view where);
  std::shared_ptr<const Code> code_;
};

}  // namespace pluq
