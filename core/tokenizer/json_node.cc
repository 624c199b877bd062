// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/json_node.h"

#include <utility>

#include "base/error.h"
#include "tokenizer/unicode.h"

namespace pluq {
namespace {

namespace json = boost::json;

std::string describe(const json::value& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  return printable(json::serialize(value));
}

}  // namespace

JsonNode::JsonNode(const json::value& value, std::string file, std::string path)
    : object_(value.if_object()), file_(std::move(file)), path_(std::move(path)) {
  if (object_ == nullptr) {
    fail_input("{}: {} is {}, it must be an object", file_,
               path_.empty() ? "the document" : printable(path_), describe(value));
  }
}

std::string JsonNode::place(std::string_view key) const {
  return path_.empty() ? std::string(key) : path_ + "." + std::string(key);
}

const json::value* JsonNode::find(std::string_view key) const {
  const json::value* value = object_->if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void JsonNode::wrong(std::string_view key, std::string_view accepted) const {
  const json::value* value = object_->if_contains(key);
  if (value == nullptr)
    fail_input("{}: {} is missing, it must be {}", file_, printable(place(key)), accepted);
  fail_input("{}: {} is {}, it must be {}", file_, printable(place(key)), describe(*value),
             accepted);
}

void JsonNode::unsupported(std::string_view kind, std::string_view type,
                           std::string_view supported) const {
  fail_input("{}: {} has the {} type '{}', which is not supported; supported are {}", file_,
             path_.empty() ? "the document" : printable(path_), kind, printable(type), supported);
}

const json::value& JsonNode::need(std::string_view key, std::string_view accepted) const {
  const json::value* value = find(key);
  if (value == nullptr) wrong(key, accepted);
  return *value;
}

std::string JsonNode::string(std::string_view key) const {
  const json::value& value = need(key, "a string");
  if (!value.is_string()) wrong(key, "a string");
  const json::string& s = value.get_string();
  if (!is_valid_utf8({s.data(), s.size()})) wrong(key, "a string of valid UTF-8");
  return std::string(s.data(), s.size());
}

std::string JsonNode::string_or(std::string_view key, std::string_view fallback) const {
  return has(key) ? string(key) : std::string(fallback);
}

bool JsonNode::boolean(std::string_view key) const {
  const json::value& value = need(key, "true or false");
  if (!value.is_bool()) wrong(key, "true or false");
  return value.get_bool();
}

bool JsonNode::boolean_or(std::string_view key, bool fallback) const {
  return has(key) ? boolean(key) : fallback;
}

int64_t JsonNode::integer(std::string_view key, int64_t low, int64_t high) const {
  const std::string accepted = fmt::format("an integer from {} to {}", low, high);
  const json::value& value = need(key, accepted);
  if (!value.is_int64() || value.get_int64() < low || value.get_int64() > high)
    wrong(key, accepted);
  return value.get_int64();
}

const json::array& JsonNode::array(std::string_view key) const {
  const json::value& value = need(key, "an array");
  if (!value.is_array()) wrong(key, "an array");
  return value.get_array();
}

JsonNode JsonNode::child(std::string_view key) const {
  return JsonNode(need(key, "an object"), file_, place(key));
}

std::vector<JsonNode> JsonNode::children(std::string_view key) const {
  std::vector<JsonNode> out;
  const json::array& items = array(key);
  out.reserve(items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    out.emplace_back(items[i], file_, fmt::format("{}[{}]", place(key), i));
  }
  return out;
}

char32_t JsonNode::character(std::string_view key) const {
  const std::string text = string(key);
  size_t pos = 0;
  const char32_t c = text.empty() ? 0 : next_char(text, pos);
  if (text.empty() || pos != text.size()) wrong(key, "a string of one character");
  return c;
}

}  // namespace pluq
