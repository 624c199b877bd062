// SPDX-License-Identifier: Apache-2.0
#include "conformance/tracer.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cstring>
#include <fstream>

#include "conformance/harness.h"

namespace pluq::conformance {
namespace {

constexpr int kSyscallStop = SIGTRAP | 0x80;  // with PTRACE_O_TRACESYSGOOD

void traced(long result) {
  if (result < 0) throw Skip("tracing is not allowed here");
}

}  // namespace

bool Tracer::resume(int request, int signal) {
  traced(::ptrace(static_cast<__ptrace_request>(request), child_, nullptr,
                  static_cast<uintptr_t>(signal)));
  return ::waitpid(child_, &status_, 0) == child_ && WIFSTOPPED(status_);
}

void Tracer::find_pages() {
  std::ifstream maps(fmt::format("/proc/{}/maps", child_));
  for (std::string line; std::getline(maps, line);) {
    uint64_t begin = 0, end = 0;
    char mode[8] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %7s", &begin, &end, mode) == 3 && mode[2] == 'x' &&
        line.size() > path_.size() && line.ends_with(path_)) {
      pages_.emplace_back(begin, end);
    }
  }
}

bool Tracer::has(uint64_t at) const {
  for (const auto& [begin, end] : pages_) {
    if (at >= begin && at < end) return true;
  }
  return false;
}

// mprotect in the child, by a system call of its own.
void Tracer::protect(bool executable) {
  user_regs_struct saved{};
  traced(::ptrace(PTRACE_GETREGS, child_, nullptr, &saved));
  for (const auto& [begin, end] : pages_) {
    user_regs_struct r = saved;
    r.rax = SYS_mprotect;
    r.orig_rax = ~0ULL;  // no system call of its own is to be restarted
    r.rdi = begin, r.rsi = end - begin;
    r.rdx = executable ? PROT_READ | PROT_EXEC : PROT_READ;
    r.rip = syscall_at_;
    traced(::ptrace(PTRACE_SETREGS, child_, nullptr, &r));
    if (!resume(PTRACE_SINGLESTEP)) throw Skip("the traced process ended");
    traced(::ptrace(PTRACE_GETREGS, child_, nullptr, &r));
    if (r.rax != 0) throw Skip("the pages of a traced process cannot be protected");
  }
  traced(::ptrace(PTRACE_SETREGS, child_, nullptr, &saved));
}

// From the first instruction of the file to the first outside of it; false when look has seen
// enough or the child is gone.
bool Tracer::step_through(const std::function<bool(const uint8_t* code)>& look) {
  protect(true);
  for (;;) {
    user_regs_struct r{};
    traced(::ptrace(PTRACE_GETREGS, child_, nullptr, &r));
    if (!has(r.rip)) break;
    uint8_t code[16] = {};
    for (uint64_t i = 0; i < 16; i += 8) {
      errno = 0;
      const long word = ::ptrace(PTRACE_PEEKTEXT, child_, r.rip + i, nullptr);
      if (errno == 0) std::memcpy(code + i, &word, 8);  // else beyond the last page
    }
    if (!look(code) || !resume(PTRACE_SINGLESTEP)) return false;
    if (WSTOPSIG(status_) == SIGSTOP) return false;
    if (WSTOPSIG(status_) != SIGTRAP)
      fail_test("{} while it was loaded", ::strsignal(WSTOPSIG(status_)));
  }
  protect(false);
  return true;
}

void Tracer::run(const std::function<bool(const uint8_t* code)>& look) {
  traced(::ptrace(PTRACE_SETOPTIONS, child_, nullptr, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD));
  bool inside_call = false;
  while (resume(PTRACE_SYSCALL)) {
    const int signal = WSTOPSIG(status_);
    if (signal == SIGSTOP) break;  // the child is done
    user_regs_struct r{};
    traced(::ptrace(PTRACE_GETREGS, child_, nullptr, &r));
    if (signal == kSyscallStop) {
      inside_call = !inside_call;
      syscall_at_ = r.rip - 2;
      if (!inside_call && r.orig_rax == SYS_mmap) {
        const size_t known = pages_.size();
        find_pages();  // those known are not executable now
        if (pages_.size() > known) protect(false);
      }
      continue;
    }
    siginfo_t info{};
    traced(::ptrace(PTRACE_GETSIGINFO, child_, nullptr, &info));
    const bool jumped =
        signal == SIGSEGV && has(r.rip) && reinterpret_cast<uint64_t>(info.si_addr) == r.rip;
    if (!jumped) fail_test("{} while it was loaded", ::strsignal(signal));
    if (!step_through(look)) break;
  }
  if (WIFSTOPPED(status_)) ::kill(child_, SIGKILL);
  ::waitpid(child_, &status_, 0);
}

}  // namespace pluq::conformance
