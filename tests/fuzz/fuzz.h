// SPDX-License-Identifier: Apache-2.0
// What fuzz targets share. A target is a function on bytes: pluq::Error is how the program refuses
// an input, so it is expected; any other exception, signal, sanitizer report, time-out or huge
// allocation is a finding.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace pluq::fuzz {

inline std::string_view text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Refusals must be one printable line; returns whether the input was taken.
template <class Body>
bool taken(const Body& body) {
  try {
    body();
    return true;
  } catch (const Error& e) {
    const std::string_view said = e.what();
    if (said.empty() || said.find('\0') != std::string_view::npos) {
      std::fprintf(stderr, "the refusal is not one clear sentence: '%s'\n", e.what());
      std::abort();
    }
    return false;
  }
}

// The input as a file in memory; path() opens it. One per process, rewritten for each input.
class InputFile {
 public:
  InputFile() : file_(::memfd_create("input", MFD_CLOEXEC)) {
    if (file_ < 0) std::abort();
    path_ = "/proc/self/fd/" + std::to_string(file_);
  }
  const std::string& path() const { return path_; }
  void write(const uint8_t* data, size_t size) const {
    if (::ftruncate(file_, 0) != 0 || ::pwrite(file_, data, size, 0) != static_cast<ssize_t>(size))
      std::abort();
  }

 private:
  int file_;
  std::string path_;
};

// Reads every byte, so that a span that leaves its file is found.
template <class Bytes>
void touch(const Bytes& bytes) {
  uint8_t sum = 0;
  for (const auto b : bytes) sum = static_cast<uint8_t>(sum + static_cast<uint8_t>(b));
  asm volatile("" ::"r"(sum));
}

}  // namespace pluq::fuzz
