// SPDX-License-Identifier: Apache-2.0
// Chooses the next token from logits. Greedy takes the lowest id on a tie; sampling draws from a
// seeded, platform-independent generator, so that equal seeds give equal texts.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/next_logits.h"

namespace pluq {

struct SamplingOptions {
  double temperature = 0;  // 0: greedy
  int32_t top_k = 0;       // 0: off
  double top_p = 1;        // 1: off
  double min_p = 0;        // 0: off; relative to the most likely token
  double repeat_penalty =
      1;  // 1: off; divides positive and multiplies negative logits of recent tokens
  int32_t repeat_window = 64;  // how many recent tokens the penalty looks at; -1: all
  uint64_t seed = 0;

  // Throws Error(kUsage) naming the option, its value and the accepted range.
  void check() const;
};

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);

  // Remembers a token for the repeat penalty (the prompt's tokens too).
  void accept(int32_t id);

  // The id of the next token. logits: [vocab] f32, unchanged. Throws Error(kFailed) when no logit
  // is finite.
  int32_t sample(std::span<const float> logits);
  // The same id for the same logits on a device, where greedy and the largest kMostListed are found
  // there, and all are copied only when those do not decide (a repeat penalty, top_k above
  // kMostListed, a flat distribution). Without top_k, `rest` has f32's accuracy: a draw or a top_p
  // within 1e-7 of the boundary between two tokens may take the other one.
  int32_t sample(NextLogits& next);

 private:
  struct Candidate {
    int32_t id;
    float logit;
    double p;
  };
  static bool likelier(const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
  }
  void penalize(std::span<const float> logits);
  // From candidates_, which are the likeliest when `rest`, the weight of all others, is not 0;
  // nothing when those decide. draw: in [0, 1).
  std::optional<int32_t> choose(double draw, double rest);
  double uniform();  // in [0, 1), 53 bits

  SamplingOptions options_;
  uint64_t state_;
  std::deque<int32_t> recent_;
  std::vector<float> scratch_;  // [vocab]
  std::vector<Candidate> candidates_;
};

}  // namespace pluq
