// SPDX-License-Identifier: Apache-2.0
// Group "file": what can be said of the shared object itself.
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <map>

#include "conformance/subject.h"

namespace pluq::conformance {
namespace {

std::string screen(const Subject& s) {
  // The same screening as the host's, said fact by fact.
  const std::string why = refusal(s.facts);
  expect(why.empty(), "{}", why);
  return fmt::format("exports {}, needs {}, glibc {}", fmt::join(s.facts.exports, ","),
                     fmt::join(s.facts.needed, ","), s.facts.glibc.empty() ? "any" : s.facts.glibc);
}

std::string manifest(const Subject& s) {
  const Opened opened = open_subject(s);
  step("the entry");
  const Answer answer = call_entry(opened);
  expect(answer.error.empty(), "its entry failed: {}", answer.error);
  expect(answer.info.manifest != nullptr, "its entry gives no manifest");
  expect(std::memcmp(answer.info.manifest, &s.facts.manifest, sizeof(pluq_manifest)) == 0,
         "its entry gives another manifest than the file carries");
  std::string ids;
  for (const pluq_format& f : answer.formats)
    ids += (ids.empty() ? "" : ",") + FormatHandle(f, s.path).id();
  const char* named = s.facts.manifest.formats;
  expect(ids == std::string(named, ::strnlen(named, sizeof s.facts.manifest.formats)),
         "registers formats {}, its manifest names {}", ids, named);
  return "formats " + ids;
}

// True when the instruction at `code` needs more than plain x86-64 (SSE2). Only prefixes and the
// opcode map matter.
bool above_baseline(const uint8_t* code) {
  bool repeat = false;
  int i = 0;
  for (; i < 6; ++i) {
    const uint8_t b = code[i];
    if (b == 0xf3) repeat = true;
    if (b != 0x66 && b != 0xf2 && b != 0xf3 && b != 0x2e && b != 0x36 && b != 0x3e && b != 0x26 &&
        b != 0x64 && b != 0x65 && b != 0x67)
      break;
  }
  if (code[i] == 0xc4 || code[i] == 0xc5 || code[i] == 0x62) return true;  // VEX and EVEX
  if ((code[i] & 0xf0) == 0x40) ++i;                                       // REX
  if (code[i] != 0x0f) return false;
  if (code[i + 1] == 0x38 || code[i + 1] == 0x3a) return true;    // SSSE3, SSE4, BMI, AES, SHA
  return repeat && (code[i + 1] == 0xb8 || code[i + 1] == 0xbd);  // POPCNT, LZCNT
}

// The executable pages of a file in a process.
struct Ranges {
  std::vector<std::pair<uint64_t, uint64_t>> all;
  bool has(uint64_t at) const {
    for (const auto& [begin, end] : all) {
      if (at >= begin && at < end) return true;
    }
    return false;
  }
};
Ranges mapped(pid_t pid, const std::string& path) {
  Ranges out;
  std::ifstream maps(fmt::format("/proc/{}/maps", pid));
  for (std::string line; std::getline(maps, line);) {
    uint64_t begin = 0, end = 0;
    char mode[8] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %7s", &begin, &end, mode) == 3 && mode[2] == 'x' &&
        line.size() > path.size() &&
        line.compare(line.size() - path.size(), path.size(), path) == 0) {
      out.all.emplace_back(begin, end);
    }
  }
  return out;
}

// Steps the child through dlopen and the entry, one instruction at a time, and looks at those of
// the plugin.
std::string trace(pid_t child, const std::string& path) {
  std::map<uint64_t, bool> pages;  // page of the instruction pointer -> the plugin's
  long looked = 0;
  int status = 0;
  for (;;) {
    if (::ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr) != 0)
      throw Skip("single-stepping is not allowed here");
    if (::waitpid(child, &status, 0) != child || WIFEXITED(status) || WIFSIGNALED(status)) break;
    if (WSTOPSIG(status) == SIGSTOP) break;  // the child is done
    if (WSTOPSIG(status) != SIGTRAP)
      fail_test("{} while it was loaded", ::strsignal(WSTOPSIG(status)));
    user_regs_struct r{};
    ::ptrace(PTRACE_GETREGS, child, nullptr, &r);
    const uint64_t page = r.rip >> 12;
    auto it = pages.find(page);
    if (it == pages.end()) it = pages.emplace(page, mapped(child, path).has(r.rip)).first;
    if (!it->second) continue;
    ++looked;
    uint8_t code[16];
    const uint64_t low = static_cast<uint64_t>(::ptrace(PTRACE_PEEKTEXT, child, r.rip, nullptr));
    const uint64_t high =
        static_cast<uint64_t>(::ptrace(PTRACE_PEEKTEXT, child, r.rip + 8, nullptr));
    std::memcpy(code, &low, 8);
    std::memcpy(code + 8, &high, 8);
    if (above_baseline(code)) {
      ::kill(child, SIGKILL);
      const uint64_t base = mapped(child, path).all.empty() ? 0 : r.rip;
      fail_test(
          "runs an instruction above plain x86-64 before the host has told the CPU's features, at "
          "{:#x}: {:02x} {:02x} "
          "{:02x} {:02x} {:02x}",
          base, code[0], code[1], code[2], code[3], code[4]);
    }
  }
  if (WIFSTOPPED(status)) ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  return fmt::format("{} instructions of constructors and entry are plain x86-64", looked);
}

std::string constructors(const Subject& s) {
  const pid_t child = ::fork();
  expect(child >= 0, "cannot start a process");
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(99);
    ::raise(SIGSTOP);
    try {
      call_entry(open_subject(s));
    } catch (...) {
      ::_exit(98);
    }
    ::raise(SIGSTOP);
    ::_exit(0);
  }
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
    throw Skip("tracing is not allowed here");
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_EXITKILL);
  return trace(child, s.path);
}

}  // namespace

std::vector<Test> file_tests() {
  return {{"file", "screen", screen},
          {"file", "manifest", manifest},
          {"file", "baseline_instructions", constructors}};
}

}  // namespace pluq::conformance
