// SPDX-License-Identifier: Apache-2.0
// Groups "concurrency" and "lifetime": one method on many threads, and a thousand methods one after
// another.
#include <dlfcn.h>

#include <cstring>
#include <thread>

#include "conformance/cases.h"
#include "conformance/reference.h"
#include "device/exec.h"

namespace pluq::conformance {
namespace {

std::string one_method(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  int n = 0;
  for (const Case& c : all_cases(plugin, pool, s.seed, false)) {
    Instance in(c, best_setting(1));
    std::string why;
    if (!in.process(pool, &why)) fail_test("{}: refuses its own layer: {}", in.text(), why);
    constexpr int kThreads = 4;
    constexpr int64_t kM[kThreads] = {1, 5, 16, 33};
    std::vector<std::vector<float>> x(kThreads), want(kThreads);
    std::vector<std::string> errors(kThreads);
    const std::vector<float> weight = in.dequantize();
    for (int t = 0; t < kThreads; ++t) {
      std::vector<double> rounded;
      x[t] = make_inputs(in, kM[t], s.seed + static_cast<uint64_t>(t), &rounded);
      want[t].resize(static_cast<size_t>(kM[t] * in.n()));
      const Guarded work(in.workspace(kM[t], 1), 64);
      const HostExec exec(pool, -1, work.bytes(), &host_table());
      ok(in.apply(exec.get(), x[t].data(), in.k(), kM[t], nullptr, want[t].data(), in.n()),
         in.text());
    }
    step("apply of {} on {} threads at once", in.text(), kThreads);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        ThreadPool own(1);
        const Guarded work(in.workspace(kM[t], 1), 64);
        std::vector<float> y(want[t].size());
        for (int round = 0; round < 40 && errors[t].empty(); ++round) {
          const HostExec exec(own, -1, work.bytes(), &host_table());
          errors[t] = take_text(
              in.apply(exec.get(), x[t].data(), in.k(), kM[t], nullptr, y.data(), in.n()));
          if (errors[t].empty() && std::memcmp(y.data(), want[t].data(), y.size() * 4) != 0)
            errors[t] = "gives other values than alone";
        }
      });
    }
    for (std::thread& t : threads) t.join();
    for (const std::string& e : errors)
      expect(e.empty(), "{}: on several threads it {}", in.text(), e);
    ++n;
  }
  return fmt::format("{} methods on 4 threads", n);
}

std::string thousand_methods(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  const std::vector<Case> cases = all_cases(plugin, pool, s.seed, false);
  const auto round = [&](const Case& c) {
    Instance in(c, best_setting(1));
    std::string why;
    if (!in.process(pool, &why)) fail_test("{}: refuses its own layer: {}", in.text(), why);
  };
  for (const Case& c : cases) {
    if (c.n != cases[0].n) continue;
    for (int i = 0; i < 50; ++i) round(c);
    const Holdings before = Holdings::now();
    for (int i = 0; i < 1000; ++i) round(c);
    const std::string grown = growth(before, Holdings::now(), 4096);
    expect(grown.empty(), "{}: 1000 lives of a method leave {} behind", c.label, grown);
  }
  const int64_t threads = Holdings::now().threads;
  expect(threads == 1, "keeps {} threads of its own running", threads - 1);
  return fmt::format("1000 lives of {} methods without growth", cases.size());
}

// Loaded, entered, described, probed and closed again: nothing stays, and the file is unmapped. A
// plugin with CUDA images may refuse to be unmapped, as the CUDA runtime keeps them.
std::string thousand_loads(const Subject& s) {
  const auto round = [&] {
    Ready plugin = ready(s);
    for (const auto& f : plugin.formats) {
      step("probe after a load");
      f->probe("", nullptr, {});
    }
    plugin.formats.clear();
    step("dlclose");
    expect(::dlclose(plugin.opened.handle) == 0, "dlclose fails: {}", ::dlerror());
  };
  for (int i = 0; i < 5; ++i) round();
  void* still = ::dlopen(s.path.c_str(), RTLD_NOW | RTLD_NOLOAD);
  expect(
      still == nullptr || s.facts.manifest.cuda_runtime != 0,
      "stays mapped after dlclose: a unique symbol, a thread-local destructor or a flag keeps it");
  const Holdings before = Holdings::now();
  for (int i = 0; i < 1000; ++i) round();
  // A static libstdc++ never gives back the pool that it takes for exceptions when it is loaded.
  constexpr size_t kPoolBytes = 80000;
  const std::string grown = growth(before, Holdings::now(), 1000 * kPoolBytes);
  expect(grown.empty(), "1000 loads leave {} behind", grown);
  return "1000 times loaded, entered, probed and closed without growth";
}

// Errors must not leak either: a refused config, a refused workspace, and a failing allocation at
// every place.
std::string failing_allocations(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  const std::vector<Case> cases = all_cases(plugin, pool, s.seed, false);
  watch_calls(plugin.opened);
  int failures = 0;
  for (const Case& c : cases) {
    if (c.n != cases[0].n) continue;
    for (long n = 1; n < 400; ++n) {
      bool carried_out = true;
      try {
        fail_allocation(n);
        Instance in(c, best_setting(1));
        std::string why;
        step("the life of {} while allocation {} fails", c.label, n);
        const bool fine = in.process(pool, &why);
        carried_out = fail_allocation(0);
        expect(fine || carried_out, "{}: {}", in.text(), why);
      } catch (const Failure& e) {
        if (!fail_allocation(0)) throw;  // nothing was made to fail
      } catch (const Skip&) {
        if (!fail_allocation(0)) throw;
      }
      if (!carried_out) break;
      ++failures;
    }
    Instance again(c, best_setting(1));
    std::string why;
    expect(again.process(pool, &why), "{}: does not recover from a failed allocation: {}", c.label,
           why);
  }
  return fmt::format("{} allocations failed in turn", failures);
}

}  // namespace

std::vector<Test> concurrency_tests() {
  return {{"concurrency", "one_method", one_method},
          {"lifetime", "thousand_methods", thousand_methods},
          {"lifetime", "thousand_loads", thousand_loads},
          {"lifetime", "failing_allocations", failing_allocations}};
}

}  // namespace pluq::conformance
