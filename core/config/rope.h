// SPDX-License-Identifier: Apache-2.0
// Rotary position embeddings: their settings in config.json, and the frequencies they stand for.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "config/json_reader.h"

namespace pluq {

enum class RopeType { kDefault, kLinear, kDynamic, kLlama3, kYarn, kLongRope };

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 10000;
  double factor = 1;
  double partial = 1;                                // share of head_dim that is rotated
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double original_max_position = 0;                  // llama3, yarn, longrope
  double beta_fast = 32, beta_slow = 1;              // yarn
  double attention_factor = 0;                       // yarn, longrope; 0: from factor
  double mscale = 0, mscale_all_dim = 0;             // yarn
  bool truncate = true;                              // yarn
  std::vector<double> short_factor, long_factor;     // longrope, one per pair of dimensions
};

// From rope_parameters or rope_scaling of `in`, old and new spelling. layer_type: the member of
// rope_parameters that holds one object per kind of layer ("full_attention"), used when it is
// there. Throws Error(kInput).
RopeConfig parse_rope(const JsonReader& in, std::string_view layer_type, double default_theta,
                      int64_t max_position);

// How many dimensions of a head are rotated: even, at most head_dim.
int64_t rotary_dim(const RopeConfig& rope, int64_t head_dim);

// Inverse frequencies [rotary_dim / 2] and the factor that scales cos and sin, as transformers
// computes them in f32 for sequences of up to `context` tokens. transformers switches longrope and
// dynamic by the length of each sequence, which would change keys that are already cached; here the
// context decides once, so longer contexts use the long factors.
struct RopeFrequencies {
  std::vector<float> inverse;
  float attention_factor = 1;
};
RopeFrequencies rope_frequencies(const RopeConfig& rope, int64_t rotary_dim,
                                 int64_t max_position_embeddings, int64_t context);

}  // namespace pluq
