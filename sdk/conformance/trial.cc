// SPDX-License-Identifier: Apache-2.0
#include "conformance/trial.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "conformance/cases.h"
#include "conformance/reference.h"
#include "device/exec.h"
#include "device/isa.h"

namespace pluq::conformance {
namespace {

namespace fs = std::filesystem;
constexpr int kRevision = 1;  // of what the trial asks; a new one makes old verdicts void

// y of one apply between inaccessible pages, from a workspace that held `fill`.
std::vector<float> compute(const Instance& in, ThreadPool& pool, const std::vector<float>& values,
                           int64_t m, int fill) {
  const Guarded x(static_cast<size_t>(m * in.k()) * 4, 4),
      y(static_cast<size_t>(m * in.n()) * 4, 4);
  const Guarded work(in.workspace(m, 1), 64);
  std::memcpy(x.data(), values.data(), x.size());
  x.read_only();
  std::memset(work.data(), fill, work.size());
  std::memset(y.data(), fill, y.size());
  const HostExec exec(pool, -1, work.bytes(), &host_table());
  step("apply of {} with M = {}", in.text(), m);
  ok(in.apply(exec.get(), x.as<float>(), in.k(), m, nullptr, y.as<float>(), in.n()),
     in.text() + ": apply");
  expect(work.intact() && y.intact(), "{}: apply writes outside its output or workspace",
         in.text());
  return {y.as<float>(), y.as<float>() + m * in.n()};
}

// Golden vectors, made here: a random layer, and what dequantize says of it in double.
void golden(const Case& c, ThreadPool& pool, uint64_t seed) {
  Instance in(c, best_setting(1));
  for (const pluq_weight_spec& s : in.specs()) {
    const pluq_tensor* t = in.tensor(text_of(s.suffix));
    expect(t != nullptr || (s.flags & PLUQ_WEIGHT_OPTIONAL) != 0,
           "{}: needs '{}', which its own layer does not have", c.label, text_of(s.suffix));
    if (t == nullptr) continue;
    bool same = t->rank == s.rank && t->dtype.id == s.dtype.id;
    for (uint32_t d = 0; same && d < s.rank; ++d)
      same = t->shape[d] == s.shape[d] && s.box_begin[d] == 0 && s.box_end[d] == s.shape[d];
    expect(same, "{}: declares another shape for '{}' than its own layer has", c.label,
           text_of(s.suffix));
  }
  std::string why;
  expect(in.process(pool, &why), "{}: refuses its own layer: {}", c.label, why);
  const std::vector<float> w = in.dequantize();
  for (const int64_t m : {1, 2, 17}) {
    std::vector<double> rounded;
    const std::vector<float> x = make_inputs(in, m, seed, &rounded);
    const std::vector<float> y = compute(in, pool, x, m, 0xff);
    const double error =
        row_error(y.data(), in.n(), reference(rounded, w, nullptr, m, in.n(), in.k()), m, in.n());
    expect(error <= in.info().error_bound + 1e-6 && in.info().error_bound <= 0.2,
           "{}: with M = {} the error is {:.3e}, the method promises {:.3e}", in.text(), m, error,
           in.info().error_bound);
    const std::vector<float> again = compute(in, pool, x, m, 0x00);
    expect(std::memcmp(y.data(), again.data(), y.size() * 4) == 0,
           "{}: the same call gives other bits the second time", in.text());
  }
}

std::string run_trial(const Subject& s) {
  if (const int null = ::open("/dev/null", O_RDWR); null >= 0) {  // its words are not the host's
    ::dup2(null, STDOUT_FILENO);
    ::dup2(null, STDERR_FILENO);
  }
  set_log_level(LogLevel::kError);
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  for (size_t i = 0; i < plugin.formats.size(); ++i) {
    step("probe of '{}'", plugin.formats[i]->id());
    try {
      plugin.formats[i]->probe("safetensors", nullptr, {});
    } catch (const Error& e) {  // a status is an answer; an exception through the boundary is not
      expect(
          std::string_view(e.what()).find("crossed the plugin boundary") == std::string_view::npos,
          "{}", e.what());
    }
    for (const Case& c : make_cases(plugin, i, pool, 64, 256, s.seed, false)) {
      golden(c, pool, s.seed);
      const int64_t threads = Holdings::now().threads;
      expect(threads == 1, "keeps {} threads of its own running", threads - 1);
      const auto live = [&] {
        Instance in(c, best_setting(1));
        std::string why;
        expect(in.process(pool, &why), "{}: refuses its own layer the second time: {}", c.label,
               why);
      };
      for (int n = 0; n < 5; ++n) live();
      const Holdings before = Holdings::now();
      for (int n = 0; n < 50; ++n) live();
      const std::string grown = growth(before, Holdings::now(), 16384);
      expect(grown.empty(), "{}: leaks: 50 lives of a method leave {} behind", c.label, grown);
    }
  }
  return "fine";
}

// A directory that only this user can write, made when it is not there. Empty when there is no such
// place.
std::string cache_directory() {
  const char *xdg = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  fs::path base = xdg != nullptr && *xdg == '/'     ? fs::path(xdg)
                  : home != nullptr && *home == '/' ? fs::path(home) / ".cache"
                                                    : fs::path();
  if (base.empty()) return {};
  std::error_code ec;
  const fs::path dir = base / "pluq" / "trials";
  const mode_t old = ::umask(0077);
  fs::create_directories(dir, ec);
  ::umask(old);
  struct stat st {};
  if (::lstat(dir.c_str(), &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != ::geteuid() ||
      (st.st_mode & 0022) != 0)
    return {};
  return dir.string();
}

// "pass" or "fail REASON" from an earlier trial of the same bytes by the same host on the same CPU,
// or empty.
std::string cached(const std::string& file) {
  struct stat st {};
  if (::lstat(file.c_str(), &st) != 0 || !S_ISREG(st.st_mode) || st.st_uid != ::geteuid() ||
      (st.st_mode & 0022) != 0)
    return {};
  try {
    return read_file(file, 1 << 16);
  } catch (const Error&) {
    return {};
  }
}

}  // namespace

std::string trial(const std::string& path, const std::string& sha256, const ElfFacts& facts,
                  const TrialOptions& options) {
  const std::string file =
      options.cache.empty()
          ? ""
          : fmt::format("{}/{}-{}.{}-{:x}-{}", options.cache, sha256, PLUQ_ABI_MAJOR,
                        PLUQ_ABI_MINOR, allowed_features(), kRevision);
  if (!file.empty()) {
    const std::string verdict = cached(file);
    if (verdict == "pass\n") return {};
    if (verdict.rfind("fail ", 0) == 0)
      return printable(verdict.substr(5, verdict.find('\n') - 5), 2000) +
             " (verdict of an earlier trial)";
  }
  const Subject subject{path, facts, 1};
  const Outcome outcome = run_isolated({"trial", "load", run_trial}, subject, options.time_limit);
  if (!file.empty() && !outcome.timed_out) {  // a busy machine is no verdict
    try {
      write_file_durably(file, outcome.status == "fail" ? "fail " + outcome.text + "\n" : "pass\n");
    } catch (const Error&) {  // the next start tries again
    }
  }
  return outcome.status == "fail" ? outcome.text : std::string();
}

std::function<std::string(const std::string&, const std::string&, const ElfFacts&)>
default_trial() {
  return [](const std::string& path, const std::string& sha256, const ElfFacts& facts) {
    TrialOptions options;
    options.cache = cache_directory();
    return trial(path, sha256, facts, options);
  };
}

}  // namespace pluq::conformance
