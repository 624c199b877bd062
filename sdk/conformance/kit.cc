// SPDX-License-Identifier: Apache-2.0
// One child process per test: limits, time-out, and what the child was doing when it died.
#include "conformance/kit.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <chrono>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "conformance/harness.h"

#if defined(__has_feature)
#define PLUQ_KIT_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define PLUQ_KIT_SANITIZED 0
#endif

namespace pluq::conformance {
namespace {

constexpr size_t kStepBytes = 1024, kTextBytes = 8192;

// Written by the child, read by the parent.
struct Shared {
  char step[kStepBytes];
  char status[8];
  char text[kTextBytes];
};

std::vector<Test> all_tests() {
  std::vector<Test> out;
  for (auto* group :
       {file_tests, load_tests, config_tests, weight_tests, quantizer_tests, numeric_tests,
        embedding_tests, device_tests, memory_tests, concurrency_tests, fuzz_tests}) {
    const std::vector<Test> tests = group();
    out.insert(out.end(), tests.begin(), tests.end());
  }
  return out;
}

// Where the rule behind a test is written; the first line that a test's name begins with.
std::string where_to_read(const std::string& test) {
  static constexpr std::pair<std::string_view, const char*> kPages[] = {
      {"file.screen", "core/plugin/README.md, On the way in; pluq_add_plugin() sets all of it"},
      {"file.manifest", "abi.h, pluq_manifest and pluq_plugin_info"},
      {"file.baseline", "abi.h, PLUQ_CPU_*; sdk/README.md, The contract, CPU features"},
      {"load.", "abi.h, conventions 1 and 2, and pluq_plugin_entry_fn"},
      {"metadata.", "abi.h, pluq_format_info, pluq_option and get_extension"},
      {"config.", "abi.h, pluq_probe_request and pluq_config_request; sdk/README.md, The contract"},
      {"weights.shards",
       "abi.h, pluq_weight_spec (box_begin, box_end); pluq/shard.hpp makes boxes"},
      {"quantizer.", "abi.h, pluq_quantizer and pluq_quantize_context"},
      {"embedding.", "abi.h, pluq_embedding"},
      {"weights.hostile", "sdk/README.md, The contract, The file is the truth"},
      {"weights.", "abi.h, pluq_weight_spec, pluq_sample, and create_weights in pluq_method_api"},
      {"numerics.nan", "abi.h, NUMBERS; sdk/README.md, Numbers that are not finite"},
      {"numerics.inside_region", "abi.h, pluq_exec (worker, parallel, barrier)"},
      {"numerics.", "abi.h, convention 7, pluq_method_info, and apply in pluq_method_api"},
      {"device.nan", "abi.h, NUMBERS; sdk/README.md, Numbers that are not finite"},
      {"device.", "abi.h, DEVICES; sdk/README.md, CUDA kernels"},
      {"memory.dequantize", "abi.h, dequantize in pluq_method_api"},
      {"memory.", "abi.h, conventions 4 and 6, workspace and apply in pluq_method_api"},
      {"concurrency.", "abi.h, convention 6; sdk/README.md, The contract, Threads"},
      {"", "abi.h, the order of calls above pluq_method_api; sdk/README.md, The contract"}};
  for (const auto& [begin, page] : kPages) {
    if (test.starts_with(begin)) return page;
  }
  return {};
}

void run_one(const Test& test, const Subject& subject, Shared* shared) {
  const auto say = [&](const char* status, const std::string& text) {
    std::memcpy(shared->text, text.data(), std::min(text.size(), kTextBytes - 1));
    shared->text[std::min(text.size(), kTextBytes - 1)] = 0;
    std::strncpy(shared->status, status, sizeof shared->status - 1);
  };
  try {
    say("pass", test.run(subject));
  } catch (const Failure& e) {
    say("fail", e.what());
  } catch (const Skip& e) {
    say("skip", e.what());
  } catch (const std::exception& e) {
    say("fail", fmt::format("{} (while: {})", e.what(), shared->step));
  } catch (...) {
    say("fail", fmt::format("something that is no std::exception crossed the boundary (while: {})",
                            shared->step));
  }
}

void limit(double seconds) {
  const auto set = [](auto what, rlim_t value) {
    const rlimit r{value, value};
    ::setrlimit(what, &r);
  };
  set(RLIMIT_CORE, 0);
  set(RLIMIT_CPU, static_cast<rlim_t>(seconds * 4) + 2);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !PLUQ_KIT_SANITIZED
  set(RLIMIT_AS, rlim_t{16} << 30);
#endif
  set(RLIMIT_FSIZE, rlim_t{64} << 20);
}

// True when the child had to be stopped.
bool wait_for(pid_t child, const Test& test, double time_limit, Shared* shared) {
  const auto fail = [&](const std::string& text) {
    std::strncpy(shared->status, "fail", sizeof shared->status - 1);
    const std::string all = shared->step[0] == 0 ? text : text + " while: " + shared->step;
    std::memcpy(shared->text, all.data(), std::min(all.size(), kTextBytes - 1));
  };
  const auto start = std::chrono::steady_clock::now();
  int status = 0;
  for (useconds_t pause = 200;; pause = std::min<useconds_t>(pause * 2, 20000)) {
    const pid_t got = ::waitpid(child, &status, WNOHANG);
    if (got == child) break;
    if (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() >
        time_limit) {
      ::kill(-child, SIGKILL);
      ::waitpid(child, &status, 0);
      fail(fmt::format("did not end within {:.0f} s", time_limit));
      return true;
    }
    ::usleep(pause);
  }
  ::kill(-child, SIGKILL);  // whatever it has started
  if (WIFSIGNALED(status)) {
    fail(fmt::format("died of {}", ::strsignal(WTERMSIG(status))));
  } else if (WEXITSTATUS(status) != 0 || shared->status[0] == 0) {
    fail(fmt::format("{}.{} ended its process with exit code {}", test.group, test.name,
                     WEXITSTATUS(status)));
  }
  return false;
}

Shared* share() {
  void* p =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) fail(ErrorKind::kFailed, "no memory for the result of a test");
  return static_cast<Shared*>(p);
}

Outcome run_here(const Test& test, const Subject& subject) {
  Shared* const shared = share();
  set_step_buffer(shared->step, kStepBytes);
  run_one(test, subject, shared);
  set_step_buffer(nullptr, 0);
  Outcome out{shared->status, printable(shared->text, 4000), false};
  ::munmap(shared, sizeof *shared);
  return out;
}

}  // namespace

Outcome run_isolated(const Test& test, const Subject& subject, double time_limit) {
  Shared* const shared = share();
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) {
    ::munmap(shared, sizeof *shared);
    fail(ErrorKind::kFailed, "cannot start a process: {}", std::strerror(errno));
  }
  if (child == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    limit(time_limit);
    set_step_buffer(shared->step, kStepBytes);
    run_one(test, subject, shared);
    ::_exit(0);
  }
  ::setpgid(child, child);
  Outcome out;
  out.timed_out = wait_for(child, test, time_limit, shared);
  out.status = shared->status;
  out.text = printable(shared->text, 4000);
  ::munmap(shared, sizeof *shared);
  return out;
}

int Report::count(const std::string& status) const {
  int n = 0;
  for (const Result& r : results) n += r.status == status ? 1 : 0;
  return n;
}

boost::json::value Report::to_json() const {
  boost::json::array tests;
  for (const Result& r : results) {
    boost::json::object test{{"group", r.group},
                             {"name", r.name},
                             {"status", r.status},
                             {"text", r.text},
                             {"seconds", r.seconds}};
    if (!r.read.empty()) test["read"] = r.read;
    tests.push_back(std::move(test));
  }
  return boost::json::object{{"plugin", path},
                             {"sha256", sha256},
                             {"id", id},
                             {"version", version},
                             {"abi", abi},
                             {"seed", seed},
                             {"host", fmt::format("{}.{}", PLUQ_ABI_MAJOR, PLUQ_ABI_MINOR)},
                             {"passed", count("pass")},
                             {"failed", count("fail")},
                             {"skipped", count("skip")},
                             {"conforming", count("fail") == 0 && count("pass") > 0},
                             {"tests", std::move(tests)}};
}

Report check_plugin(const Options& options, const std::function<void(const Result&)>& on_result) {
  std::error_code ec;
  Subject subject;
  subject.path = std::filesystem::canonical(options.path, ec).string();
  if (ec) fail_input("{}: {}", printable(options.path), ec.message());
  subject.seed = options.seed;
  Report report;
  report.path = subject.path;
  report.seed = options.seed;
  const auto map = MappedFile::open(subject.path);
  report.sha256 = sha256_hex(map->bytes());
  // A file that cannot even be read as a plugin fails the first test and gets no further.
  const auto add = [&](Result r) {
    if (r.status == "fail") r.read = where_to_read(r.group + "." + r.name);
    report.results.push_back(std::move(r));
    if (on_result) on_result(report.results.back());
  };
  try {
    subject.facts = read_elf(map->bytes());
    const std::string why = refusal(subject.facts);
    if (!why.empty()) fail_plugin("{}", why);
  } catch (const Error& e) {
    add({"file", "screen", "fail", e.what()});
    return report;
  }
  const pluq_manifest& m = subject.facts.manifest;
  report.id = printable(std::string_view(m.id, ::strnlen(m.id, sizeof m.id)));
  report.version = printable(std::string_view(m.version, ::strnlen(m.version, sizeof m.version)));
  report.abi = fmt::format("{}.{}", m.abi_major, m.max_minor);
  for (const Test& test : all_tests()) {
    const std::string full = std::string(test.group) + "." + test.name;
    if (!options.filter.empty() && full.find(options.filter) == std::string::npos) continue;
    const auto start = std::chrono::steady_clock::now();
    const Outcome o = options.in_process ? run_here(test, subject)
                                         : run_isolated(test, subject, options.time_limit);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    add({test.group, test.name, o.status, o.text, took.count()});
  }
  if (report.results.empty())
    fail_usage("--only {}: no test has this in its name", printable(options.filter));
  return report;
}

}  // namespace pluq::conformance
