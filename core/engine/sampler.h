// SPDX-License-Identifier: Apache-2.0
// Chooses the next token from logits. Greedy takes the lowest id on a tie; sampling draws from a
// seeded, platform-independent generator, so that equal seeds give equal texts.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

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

 private:
  struct Candidate {
    int32_t id;
    float logit;
    double p;
  };
  void penalize(std::span<const float> logits);
  double uniform();  // in [0, 1), 53 bits

  SamplingOptions options_;
  uint64_t state_;
  std::deque<int32_t> recent_;
  std::vector<float> scratch_;  // [vocab]
  std::vector<Candidate> candidates_;
};

// The lowest id among the largest values; -1 when none is finite or values is empty.
int32_t argmax(std::span<const float> values);

}  // namespace pluq
