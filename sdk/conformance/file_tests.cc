// SPDX-License-Identifier: Apache-2.0
// Group "file": what can be said of the shared object itself.
#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "conformance/subject.h"
#include "conformance/tracer.h"

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
  const pluq_manifest& m = s.facts.manifest;
  expect(answer.info.abi_major == m.abi_major && answer.info.min_minor == m.min_minor &&
             answer.info.max_minor == m.max_minor,
         "its entry speaks ABI {}.{} to {}.{}, its manifest says {}.{} to {}.{}",
         answer.info.abi_major, answer.info.min_minor, answer.info.abi_major, answer.info.max_minor,
         m.abi_major, m.min_minor, m.abi_major, m.max_minor);
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
  bool repeat = false, wide = false, other = false;  // F3, 66, F2
  int i = 0;
  for (; i < 6; ++i) {
    const uint8_t b = code[i];
    repeat |= b == 0xf3;
    wide |= b == 0x66;
    other |= b == 0xf2;
    if (b != 0x66 && b != 0xf2 && b != 0xf3 && b != 0x2e && b != 0x36 && b != 0x3e && b != 0x26 &&
        b != 0x64 && b != 0x65 && b != 0x67)
      break;
  }
  if (code[i] == 0xc4 || code[i] == 0xc5 || code[i] == 0x62) return true;  // VEX and EVEX
  if ((code[i] & 0xf0) == 0x40) ++i;                                       // REX
  if (code[i] != 0x0f) return false;
  const uint8_t op = code[i + 1];
  if (op == 0x38 || op == 0x3a) return true;  // SSSE3, SSE4, BMI, AES, SHA
  const bool sse3 = ((wide || other) && (op == 0x7c || op == 0x7d || op == 0xd0)) ||
                    (other && (op == 0x12 || op == 0xf0)) || (repeat && (op == 0x12 || op == 0x16));
  return sse3 || (repeat && (op == 0xb8 || op == 0xbd));  // POPCNT, LZCNT
}

// Runs the child through dlopen and the entry and looks at each instruction of the plugin.
std::string trace(pid_t child, const std::string& path) {
  long looked = 0;
  std::string found;
  Tracer(child, path).run([&](const uint8_t* code) {
    ++looked;
    if (!above_baseline(code)) return true;
    found = fmt::format("{:02x}", fmt::join(code, code + 8, " "));
    return false;
  });
  expect(found.empty(),
         "runs an instruction above plain x86-64 before the host has told the CPU's features: {}",
         found);
  expect(looked > 0, "its entry was called, but none of its instructions was seen");
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
  return trace(child, s.path);
}

}  // namespace

std::vector<Test> file_tests() {
  return {{"file", "screen", screen},
          {"file", "manifest", manifest},
          {"file", "baseline_instructions", constructors}};
}

}  // namespace pluq::conformance
