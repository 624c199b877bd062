// SPDX-License-Identifier: Apache-2.0
// Rounding of activations to 8 bits in scalar code, for tests of the kernels that do it: those of
// the SDK and those of the engine that round what they make.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "pluq/cuda/quantized/ops.h"
#include "pluq/float8.hpp"

namespace pluq {

struct Rounded {
  std::vector<int> codes;     // [M, K] bytes as numbers 0..255
  std::vector<float> scales;  // [M, groups]
  std::vector<int32_t> zeros, sums;
};

// x [m, k] by the CPU kernels' formulas, a value at a time; of `r` the mode and its numbers count.
inline Rounded round_on_host(const std::vector<float>& x, int64_t m, int64_t k,
                             const cuda::RoundActivations& r) {
  Rounded out;
  const bool int8 = static_cast<int>(r.mode) <= 2;
  const int64_t run = r.mode == cuda::RoundMode::kFp8Group ? r.group : k;
  const int64_t sum_run = r.sum_group == 0 ? k : r.sum_group;
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t b = 0; b < k; b += run) {
      const int64_t e = std::min(b + run, k);
      float low = 0, high = 0;
      bool finite = true;
      for (int64_t j = b; j < e; ++j) {
        float v = x[static_cast<size_t>(i * k + j)];
        finite = finite && std::isfinite(v);
        if (r.bound > 0) v = std::clamp(v, -r.bound, r.bound);
        low = std::fmin(low, v);
        high = std::fmax(high, v);
      }
      float scale = r.static_scale;
      int32_t zero = r.mode == cuda::RoundMode::kInt8Static ? r.static_zero : 0;
      const float most = std::fmax(high, -low);
      if (r.mode == cuda::RoundMode::kInt8Token) scale = most / 127.0F;
      if (r.mode == cuda::RoundMode::kFp8Token || r.mode == cuda::RoundMode::kFp8Group)
        scale = most / 448.0F;
      if (r.mode == cuda::RoundMode::kInt8TokenAsym) {
        scale = (high * 0.5F - low * 0.5F) / 127.5F;
        if (scale > 0) {
          zero = static_cast<int32_t>(
              std::nearbyint(std::fmin(std::fmax(-128.0F - low / scale, -128.0F), 127.0F)));
        }
      }
      const bool dead = (int8 && !finite) || !(scale > 0);
      out.scales.push_back(int8 && !finite ? std::nanf("") : scale);
      out.zeros.push_back(dead ? 0 : zero);
      for (int64_t j = b; j < e; ++j) {
        float v = x[static_cast<size_t>(i * k + j)];
        if (r.bound > 0) v = std::clamp(v, -r.bound, r.bound);
        int code = 0;
        if (!dead && int8) {
          const float q = std::nearbyint(v / scale) + static_cast<float>(zero);
          code =
              static_cast<uint8_t>(static_cast<int8_t>(std::fmin(std::fmax(q, -128.0F), 127.0F)));
        } else if (!int8) {
          code = float8::to_e4m3(!dead ? v / scale : std::isnan(v) ? v : 0.0F);
        }
        out.codes.push_back(code);
      }
    }
    for (int64_t b = 0; b < k; b += sum_run) {
      int32_t sum = 0;
      for (int64_t j = b; j < std::min(b + sum_run, k); ++j)
        sum += static_cast<int8_t>(out.codes[static_cast<size_t>(i * k + j)]);
      out.sums.push_back(sum);
    }
  }
  return out;
}

}  // namespace pluq
