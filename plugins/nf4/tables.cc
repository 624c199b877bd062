// SPDX-License-Identifier: Apache-2.0
#include "nf4/tables.h"

#include <algorithm>
#include <cmath>

namespace nf4 {

const std::array<float, 16> kNf4 = {-1.0F,
                                    -0.6961928009986877F,
                                    -0.5250730514526367F,
                                    -0.39491748809814453F,
                                    -0.28444138169288635F,
                                    -0.18477343022823334F,
                                    -0.09105003625154495F,
                                    0.0F,
                                    0.07958029955625534F,
                                    0.16093020141124725F,
                                    0.24611230194568634F,
                                    0.33791524171829224F,
                                    0.44070982933044434F,
                                    0.5626170039176941F,
                                    0.7229568362236023F,
                                    1.0F};

const std::array<float, 16> kFp4 = {
    0.0F,  0.0052083333F,  0.6666667F,  1.0F,  0.33333334F,  0.5F,  0.16666667F,  0.25F,
    -0.0F, -0.0052083333F, -0.6666667F, -1.0F, -0.33333334F, -0.5F, -0.16666667F, -0.25F};

std::vector<float> dynamic_map() {
  constexpr int kDecades = 7;
  std::vector<float> out{0.0F, 1.0F};
  for (int i = 0; i < kDecades; ++i) {
    const int steps = 1 << i;
    const double decade = std::pow(10.0, i - (kDecades - 1));
    for (int j = 0; j < steps; ++j) {
      // The middle of step j of [0.1, 1]. The bounds are torch.linspace's: counted from the nearer
      // end, rounded once.
      const auto bound = [&](int at) {
        const double step = static_cast<double>((1.0F - 0.1F) / static_cast<float>(steps));
        return static_cast<float>(at < (steps + 1) / 2 ? static_cast<double>(0.1F) + step * at
                                                       : 1.0 - step * (steps - at));
      };
      const float middle = (bound(j) + bound(j + 1)) / 2.0F;
      const float value = static_cast<float>(decade) * middle;
      out.push_back(value);
      out.push_back(-value);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

int nearest(const std::vector<float>& table, float x) {
  const auto above = std::lower_bound(table.begin(), table.end(), x);
  if (above == table.begin()) return 0;
  if (above == table.end()) return static_cast<int>(table.size()) - 1;
  const auto index = static_cast<int>(above - table.begin());
  return *above - x < x - *(above - 1) ? index : index - 1;
}

}  // namespace nf4
