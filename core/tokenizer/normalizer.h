// SPDX-License-Identifier: Apache-2.0
// The "normalizer" of a tokenizer file: text to text, before it is cut into words.
#pragma once

#include <boost/json.hpp>

#include <memory>
#include <string>

namespace pluq {

class JsonNode;

// Text that is being normalized.
struct NormalText {
  std::string text;
  bool at_origin;  // its first character comes from the first character of the caller's text
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(NormalText& text) const = 0;

  // Throws Error(kInput) naming an unknown type and the supported ones.
  static std::unique_ptr<const Normalizer> from_json(const JsonNode& node);
};

}  // namespace pluq
