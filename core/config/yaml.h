// SPDX-License-Identifier: Apache-2.0
// Strict YAML: plain maps, lists and scalars with the place of each. Refused with line and column:
// anchors, aliases, tags, several documents, duplicate keys, more than 64 KiB, 1000 entries of a
// map or list, depth 16.
#pragma once

#include <boost/json/value.hpp>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pluq {

class YamlNode {
 public:
  enum class Kind { kNull, kScalar, kList, kMap };
  struct Entry;

  Kind kind = Kind::kNull;
  std::string scalar;
  bool quoted = false;
  std::vector<YamlNode> list;
  std::vector<Entry> map;  // in file order
  std::string where;       // "run.yaml:3:5"

  const YamlNode* find(std::string_view key) const;
  // Typed values; errors are Error(kUsage) with the place, the key (`what`) and what is accepted.
  std::string text(std::string_view what) const;
  int64_t integer(std::string_view what, int64_t lo, int64_t hi) const;
  double real(std::string_view what, double lo, double hi) const;
  bool boolean(std::string_view what) const;
  std::string choice(std::string_view what, std::initializer_list<std::string_view> accepted) const;
  const std::vector<YamlNode>& items(std::string_view what) const;
  const std::vector<Entry>& entries(std::string_view what) const;
  // Every key of this map must be one of `accepted`; an unknown one names them and the nearest.
  void check_keys(std::string_view what, std::initializer_list<std::string_view> accepted) const;
  // As JSON, scalars typed by the YAML core schema (true, 12, 0.5, text).
  boost::json::value to_json() const;
};

struct YamlNode::Entry {
  std::string key;
  YamlNode value;
};

// Throws Error(kUsage) naming file, line, column and the rule.
YamlNode parse_yaml(const std::string& text, const std::string& file);

}  // namespace pluq
