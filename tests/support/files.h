// SPDX-License-Identifier: Apache-2.0
// What the tests share: temporary directories, fixtures, and "this throws an Error that says ...".
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "base/error.h"

namespace pluq::test {

// A directory that goes when the test does.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "pluq-test-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDir() {
    std::error_code ec;
    std::filesystem::remove_all(path_, ec);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  std::string write(const std::string& name, std::string_view content) const {
    const std::string path = path_ + "/" + name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

 private:
  std::string path_;
};

// The directory of the shared fixtures, or empty.
inline std::string fixtures() {
  const char* given = std::getenv("PLUQ_FIXTURES");
  if (given != nullptr && *given != '\0') return given;
  const std::string beside = std::string(PLUQ_SOURCE_DIR) + "/../shared/fixtures";
  return std::filesystem::is_directory(beside) ? beside : "";
}

// Runs body, which must throw Error of this kind whose text has all the parts.
inline void expect_error(ErrorKind kind, std::initializer_list<std::string> parts,
                         const std::function<void()>& body) {
  try {
    body();
    ADD_FAILURE() << "no error; expected one with '" << *parts.begin() << "'";
  } catch (const Error& e) {
    EXPECT_EQ(static_cast<int>(e.kind()), static_cast<int>(kind)) << e.what();
    for (const std::string& part : parts)
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos)
          << e.what() << "\nlacks: " << part;
  }
}

}  // namespace pluq::test
