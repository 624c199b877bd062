// SPDX-License-Identifier: Apache-2.0
// Group "fuzz": random legal sequences of calls over several live objects, reproducible by seed.
#include <algorithm>
#include <cstring>

#include "conformance/cases.h"
#include "conformance/reference.h"
#include "device/exec.h"

namespace pluq::conformance {
namespace {

struct Live {
  std::unique_ptr<Instance> in;
  bool processed = false;
  std::vector<float> weight;
};

// Compares one apply with the truth, or asks for something that must be refused.
void use(const Live& l, ThreadPool& pool, Random& random) {
  const Instance& in = *l.in;
  const auto m = static_cast<int64_t>(random.below(20));
  std::vector<double> rounded;
  const std::vector<float> x = make_inputs(in, m, random.bits(), &rounded);
  const Guarded work(in.workspace(std::max<int64_t>(m, 1), pool.size()) + random.below(3) * 64, 64);
  for (std::byte& b : work.bytes()) b = static_cast<std::byte>(random.bits());
  const HostExec exec(pool, -1, work.bytes(), &host_table());
  const Guarded y(static_cast<size_t>(m * in.n()) * 4, 4);
  ok(in.apply(exec.get(), x.data(), in.k(), m, nullptr, y.as<float>(), in.n()),
     in.text() + ": apply");
  const double error = row_error(
      y.as<float>(), in.n(), reference(rounded, l.weight, nullptr, m, in.n(), in.k()), m, in.n());
  expect(error <= in.info().error_bound + 1e-6, "{}: error {:.2e}", in.text(), error);
}

void act(std::vector<Live>& live, const std::vector<Case>& cases,
         const std::vector<Setting>& settings, ThreadPool& pool, Random& random) {
  const uint64_t what = live.empty() ? 0 : random.below(10);
  if (what == 0 && live.size() < 8) {
    Live l;
    try {
      l.in = std::make_unique<Instance>(cases[random.below(cases.size())],
                                        settings[random.below(settings.size())]);
      live.push_back(std::move(l));
    } catch (const Skip&) {
    }
    return;
  }
  if (live.empty()) return;
  const size_t i = random.below(live.size());
  Live& l = live[i];
  std::string why;
  switch (what) {
    case 1:
      live.erase(live.begin() + static_cast<ptrdiff_t>(i));
      break;
    case 2:
      l.in->specs();
      break;
    case 3:
      l.weight = l.in->dequantize();
      break;
    case 4: {
      pluq_method_info info{};
      info.struct_size = static_cast<uint32_t>(8 + random.below(sizeof info - 8));
      l.in->raw().api->describe(l.in->raw().self, &info);
      break;
    }
    case 5:
      expect(l.in->raw().api->get_extension == nullptr ||
                 l.in->raw().api->get_extension(l.in->raw().self, "nobody's/1") == nullptr,
             "answers to an unknown extension");
      break;
    case 6:
      if (l.processed)
        l.in->workspace(static_cast<int64_t>(random.below(600)) + 1,
                        1 + static_cast<int>(random.below(8)));
      break;
    default:  // loads again now and then, as a reload does
      if (!l.processed || random.below(8) == 0) {
        if (!l.in->process(pool, &why))
          fail_test("{}: refuses its own layer: {}", l.in->text(), why);
        l.weight = l.in->dequantize();
        l.processed = true;
      }
      use(l, pool, random);
  }
}

std::string sequences(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(2);
  const std::vector<Case> cases = all_cases(plugin, pool, s.seed, true);
  const std::vector<Setting> settings = all_settings(2);
  int calls = 0;
  for (uint64_t round = 0; round < 10; ++round) {
    const uint64_t seed = s.seed * 1000 + round;
    Random random(seed);
    std::vector<Live> live;
    for (int i = 0; i < 100; ++i, ++calls) {
      try {
        act(live, cases, settings, pool, random);
      } catch (const Failure& e) {
        fail_test("call {} of the sequence with seed {}: {}", i, seed, e.what());
      }
    }
  }
  return fmt::format("{} calls, seeds {} to {}", calls, s.seed * 1000, s.seed * 1000 + 9);
}

}  // namespace

std::vector<Test> fuzz_tests() { return {{"fuzz", "sequences", sequences}}; }

}  // namespace pluq::conformance
