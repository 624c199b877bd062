// SPDX-License-Identifier: Apache-2.0
// The one exception of core. Its kind decides the exit code of the command line; its text is a
// whole sentence that names the place (file, key, layer), the offending value and the accepted
// ones.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace pluq {

enum class ErrorKind {
  kFailed = 1,        // the work itself failed (out of memory, disk full, a kernel refused)
  kUsage = 2,         // wrong flags, or something this build or machine cannot do
  kInput = 3,         // a model, text, tensor or configuration file is wrong
  kPlugin = 4,        // a plugin is missing, refused or misbehaves
  kInterrupted = 130  // stopped by the user
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& text) : std::runtime_error(text), kind_(kind) {}
  ErrorKind kind() const { return kind_; }
  int exit_code() const { return static_cast<int>(kind_); }

 private:
  ErrorKind kind_;
};

template <class... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
[[noreturn]] void fail_input(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorKind::kInput, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorKind::kUsage, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
[[noreturn]] void fail_plugin(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorKind::kPlugin, fmt::format(format, std::forward<Args>(args)...));
}

// A printable, bounded copy of text that came from a file or a user: control characters escaped as
// \xNN, cut to `limit` characters.
std::string printable(std::string_view text, size_t limit = 120);

}  // namespace pluq
