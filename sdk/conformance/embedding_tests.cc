// SPDX-License-Identifier: Apache-2.0
// Group "embedding": pluq.embedding/1, rows of a table, against dequantize.
#include <cmath>
#include <cstring>
#include <limits>

#include "conformance/cases.h"
#include "device/exec.h"
#include "plugin/call_args.h"

namespace pluq::conformance {
namespace {

const pluq_embedding* table_of(const Instance& in) {
  const pluq_method_api* api = in.raw().api;
  if (!PLUQ_HAS(api, get_extension) || api->get_extension == nullptr) return nullptr;
  return static_cast<const pluq_embedding*>(api->get_extension(in.raw().self, PLUQ_EMBEDDING));
}

void check_gather(const Instance& in, ThreadPool& pool, const pluq_embedding& embedding) {
  const int64_t n = in.n(), k = in.k(), ld = k + 5;
  const std::vector<float> w = in.dequantize();
  const std::vector<int32_t> all = {0, static_cast<int32_t>(n - 1), 7, 7, 3};
  for (const size_t count : {size_t{0}, size_t{1}, all.size()}) {
    // Ids and y end at inaccessible pages.
    const Guarded ids(count * sizeof(int32_t), 4),
        y(count == 0 ? 0 : ((count - 1) * static_cast<size_t>(ld) + static_cast<size_t>(k)) * 4, 4);
    std::memcpy(ids.data(), all.data(), ids.size());
    ids.read_only();
    std::fill_n(y.as<float>(), y.size() / 4, std::numeric_limits<float>::quiet_NaN());
    const Guarded work(in.workspace(static_cast<int64_t>(count), pool.size()), 64);
    const HostExec exec(pool, -1, work.bytes(), &host_table());
    const pluq_output out = f32_output(y.as<float>(), static_cast<int64_t>(count), k, ld);
    step("gather of {} rows of {}", count, in.text());
    ok(embedding.gather(in.raw().self, exec.get(), ids.as<int32_t>(), static_cast<int64_t>(count),
                        &out),
       in.text() + ": gather");
    for (size_t i = 0; i < count; ++i) {
      for (int64_t j = 0; j < k; ++j) {
        const float got = y.as<float>()[static_cast<int64_t>(i) * ld + j],
                    want = w[static_cast<size_t>(all[i] * k + j)];
        expect(std::fabs(got - want) <= 1e-6F * std::fabs(want),
               "{}: gather of row {} gives {} in column {}, dequantize says {}", in.text(), all[i],
               got, j, want);
      }
      for (int64_t j = k; i + 1 < count && j < ld; ++j) {
        expect(std::isnan(y.as<float>()[static_cast<int64_t>(i) * ld + j]),
               "{}: gather writes between the rows of y: they are y->ld = K + {} apart", in.text(),
               ld - k);
      }
    }
  }
}

std::string gather(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(2);
  int tables = 0;
  std::string refused = "no layer of kind 'embedding' has " PLUQ_EMBEDDING;
  for (const Case& c : all_cases(plugin, pool, s.seed, true)) {
    Setting setting = best_setting(pool.size());
    setting.kind = "embedding";
    try {
      Instance in(c, setting);
      std::string why;
      if (!in.process(pool, &why)) fail_test("{}: refuses its own layer: {}", in.text(), why);
      const pluq_embedding* embedding = table_of(in);
      if (embedding == nullptr) continue;
      expect(PLUQ_HAS(embedding, gather) && embedding->gather != nullptr,
             "{}: its table of {} is too short or has an empty slot", in.text(), PLUQ_EMBEDDING);
      check_gather(in, pool, *embedding);
      ++tables;
    } catch (const Skip& e) {
      refused = e.what();
    }
  }
  if (tables == 0) throw Skip(refused);
  return fmt::format("{} tables", tables);
}

}  // namespace

std::vector<Test> embedding_tests() { return {{"embedding", "gather", gather}}; }

}  // namespace pluq::conformance
