// SPDX-License-Identifier: Apache-2.0
// Watches which instructions of one file a child process runs, at full speed elsewhere.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace pluq::conformance {

// The code pages of the file are made unreadable as code as soon as they are mapped: a jump there
// faults, and the child is then stepped until it leaves them again. The child must have asked to be
// traced and be stopped.
class Tracer {
 public:
  Tracer(pid_t child, std::string path) : child_(child), path_(std::move(path)) {}

  // Runs the child until it stops itself by SIGSTOP, ends, or `look` returns false. look gets the
  // 16 bytes at each instruction of the file. Throws Skip where tracing is not allowed, Failure for
  // a fatal signal. The child is dead afterwards.
  void run(const std::function<bool(const uint8_t* code)>& look);

 private:
  bool resume(int request, int signal = 0);  // false: the child is gone
  void find_pages();
  bool has(uint64_t at) const;
  void protect(bool executable);
  bool step_through(const std::function<bool(const uint8_t* code)>& look);

  pid_t child_;
  std::string path_;
  std::vector<std::pair<uint64_t, uint64_t>> pages_;  // executable mappings of the file
  uint64_t syscall_at_ = 0;                           // address of some syscall instruction
  int status_ = 0;
};

}  // namespace pluq::conformance
