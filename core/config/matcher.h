// SPDX-License-Identifier: Apache-2.0
// The ways in which checkpoints and configurations name layers.
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace pluq {

// A regular expression that must match at the start of a name, as Python's re.match. PCRE2 with
// limits.
class PrefixRegex {
 public:
  // Throws Error(kInput) with the pattern, the position and the reason.
  explicit PrefixRegex(std::string_view pattern);
  ~PrefixRegex();
  PrefixRegex(PrefixRegex&&) noexcept;
  PrefixRegex& operator=(PrefixRegex&&) noexcept;
  // Throws Error(kInput) when the limits are exhausted.
  bool match(std::string_view name) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A layer pattern of the YAML file: exact name, `re:` and a prefix regex, or `*` as a wildcard for
// any text.
class LayerPattern {
 public:
  explicit LayerPattern(std::string pattern);
  bool match(std::string_view name) const;
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::shared_ptr<const PrefixRegex> regex_;
};

}  // namespace pluq
