// SPDX-License-Identifier: Apache-2.0
// A JSON object of a tokenizer file together with its place, so that each typed access can say in
// its error which file, which key and what was accepted.
#pragma once

#include <boost/json.hpp>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace pluq {

class JsonNode {
 public:
  // `value` must outlive the node. Throws Error(kInput) unless it is an object.
  JsonNode(const boost::json::value& value, std::string file, std::string path);

  const std::string& file() const { return file_; }
  std::string place(std::string_view key) const;  // "model.vocab"
  const boost::json::object& object() const { return *object_; }

  // Null when the key is absent or its value is JSON null.
  const boost::json::value* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }

  std::string string(std::string_view key) const;
  std::string string_or(std::string_view key, std::string_view fallback) const;
  bool boolean(std::string_view key) const;
  bool boolean_or(std::string_view key, bool fallback) const;
  int64_t integer(std::string_view key, int64_t low, int64_t high) const;
  const boost::json::array& array(std::string_view key) const;
  JsonNode child(std::string_view key) const;
  std::vector<JsonNode> children(std::string_view key) const;  // an array of objects

  // The character of a one-character string.
  char32_t character(std::string_view key) const;

  [[noreturn]] void wrong(std::string_view key, std::string_view accepted) const;
  [[noreturn]] void unsupported(std::string_view kind, std::string_view type,
                                std::string_view supported) const;

 private:
  const boost::json::value& need(std::string_view key, std::string_view accepted) const;

  const boost::json::object* object_;
  std::string file_;
  std::string path_;
};

}  // namespace pluq
