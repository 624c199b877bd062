// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

namespace int3 {

void run_portable(const Job& j) {
  const int64_t groups = j.k / 32;
  for (int64_t n = j.n_begin; n < j.n_end; ++n) {
    for (int64_t m = 0; m < j.m; ++m) {
      double sum = j.bias == nullptr ? 0 : j.bias[n];
      for (int64_t g = 0; g < groups; ++g) {
        const uint32_t* p = j.planes + (n * groups + g) * 3;
        const float* x = j.x + m * j.ldx + g * 32;
        float part = 0;
        for (int i = 0; i < 32; ++i) {
          const int code =
              static_cast<int>((p[0] >> i & 1) | (p[1] >> i & 1) << 1 | (p[2] >> i & 1) << 2);
          part += static_cast<float>(code - 4) * x[i];
        }
        sum += static_cast<double>(j.scales[n * groups + g]) * static_cast<double>(part);
      }
      j.y[m * j.ldy + n] = static_cast<float>(sum);
    }
  }
}

}  // namespace int3
