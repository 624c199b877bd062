// SPDX-License-Identifier: Apache-2.0
#include "config/json_reader.h"

#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include <cmath>

#include "base/error.h"

namespace pluq {

namespace json = boost::json;

const json::value* JsonReader::find(std::string_view key) const {
  const json::value* value = object_->if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool JsonReader::is_null(std::string_view key) const {
  const json::value* value = object_->if_contains(key);
  return value != nullptr && value->is_null();
}

int64_t JsonReader::size(std::string_view key) const {
  const auto value = optional_size(key);
  if (!value) fail_input("{}: '{}' is missing", where_, key);
  return *value;
}

std::optional<int64_t> JsonReader::optional_size(std::string_view key) const {
  if (!has(key)) return std::nullopt;
  const int64_t number = count(key, 0);
  if (number == 0) wrong(key, fmt::format("a whole number from 1 to {}", kMaxSize));
  return number;
}

int64_t JsonReader::count(std::string_view key, int64_t otherwise) const {
  const json::value* value = find(key);
  if (value == nullptr) return otherwise;
  const int64_t number = value->is_int64() ? value->get_int64() : -1;
  if (number < 0 || number > kMaxSize)
    wrong(key, fmt::format("a whole number from 0 to {}", kMaxSize));
  return number;
}

double JsonReader::real(std::string_view key, double otherwise) const {
  const json::value* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_number() || !std::isfinite(value->to_number<double>()))
    wrong(key, "a finite number");
  return value->to_number<double>();
}

double JsonReader::positive(std::string_view key, double otherwise) const {
  const double value = real(key, otherwise);
  if (has(key) && !(value > 0)) wrong(key, "a number above 0");
  return value;
}

bool JsonReader::boolean(std::string_view key, bool otherwise) const {
  const json::value* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_bool()) wrong(key, "true or false");
  return value->get_bool();
}

std::string JsonReader::string(std::string_view key, std::string otherwise) const {
  const json::value* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_string()) wrong(key, "a string");
  return std::string(value->get_string());
}

std::optional<JsonReader> JsonReader::object(std::string_view key) const {
  const json::value* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) wrong(key, "an object");
  return JsonReader(value->get_object(), where_ + ": " + std::string(key));
}

std::vector<int32_t> JsonReader::ids(std::string_view key) const {
  std::vector<int32_t> out;
  const json::value* value = find(key);
  if (value == nullptr) return out;
  const auto add = [&](const json::value& v) {
    if (!v.is_int64() || v.get_int64() < 0 || v.get_int64() > kMaxSize)
      wrong(key, "a token id or a list of them");
    out.push_back(static_cast<int32_t>(v.get_int64()));
  };
  if (value->is_array()) {
    for (const json::value& v : value->get_array()) add(v);
  } else {
    add(*value);
  }
  return out;
}

std::vector<double> JsonReader::reals(std::string_view key) const {
  std::vector<double> out;
  const json::value* value = find(key);
  if (value == nullptr) return out;
  if (!value->is_array()) wrong(key, "a list of numbers");
  for (const json::value& v : value->get_array()) {
    if (!v.is_number() || !std::isfinite(v.to_number<double>()))
      wrong(key, "a list of finite numbers");
    out.push_back(v.to_number<double>());
  }
  return out;
}

std::vector<std::string> JsonReader::strings(std::string_view key) const {
  std::vector<std::string> out;
  const json::value* value = find(key);
  if (value == nullptr) return out;
  if (!value->is_array()) wrong(key, "a list of strings");
  for (const json::value& v : value->get_array()) {
    if (!v.is_string()) wrong(key, "a list of strings");
    out.emplace_back(v.get_string());
  }
  return out;
}

void JsonReader::wrong(std::string_view key, std::string_view expected) const {
  fail_input("{}: '{}' is {}, expected {}", where_, key, printable(json::serialize(*find(key)), 60),
             expected);
}

}  // namespace pluq
