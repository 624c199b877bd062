// SPDX-License-Identifier: Apache-2.0
// The kernels of int3_group: one file per instruction set, chosen once per layer from what the host
// says of the CPU. Plain C types only, so that no inline function is shared between instruction
// sets.
#pragma once

#include <stdint.h>

namespace int3 {

// A slice of the output: rows [n_begin, n_end) of W for all m rows of x.
struct Job {
  const uint32_t* planes;  // [N, K/32, 3]: bit b of the 32 codes of a group
  const float* scales;     // [N, K/32]
  const float* x;          // [m, K], rows ldx apart
  const float* bias;       // [N] or null
  float* y;                // [m, N], rows ldy apart
  int64_t m, k, ldx, ldy, n_begin, n_end;
};
using Kernel = void (*)(const Job& job);

// Both sum along K in an order that depends on K alone: bits do not change with the batch or the
// threads.
void run_portable(const Job& job);
void run_avx2(const Job& job);

}  // namespace int3
