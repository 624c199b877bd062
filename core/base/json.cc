// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include <boost/json/basic_parser_impl.hpp>

#include <string>
#include <unordered_set>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace pluq {
namespace {

namespace json = boost::json;

// Builds a value while counting, and remembers the keys of each open object to refuse duplicates.
struct Handler {
  static constexpr size_t max_object_size = static_cast<size_t>(-1);
  static constexpr size_t max_array_size = static_cast<size_t>(-1);
  static constexpr size_t max_key_size = static_cast<size_t>(-1);
  static constexpr size_t max_string_size = static_cast<size_t>(-1);

  explicit Handler(size_t max_values) : left(max_values) { stack.reset(); }

  json::value_stack stack;
  std::vector<std::unordered_set<std::string>> keys;  // one set per open object
  std::string key;
  size_t left;
  std::string problem;

  bool count(json::error_code& ec) {
    if (left == 0) return refuse("more values than allowed", ec);
    --left;
    return true;
  }
  bool refuse(std::string text, json::error_code& ec) {
    problem = std::move(text);
    ec = json::error::incomplete;
    return false;
  }

  bool on_document_begin(json::error_code&) { return true; }
  bool on_document_end(json::error_code&) { return true; }
  bool on_object_begin(json::error_code& ec) {
    keys.emplace_back();
    return count(ec);
  }
  bool on_object_end(size_t n, json::error_code&) {
    keys.pop_back();
    stack.push_object(n);
    return true;
  }
  bool on_array_begin(json::error_code& ec) { return count(ec); }
  bool on_array_end(size_t n, json::error_code&) {
    stack.push_array(n);
    return true;
  }
  bool on_key_part(json::string_view s, size_t, json::error_code&) {
    key.append(s.data(), s.size());
    stack.push_chars(s);
    return true;
  }
  bool on_key(json::string_view s, size_t, json::error_code& ec) {
    key.append(s.data(), s.size());
    stack.push_key(s);
    if (!keys.back().insert(key).second)
      return refuse("duplicate key '" + printable(key) + "'", ec);
    key.clear();
    return count(ec);
  }
  bool on_string_part(json::string_view s, size_t, json::error_code&) {
    stack.push_chars(s);
    return true;
  }
  bool on_string(json::string_view s, size_t, json::error_code& ec) {
    stack.push_string(s);
    return count(ec);
  }
  bool on_number_part(json::string_view, json::error_code&) { return true; }
  bool on_int64(int64_t v, json::string_view, json::error_code& ec) {
    stack.push_int64(v);
    return count(ec);
  }
  bool on_uint64(uint64_t v, json::string_view, json::error_code& ec) {
    stack.push_uint64(v);
    return count(ec);
  }
  bool on_double(double v, json::string_view, json::error_code& ec) {
    stack.push_double(v);
    return count(ec);
  }
  bool on_bool(bool v, json::error_code& ec) {
    stack.push_bool(v);
    return count(ec);
  }
  bool on_null(json::error_code& ec) {
    stack.push_null();
    return count(ec);
  }
  bool on_comment_part(json::string_view, json::error_code&) { return true; }
  bool on_comment(json::string_view, json::error_code&) { return true; }
};

}  // namespace

json::value parse_json(std::string_view text, std::string_view where, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    fail_input("{}: {} bytes of JSON, at most {} are accepted", where, text.size(),
               limits.max_bytes);
  }
  json::parse_options options;
  options.max_depth = limits.max_depth;
  json::basic_parser<Handler> parser(options, limits.max_values);
  json::error_code ec;
  const size_t used = parser.write_some(false, text.data(), text.size(), ec);
  if (ec) {
    const std::string why =
        parser.handler().problem.empty()
            ? (ec == json::error::too_deep
                   ? fmt::format("nested deeper than {} levels", limits.max_depth)
                   : ec.message())
            : parser.handler().problem;
    fail_input("{}: not valid JSON at byte {}: {}", where, used, why);
  }
  if (text.find_first_not_of(" \t\r\n", used) != std::string_view::npos) {
    fail_input("{}: not valid JSON at byte {}: text after the end of the document", where, used);
  }
  return parser.handler().stack.release();
}

json::value parse_json_file(const std::string& path, const JsonLimits& limits) {
  return parse_json(read_file(path, limits.max_bytes), path, limits);
}

}  // namespace pluq
