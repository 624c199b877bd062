// SPDX-License-Identifier: Apache-2.0
// Group "weights": the declared tensors, their shards, and what happens when a file holds nonsense.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "checkpoint/dtype.h"
#include "conformance/cases.h"
#include "conformance/explain.h"
#include "conformance/reference.h"
#include "device/exec.h"

namespace pluq::conformance {
namespace {

void check_spec(const std::string& who, const pluq_weight_spec& s) {
  const std::string name(text_of(s.suffix));
  expect(!name.empty(), "{}: a tensor without a suffix", who);
  expect(s.rank <= PLUQ_MAX_RANK, "{}: '{}' has rank {}", who, name, s.rank);
  expect(s.dtype.id != PLUQ_DTYPE_UNKNOWN && s.dtype.block_bytes > 0 && s.dtype.block_elements > 0,
         "{}: '{}' has dtype {} with {} elements in {} bytes", who, name, s.dtype.id,
         s.dtype.block_elements, s.dtype.block_bytes);
  for (uint32_t d = 0; d < s.rank; ++d) {
    expect(s.shape[d] >= 0, "{}: '{}' has {} along dimension {}", who, name, s.shape[d], d);
    expect(s.box_begin[d] >= 0 && s.box_begin[d] <= s.box_end[d] && s.box_end[d] <= s.shape[d],
           "{}: the box of '{}' along dimension {} is {} to {} of {}", who, name, d, s.box_begin[d],
           s.box_end[d], s.shape[d]);
  }
  for (const int32_t d : {s.input_dim, s.output_dim, s.packed_dim}) {
    expect(d >= -1 && d < static_cast<int32_t>(s.rank), "{}: '{}' names dimension {} of {}", who,
           name, d, s.rank);
  }
  expect(s.pack_elements > 0 && s.pack_words > 0, "{}: '{}' packs {} elements in {} words", who,
         name, s.pack_elements, s.pack_words);
  expect(s.sample.kind <= PLUQ_SAMPLE_BYTES &&
             (s.sample.kind != PLUQ_SAMPLE_REAL || s.sample.lo <= s.sample.hi),
         "{}: '{}' has a sample of kind {} from {} to {}", who, name, s.sample.kind, s.sample.lo,
         s.sample.hi);
}

std::string specs(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  int n = 0;
  for (const Case& c : all_cases(plugin, pool, s.seed, true)) {
    const Instance instance(c, best_setting(1));
    std::set<std::string> seen;
    for (const pluq_weight_spec& w : instance.specs()) {
      check_spec(c.label, w);
      expect(seen.insert(std::string(text_of(w.suffix))).second, "{}: '{}' is declared twice",
             c.label, text_of(w.suffix));
      const pluq_tensor* t = instance.tensor(text_of(w.suffix));
      expect(t != nullptr || (w.flags & PLUQ_WEIGHT_OPTIONAL) != 0,
             "{}: needs '{}', which the layer does not have", c.label, text_of(w.suffix));
      if (t == nullptr) continue;
      expect(t->rank == w.rank && std::equal(t->shape, t->shape + t->rank, w.shape) &&
                 t->dtype.id == w.dtype.id,
             "{}: declares '{}' as {} {}, the layer has {} {}", c.label, text_of(w.suffix),
             dtype_name(w.dtype.id), shape_text({w.shape, w.rank}), dtype_name(t->dtype.id),
             shape_text({t->shape, t->rank}));
      ++n;
    }
    for (const pluq_tensor& t : c.tensors) {
      expect(seen.contains(std::string(text_of(t.name))),
             "{}: the layer has '{}', which create_weights does not declare", c.label,
             text_of(t.name));
    }
  }
  return fmt::format("{} tensors as declared", n);
}

// A stride larger than the struct, a capacity that is too small, a shorter struct: only what fits
// is written.
std::string protocol(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  const std::vector<Case> cases = all_cases(plugin, pool, s.seed, false);
  for (const Case& c : cases) {
    const Instance instance(c, best_setting(1));
    const std::vector<pluq_weight_spec> want = instance.specs();
    const size_t stride = sizeof(pluq_weight_spec) + 24;
    std::vector<std::byte> wide(stride * want.size(), std::byte{0xa5});
    for (size_t i = 0; i < want.size(); ++i) {
      std::memset(wide.data() + i * stride, 0, sizeof(pluq_weight_spec));
      reinterpret_cast<pluq_weight_spec*>(wide.data() + i * stride)->struct_size =
          sizeof(pluq_weight_spec);
    }
    size_t count = want.size();
    step("create_weights with a stride of {}", stride);
    ok(instance.raw().api->create_weights(
           instance.raw().self, reinterpret_cast<pluq_weight_spec*>(wide.data()), stride, &count),
       c.label);
    for (size_t i = 0; i < want.size(); ++i) {
      const auto* spec = reinterpret_cast<const pluq_weight_spec*>(wide.data() + i * stride);
      expect(text_of(spec->suffix) == text_of(want[i].suffix),
             "{}: ignores the stride of create_weights", c.label);
      expect(std::all_of(wide.data() + i * stride + sizeof(pluq_weight_spec),
                         wide.data() + (i + 1) * stride,
                         [](std::byte b) { return b == std::byte{0xa5}; }),
             "{}: create_weights writes between two specs", c.label);
    }
    const Guarded one(sizeof(pluq_weight_spec), 8);
    one.as<pluq_weight_spec>()->struct_size = sizeof(pluq_weight_spec);
    count = 1;
    step("create_weights with room for one spec");
    ok(instance.raw().api->create_weights(instance.raw().self, one.as<pluq_weight_spec>(),
                                          sizeof(pluq_weight_spec), &count),
       c.label);
    expect(count == want.size(), "{}: with room for one spec it counts {} tensors, not {}", c.label,
           count, want.size());
  }
  return fmt::format("{} layers", cases.size());
}

std::vector<float> run_once(const Instance& in, ThreadPool& pool, const std::vector<float>& x,
                            int64_t m) {
  const Guarded workspace(in.workspace(m, pool.size()), 64);
  const HostExec exec(pool, -1, workspace.bytes(), &host_table());
  std::vector<float> y(static_cast<size_t>(m * in.n()));
  step("apply of {} with M = {}", in.text(), m);
  ok(in.apply(exec.get(), x.data(), in.k(), m, nullptr, y.data(), in.n()), in.text() + ": apply");
  return y;
}

struct ShardCount {
  int good = 0, refused = 0;
};

std::string box_text(const pluq_weight_spec& s) {
  std::string out;
  for (uint32_t d = 0; d < s.rank; ++d)
    out += fmt::format("{}{}:{}", d == 0 ? "" : ", ", s.box_begin[d], s.box_end[d]);
  return fmt::format("'{}' [{}]", text_of(s.suffix), out);
}

std::string boxes_text(const Instance& shard) {
  std::string out;
  for (const pluq_weight_spec& s : shard.specs()) out += (out.empty() ? "" : ", ") + box_text(s);
  return out;
}

// The boxes of all shards leave nothing of a tensor out between them. What lies behind the last one
// may be padding.
void check_cover(const std::vector<std::unique_ptr<Instance>>& shards, const std::string& who) {
  std::vector<std::vector<pluq_weight_spec>> specs;
  for (const auto& s : shards) specs.push_back(s->specs());
  for (size_t t = 0; t < specs[0].size(); ++t) {
    for (uint32_t d = 0; d < specs[0][t].rank; ++d) {
      std::vector<std::pair<int64_t, int64_t>> boxes;
      for (const auto& of_shard : specs) {
        if (t < of_shard.size())
          boxes.emplace_back(of_shard[t].box_begin[d], of_shard[t].box_end[d]);
      }
      std::sort(boxes.begin(), boxes.end());
      int64_t end = 0;
      for (const auto& [from, to] : boxes) {
        expect(from <= end,
               "{}: no shard's box of '{}' holds {} to {} along dimension {}; the first two shards "
               "ask for {} and {}",
               who, text_of(specs[0][t].suffix), end, from, d, box_text(specs[0][t]),
               box_text(specs[specs.size() > 1 ? 1 : 0][t]));
        end = std::max(end, to);
      }
    }
  }
}

// The shard's W is its part of the whole one's, to the bit.
void check_piece(const Instance& shard, const Shard& part, const std::vector<float>& whole,
                 const std::string& who) {
  const std::vector<float> piece = shard.dequantize();
  std::vector<float> want(piece.size());
  for (int64_t n = 0; n < shard.n(); ++n)
    std::copy_n(whole.data() + (part.n0 + n) * shard.layer().k + part.k0, shard.k(),
                want.data() + n * shard.k());
  if (std::memcmp(piece.data(), want.data(), piece.size() * 4) == 0) return;
  const std::string words =
      compare_weights(piece, want, shard.n(), shard.k(), 1e-6, "dequantize of the shard gives");
  fail_test(
      "{}: is not its part of the whole layer, rows {} to {} and columns {} to {}.{} Its boxes are "
      "{}.",
      who, part.n0, part.n1, part.k0, part.k1, words, boxes_text(shard));
}

// The methods of all shards; nothing when the format refuses them with a reason.
std::vector<std::unique_ptr<Instance>> make_shards(const Case& c, const Setting& setting,
                                                   const std::vector<Shard>& parts,
                                                   const std::string& who) {
  std::vector<std::unique_ptr<Instance>> out;
  for (const Shard& part : parts) {
    try {
      out.push_back(std::make_unique<Instance>(c, setting, &part));
    } catch (const Skip&) {
      expect(parts.size() > 1, "{}: refuses the layer as a shard of one", c.label);
      return {};
    } catch (const Failure& e) {
      fail_test("{}, shard {}: {}", who, out.size(), e.what());
    }
  }
  return out;
}

// One layer split over `ranks` along its outputs or its inputs.
void check_split(const Case& c, ThreadPool& pool, int ranks, bool rows, uint64_t seed,
                 ShardCount* count) {
  const int64_t full = rows ? c.n : c.k;
  if (full % ranks != 0) return;
  Setting setting = best_setting(1);
  setting.compute = PLUQ_COMPUTE_EXACT;
  setting.activations = PLUQ_ACTIVATIONS_FLOAT;
  const std::string who =
      fmt::format("{} split over {} ranks along {}", c.label, ranks, rows ? "N" : "K");
  std::string why;
  Instance whole(c, setting);
  if (!whole.process(pool, &why)) fail_test("{}: refuses its own layer: {}", whole.text(), why);
  const std::vector<float> weight = whole.dequantize();
  constexpr int64_t m = 3;
  std::vector<double> rounded;
  const std::vector<float> x = make_inputs(whole, m, seed, &rounded);
  std::vector<double> sum(static_cast<size_t>(m * c.n));
  std::vector<Shard> parts;
  for (int rank = 0; rank < ranks; ++rank) {
    Shard part{0, c.n, 0, c.k};
    (rows ? part.n0 : part.k0) = full * rank / ranks;
    (rows ? part.n1 : part.k1) = full * (rank + 1) / ranks;
    parts.push_back(part);
  }
  const std::vector<std::unique_ptr<Instance>> shards = make_shards(c, setting, parts, who);
  if (shards.empty()) {
    ++count->refused;
    return;
  }
  check_cover(shards, who);
  for (int rank = 0; rank < ranks; ++rank) {
    const Shard& part = parts[static_cast<size_t>(rank)];
    Instance& shard = *shards[static_cast<size_t>(rank)];
    const std::string name = fmt::format("{}, shard {}", who, rank);
    check_piece(shard, part, weight, name);
    if (!shard.process(pool, &why)) fail_test("{}: {}", name, why);
    std::vector<float> mine(static_cast<size_t>(m * shard.k()));
    for (int64_t i = 0; i < m; ++i)
      std::copy_n(x.data() + i * c.k + part.k0, shard.k(), mine.data() + i * shard.k());
    const std::vector<float> y = run_once(shard, pool, mine, m);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t n = 0; n < shard.n(); ++n)
        sum[static_cast<size_t>(i * c.n + part.n0 + n)] +=
            static_cast<double>(y[static_cast<size_t>(i * shard.n() + n)]);
    }
  }
  const std::vector<float> all(sum.begin(), sum.end());
  const pluq_activation_scheme& a = whole.info().activation_scheme;
  if (rows || a.strategy == PLUQ_STRATEGY_NONE || a.dynamic == 0) {
    const double error =
        row_error(all.data(), c.n, reference(rounded, weight, nullptr, m, c.n, c.k), m, c.n);
    expect(
        error <= 2 * whole.info().error_bound + 1e-6,
        "{}: the shards' results together are off by {:.2e}; each shard's W is right, so look at "
        "what apply takes from the layer instead of the shard",
        who, error);
  }
  ++count->good;
}

std::string shards(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  ShardCount count;
  for (const Case& c : all_cases(plugin, pool, s.seed, true)) {
    for (const int ranks : {1, 2, 4, 8}) {
      check_split(c, pool, ranks, true, s.seed, &count);
      if (ranks > 1) check_split(c, pool, ranks, false, s.seed, &count);
    }
  }
  return fmt::format("{} splits sum to the whole, {} refused with a reason", count.good,
                     count.refused);
}

std::string sampled(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  int n = 0;
  for (const Case& c : all_cases(plugin, pool, s.seed, true)) {
    const Instance like(c, best_setting(1));
    const Case random = filled(like, s.seed, false);
    Instance in(random, best_setting(1));
    std::string why;
    expect(in.process(pool, &why), "{}: refuses tensors filled by its own samples: {}",
           random.label, why);
    const std::vector<float> w = in.dequantize();
    expect(std::all_of(w.begin(), w.end(), [](float v) { return std::isfinite(v); }),
           "{}: a weight is not finite", random.label);
    std::vector<double> rounded;
    const std::vector<float> x = make_inputs(in, 2, s.seed, &rounded);
    const double error = row_error(run_once(in, pool, x, 2).data(), in.n(),
                                   reference(rounded, w, nullptr, 2, in.n(), in.k()), 2, in.n());
    expect(error <= in.info().error_bound + 1e-6, "{}: error {:.2e}, the method promises {:.2e}",
           in.text(), error, in.info().error_bound);
    ++n;
  }
  return fmt::format("{} layers filled by their samples", n);
}

// Random bytes in every tensor: refused by process_plan with words, or computed without touching
// what is not there.
std::string hostile(const Subject& s) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  int refused = 0, computed = 0;
  for (const Case& c : all_cases(plugin, pool, s.seed, true)) {
    for (uint64_t round = 0; round < 3; ++round) {
      const Instance like(c, best_setting(1));
      const Case random = filled(like, s.seed + round, true);
      Instance in(random, best_setting(1));
      std::string why;
      if (!in.process(pool, &why)) {
        expect(!why.empty(), "{}: refused without a word", random.label);
        ++refused;
        continue;
      }
      in.dequantize();
      run_once(in, pool, std::vector<float>(static_cast<size_t>(2 * in.k()), 0.5F), 2);
      ++computed;
    }
  }
  return fmt::format("{} refused with a sentence, {} computed", refused, computed);
}

}  // namespace

std::vector<Test> weight_tests() {
  return {{"weights", "specs", specs},
          {"weights", "protocol", protocol},
          {"weights", "shards", shards},
          {"weights", "samples", sampled},
          {"weights", "hostile", hostile}};
}

}  // namespace pluq::conformance
