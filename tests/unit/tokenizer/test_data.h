// SPDX-License-Identifier: Apache-2.0
// Where the tokenizer tests find their data.
#pragma once

#include <sys/stat.h>
#include <cstdlib>
#include <string>

namespace pluq::test {

inline bool exists(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0;
}

inline std::string data_path(const std::string& name) {
  return std::string(PLUQ_SOURCE_DIR) + "/tests/data/tokenizers/" + name;
}

// The shared tokenizer fixtures, or "" where they are absent.
inline std::string fixtures_path() {
  const char* root = std::getenv("PLUQ_FIXTURES");
  const std::string path =
      (root != nullptr ? std::string(root) : std::string(PLUQ_SOURCE_DIR) + "/../shared/fixtures") +
      "/tokenizers";
  return exists(path) ? path : "";
}

}  // namespace pluq::test
