// SPDX-License-Identifier: Apache-2.0
// What the tests of the kit share: the list of tests, failures, the note of what is being done (the
// parent prints it when the child dies), and memory that ends at an inaccessible page.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "plugin/elf_screen.h"
#include "pluq/abi.h"

namespace pluq::conformance {

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};
struct Skip : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void fail_test(fmt::format_string<Args...> f, Args&&... args) {
  throw Failure(fmt::format(f, std::forward<Args>(args)...));
}
template <class... Args>
void expect(bool holds, fmt::format_string<Args...> f, Args&&... args) {
  if (!holds) throw Failure(fmt::format(f, std::forward<Args>(args)...));
}

struct Subject {  // the plugin under test
  std::string path;
  ElfFacts facts;
  uint64_t seed = 1;
};

struct Test {
  const char *group, *name;
  std::string (*run)(const Subject&);  // returns what was looked at; throws Failure or Skip
};
std::vector<Test> file_tests();
std::vector<Test> load_tests();
std::vector<Test> config_tests();
std::vector<Test> weight_tests();
std::vector<Test> quantizer_tests();
std::vector<Test> numeric_tests();
std::vector<Test> embedding_tests();
std::vector<Test> device_tests();
std::vector<Test> memory_tests();
std::vector<Test> concurrency_tests();
std::vector<Test> fuzz_tests();

// Runs one test in a forked child under limits; a fault, an exit and a time-out become a failure
// that says so.
struct Outcome {
  std::string status, text;  // as in Result
  bool timed_out = false;
};
Outcome run_isolated(const Test& test, const Subject& subject, double time_limit);

// Notes what comes next. Shared with the parent process.
void set_step_buffer(char* buffer, size_t size);
void step_text(const std::string& text);
template <class... Args>
void step(fmt::format_string<Args...> f, Args&&... args) {
  step_text(fmt::format(f, std::forward<Args>(args)...));
}

// What a process holds and a leak makes grow.
struct Holdings {
  int64_t files = 0, maps = 0, threads = 0;
  size_t bytes = 0;  // of malloc, in blocks of any size
  static Holdings now();
};
// "3 open files and 20 mappings" that `after` has more, or empty; so many bytes may stay.
std::string growth(const Holdings& before, const Holdings& after, size_t bytes_allowed);

// A small generator whose sequence is the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 1) {}
  uint64_t bits() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t n) { return bits() % n; }
  double real(double lo, double hi) {
    return lo + (hi - lo) * static_cast<double>(bits() >> 11) * 0x1p-53;
  }

 private:
  uint64_t state_;
};

// Bytes between two inaccessible pages, flush with the one behind (with the one in front when
// `front`). `align` moves the bytes away from the page by less than align; the gap is filled with a
// pattern that intact() checks.
class Guarded {
 public:
  Guarded() = default;
  explicit Guarded(size_t bytes, size_t align = 1, bool front = false);
  ~Guarded();
  Guarded(Guarded&& other) noexcept { swap(other); }
  Guarded& operator=(Guarded&& other) noexcept {
    swap(other);
    return *this;
  }
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  std::span<std::byte> bytes() const { return {data_, size_}; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  void read_only() const;  // from now on writing faults
  bool intact() const;

 private:
  void swap(Guarded& other) noexcept {
    std::swap(map_, other.map_);
    std::swap(map_bytes_, other.map_bytes_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  std::byte* map_ = nullptr;
  size_t map_bytes_ = 0;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace pluq::conformance
