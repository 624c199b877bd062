// SPDX-License-Identifier: Apache-2.0
// Group "memory": exact workspaces, poisoned memory, pages that may not be touched, and no
// allocation in apply.
#include <cstring>

#include "conformance/cases.h"
#include "conformance/reference.h"
#include "device/exec.h"

namespace pluq::conformance {
namespace {

// Every case processed at one setting, then body(instance).
template <class Body>
int each(const Subject& s, ThreadPool& pool, bool variants, const Body& body) {
  const Ready plugin = ready(s);
  int n = 0;
  for (const Case& c : all_cases(plugin, pool, s.seed, variants)) {
    for (const uint32_t compute : {PLUQ_COMPUTE_EXACT, PLUQ_COMPUTE_FAST}) {
      Setting setting = best_setting(pool.size());
      setting.compute = compute;
      Instance in(c, setting);
      std::string why;
      if (!in.process(pool, &why)) fail_test("{}: refuses its own layer: {}", in.text(), why);
      body(plugin, in);
      ++n;
    }
  }
  return n;
}

std::string workspace(const Subject& s) {
  ThreadPool pool(2);
  const int n = each(s, pool, true, [&](const Ready&, const Instance& in) {
    uint64_t before = 0;
    for (const int64_t m : {1, 2, 7, 16, 64, 512}) {
      const uint64_t bytes = in.workspace(m, 2);
      expect(bytes <= uint64_t{1} << 30,
             "{}: asks for {} bytes of workspace, the limit told was 2^30", in.text(), bytes);
      expect(bytes >= before && in.workspace(m, 1) <= bytes,
             "{}: workspace() is not monotone at M = {}", in.text(), m);
      before = bytes;
      if (bytes == 0) continue;
      std::vector<double> rounded;
      const std::vector<float> x = make_inputs(in, m, s.seed, &rounded);
      const Guarded exact(bytes, 64), y(static_cast<size_t>(m * in.n()) * 4, 4);
      const HostExec exec(pool, -1, exact.bytes(), &host_table());
      step("apply of {} with a workspace of exactly {} bytes, M = {}", in.text(), bytes, m);
      ok(in.apply(exec.get(), x.data(), in.k(), m, nullptr, y.as<float>(), in.n()),
         in.text() + ": with the workspace it asked for");
      expect(exact.intact(), "{}: writes outside its workspace of {} bytes", in.text(), bytes);
      const Guarded untouched(static_cast<size_t>(m * in.n()) * 4, 4);
      const HostExec small(pool, -1, exact.bytes().first(bytes - 1), &host_table());
      step("apply of {} with a workspace one byte short, M = {}", in.text(), m);
      pluq_status* status =
          in.apply(small.get(), x.data(), in.k(), m, nullptr, untouched.as<float>(), in.n());
      expect(status != nullptr, "{}: accepts a workspace one byte smaller than workspace({}) = {}",
             in.text(), m, bytes);
      const int32_t code = host_table().status_code(status);
      take_text(status);
      expect(code == PLUQ_STATUS_INVALID,
             "{}: refuses a small workspace with status {}, not INVALID", in.text(), code);
      for (const std::byte b : untouched.bytes())
        expect(b == std::byte{0}, "{}: an error, but y was touched", in.text());
    }
  });
  return fmt::format("{} methods", n);
}

// The result must not depend on what the workspace and y held before.
std::string poison(const Subject& s) {
  ThreadPool pool(1);
  const int n = each(s, pool, true, [&](const Ready&, const Instance& in) {
    for (const int64_t m : {1, 16}) {
      std::vector<double> rounded;
      const std::vector<float> x = make_inputs(in, m, s.seed, &rounded);
      std::vector<std::vector<float>> results;
      for (const int fill : {0x00, 0xff, 0x7f, 0xa5}) {
        const Guarded work(in.workspace(m, 1), 64, fill == 0x7f);
        std::vector<float> y(static_cast<size_t>(m * in.n()));
        std::memset(work.data(), fill, work.size());
        std::memset(y.data(), fill, y.size() * 4);
        const HostExec exec(pool, -1, work.bytes(), &host_table());
        step("apply of {} with memory full of {:#x}", in.text(), fill);
        ok(in.apply(exec.get(), x.data(), in.k(), m, nullptr, y.data(), in.n()), in.text());
        results.push_back(std::move(y));
        expect(std::memcmp(results[0].data(), results.back().data(), results[0].size() * 4) == 0,
               "{}: the result depends on what the workspace or y held before (filled with {:#x})",
               in.text(), fill);
      }
    }
  });
  return fmt::format("{} methods", n);
}

// dequantize writes its rows and nothing else, and any range of rows gives the same values.
std::string dequantize(const Subject& s) {
  ThreadPool pool(1);
  const int n = each(s, pool, true, [&](const Ready&, const Instance& in) {
    const std::vector<float> all = in.dequantize();
    const pluq_exec exec = single_exec();
    for (const auto& [begin, end] :
         {std::pair<int64_t, int64_t>{0, 1}, {5, 12}, {in.n() - 1, in.n()}, {3, 3}}) {
      const int64_t ld = in.k() + 3, rows = end - begin;
      const Guarded out(static_cast<size_t>(rows == 0 ? 0 : (rows - 1) * ld + in.k()) * 4, 4);
      step("dequantize of {} rows {} to {}", in.text(), begin, end);
      ok(in.raw().api->dequantize(in.raw().self, &exec, in.tensors().data(), sizeof(pluq_tensor),
                                  in.tensors().size(), begin, end, out.as<float>(), ld),
         in.text());
      expect(out.intact(), "{}: dequantize writes outside its output", in.text());
      for (int64_t r = 0; r < rows; ++r) {
        expect(std::memcmp(out.as<float>() + r * ld, all.data() + (begin + r) * in.k(),
                           static_cast<size_t>(in.k()) * 4) == 0,
               "{}: row {} differs when only rows {} to {} are asked for", in.text(), begin + r,
               begin, end);
        if (r + 1 < rows)
          expect(out.as<float>()[r * ld + in.k()] == 0, "{}: dequantize writes between rows",
                 in.text());
      }
    }
    const Guarded out(static_cast<size_t>(2 * in.k()) * 4, 4);
    for (const auto& [begin, end] :
         {std::pair<int64_t, int64_t>{-1, 1}, {in.n() - 1, in.n() + 1}, {2, 1}}) {
      step("dequantize of {} rows {} to {}, which it does not have", in.text(), begin, end);
      pluq_status* status =
          in.raw().api->dequantize(in.raw().self, &exec, in.tensors().data(), sizeof(pluq_tensor),
                                   in.tensors().size(), begin, end, out.as<float>(), in.k());
      expect(status != nullptr, "{}: accepts rows {} to {} of {}", in.text(), begin, end, in.n());
      take_text(status);
    }
  });
  return fmt::format("{} methods", n);
}

// The plugin's own calls of malloc, mmap and pthread_create, counted while apply runs.
std::string no_allocation(const Subject& s) {
  ThreadPool pool(2);
  const int n = each(s, pool, true, [&](const Ready& plugin, const Instance& in) {
    static bool watching = false;
    if (!watching) watch_calls(plugin.opened);
    watching = true;
    for (const int64_t m : {1, 2, 17, 65}) {
      std::vector<double> rounded;
      const std::vector<float> x = make_inputs(in, m, s.seed, &rounded);
      std::vector<float> y(static_cast<size_t>(m * in.n()));
      const Guarded work(in.workspace(m, 2), 64);
      const HostExec exec(pool, -1, work.bytes(), &host_table());
      step("apply of {} with M = {}, its calls into the C library counted", in.text(), m);
      const Calls before = calls_so_far();
      ok(in.apply(exec.get(), x.data(), in.k(), m, nullptr, y.data(), in.n()), in.text());
      const Calls after = calls_so_far();
      expect(after.allocations == before.allocations && after.frees == before.frees &&
                 after.maps == before.maps,
             "{}: apply with M = {} allocates {} times and frees {} times", in.text(), m,
             after.allocations - before.allocations, after.frees - before.frees);
      expect(after.threads == before.threads, "{}: apply starts {} threads", in.text(),
             after.threads - before.threads);
    }
  });
  return fmt::format("{} methods; {} allocations of the plugin while loading were seen", n,
                     calls_so_far().allocations);
}

}  // namespace

std::vector<Test> memory_tests() {
  return {{"memory", "workspace", workspace},
          {"memory", "poison", poison},
          {"memory", "dequantize", dequantize},
          {"memory", "no_allocation", no_allocation}};
}

}  // namespace pluq::conformance
