// SPDX-License-Identifier: Apache-2.0
#include "model/next_logits.h"

#include <cmath>
#include <cstddef>

namespace pluq {

int32_t argmax(std::span<const float> values) {
  int32_t best = -1;
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) continue;
    if (best < 0 || values[i] > values[static_cast<size_t>(best)]) best = static_cast<int32_t>(i);
  }
  return best >= 0 && std::isfinite(values[static_cast<size_t>(best)]) ? best : -1;
}

}  // namespace pluq
