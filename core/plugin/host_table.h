// SPDX-License-Identifier: Apache-2.0
// The host's side of the ABI: the pluq_host table with its services, and statuses turned into
// exceptions.
#pragma once

#include <boost/json/value.hpp>

#include <string>
#include <string_view>

#include "pluq/abi.h"

namespace pluq {

enum class LogLevel { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3 };

// What plugins log below this level is dropped; the rest goes to stderr. Set once, before plugins
// are loaded.
void set_log_level(LogLevel level);
LogLevel log_level();
void log_line(LogLevel level, std::string_view text);

// The one host table of the process.
const pluq_host& host_table();

// Frees the status and throws Error: UNSUPPORTED, INVALID and NOT_FOUND are kInput, the rest
// kPlugin or kFailed. The text begins with `context` and a colon.
void throw_if(pluq_status* status, std::string_view context);
// The text of a failure, or empty; frees the status.
std::string take_text(pluq_status* status);

inline const pluq_json* json_cursor(const boost::json::value* value) {
  return reinterpret_cast<const pluq_json*>(value);
}
inline std::string_view text_of(pluq_str s) {
  return s.data == nullptr ? std::string_view() : std::string_view(s.data, s.size);
}
inline pluq_str str_of(std::string_view s) { return {s.data(), s.size()}; }

}  // namespace pluq
