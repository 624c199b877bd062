// SPDX-License-Identifier: Apache-2.0
// Typed access to the members of one JSON object, with messages that name the file, the key, the
// value and what is accepted. null counts as absent.
#pragma once

#include <boost/json/object.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pluq {

// All calls throw Error(kInput) on a value of the wrong kind. The object must outlive the reader.
class JsonReader {
 public:
  static constexpr int64_t kMaxSize = int64_t{1} << 30;

  JsonReader(const boost::json::object& object, std::string where)
      : object_(&object), where_(std::move(where)) {}

  const boost::json::value* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }
  bool is_null(std::string_view key) const;  // given as null, where that differs from absent
  int64_t size(std::string_view key) const;  // 1 to kMaxSize; also throws when absent
  std::optional<int64_t> optional_size(std::string_view key) const;
  int64_t count(std::string_view key, int64_t otherwise) const;  // 0 to kMaxSize
  double real(std::string_view key, double otherwise) const;
  double positive(std::string_view key, double otherwise) const;
  bool boolean(std::string_view key, bool otherwise) const;
  std::string string(std::string_view key, std::string otherwise) const;
  std::optional<JsonReader> object(std::string_view key) const;
  std::vector<int32_t> ids(std::string_view key) const;          // an id or a list of ids
  std::vector<double> reals(std::string_view key) const;         // a list, empty when absent
  std::vector<std::string> strings(std::string_view key) const;  // a list, empty when absent
  [[noreturn]] void wrong(std::string_view key, std::string_view expected) const;
  const std::string& where() const { return where_; }

 private:
  const boost::json::object* object_;
  std::string where_;
};

}  // namespace pluq
