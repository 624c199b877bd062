// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace pluq {
namespace {

int32_t require_finite(int32_t id) {
  if (id < 0)
    fail(ErrorKind::kFailed, "the model gave no finite logit; the weights may be damaged");
  return id;
}

}  // namespace

void SamplingOptions::check() const {
  const auto range = [](const char* name, double value, double lo, double hi) {
    if (!(value >= lo && value <= hi)) {
      fail_usage("{} is {}; accepted are numbers from {} to {}", name, value, lo, hi);
    }
  };
  range("temperature", temperature, 0, 100);
  range("top-k", top_k, 0, std::numeric_limits<int32_t>::max());
  range("top-p", top_p, 0, 1);
  range("min-p", min_p, 0, 1);
  if (!(repeat_penalty > 0 && repeat_penalty <= 100)) {
    fail_usage("repeat-penalty is {}; accepted are numbers above 0 up to 100", repeat_penalty);
  }
  range("repeat window", repeat_window, -1, std::numeric_limits<int32_t>::max());
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), state_(options.seed) {
  options.check();
}

void Sampler::accept(int32_t id) {
  if (options_.repeat_penalty == 1) return;
  recent_.push_back(id);
  if (options_.repeat_window >= 0 && recent_.size() > static_cast<size_t>(options_.repeat_window)) {
    recent_.pop_front();
  }
}

void Sampler::penalize(std::span<const float> logits) {
  scratch_.assign(logits.begin(), logits.end());
  if (options_.repeat_penalty == 1) return;
  const auto penalty = static_cast<float>(options_.repeat_penalty);
  std::vector<int32_t> ids(recent_.begin(), recent_.end());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  for (int32_t id : ids) {
    if (id < 0 || static_cast<size_t>(id) >= scratch_.size()) continue;
    float& logit = scratch_[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
}

double Sampler::uniform() {
  // splitmix64: small, seedable with any value, the same everywhere.
  uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1.0p-53;
}

int32_t Sampler::sample(std::span<const float> logits) {
  HostLogits here(logits);
  return sample(here);
}

int32_t Sampler::sample(NextLogits& next) {
  const bool greedy = options_.temperature == 0 || options_.top_k == 1;
  const bool penalized = options_.repeat_penalty != 1 && !recent_.empty();
  if (greedy && !penalized) return require_finite(next.best());
  const double draw = greedy ? 0 : uniform();
  if (!penalized && options_.top_k <= kMostListed) {
    const bool few = options_.top_k > 0;
    const auto top = next.top(few ? options_.top_k : kMostListed, few ? 0 : options_.temperature);
    if (top && !top->usable) require_finite(-1);
    if (top) {
      candidates_.clear();
      for (const auto& [id, logit] : top->listed) candidates_.push_back({id, logit, 0});
      if (const auto id = choose(draw, few || top->complete ? 0 : top->rest)) return *id;
    }
  }
  penalize(next.all());
  const int32_t best = require_finite(argmax(scratch_));
  if (greedy) return best;
  candidates_.clear();
  for (size_t i = 0; i < scratch_.size(); ++i) {
    if (std::isfinite(scratch_[i]))
      candidates_.push_back({static_cast<int32_t>(i), scratch_[i], 0});
  }
  return *choose(draw, 0);
}

std::optional<int32_t> Sampler::choose(double draw, double rest) {
  if (options_.top_k > 0 && static_cast<size_t>(options_.top_k) < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + options_.top_k, candidates_.end(),
                     likelier);
    candidates_.resize(static_cast<size_t>(options_.top_k));
  }
  std::sort(candidates_.begin(), candidates_.end(), likelier);

  const double top = candidates_.front().logit;
  double sum = 0;
  for (Candidate& c : candidates_) sum += c.p = std::exp((c.logit - top) / options_.temperature);
  const double all = sum + rest;
  // The most likely token always stays. `open`: those that are not listed would stay, too.
  bool open = rest > 0;
  size_t keep = candidates_.size();
  if (options_.min_p > 0) {
    keep = 1;
    while (keep < candidates_.size() && candidates_[keep].p >= options_.min_p * candidates_[0].p)
      ++keep;
    open = open && keep == candidates_.size();
  }
  if (options_.top_p < 1) {
    double seen = 0;
    size_t n = 0;
    while (n < keep) {
      seen += candidates_[n++].p;
      if (seen >= options_.top_p * all) {
        open = false;
        break;
      }
    }
    keep = std::max<size_t>(n, 1);
  }
  if (open && (options_.min_p > 0 || options_.top_p < 1)) return std::nullopt;
  double total = open ? rest : 0;
  for (size_t i = 0; i < keep; ++i) total += candidates_[i].p;
  double u = draw * total;
  for (size_t i = 0; i < keep; ++i) {
    u -= candidates_[i].p;
    if (u < 0) return candidates_[i].id;
  }
  if (open) return std::nullopt;
  return candidates_[keep - 1].id;
}

}  // namespace pluq
