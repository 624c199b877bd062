// SPDX-License-Identifier: Apache-2.0
// Limits of this machine to compare kernels with: memory bandwidth and arithmetic peaks, per ISA.
// Plain data; the functions come from probe_<isa>.inl, instantiated like kernels:
// PLUQ_PROBES_AVX2(my_probes_avx2). A worker calls a function on its own thread; the caller takes
// the time around all workers.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace pluq {
namespace cpu {

// A read probe is no upper bound: forms differ by up to 20 %. Take the best of all forms in each
// round.
constexpr int kProbeReadForms = 4;  // 1 stream; 1 stream with prefetch; 2 streams; 4 streams

enum class ProbePeak : int32_t {
  kInt4 =
      0,  // u8 x s8 dot products as the 4-bit kernels use them (maddubs into int16, or vpdpbusd)
  kInt8 = 1,  // exact u8 x s8 as the 8-bit kernels use it (maddwd on int16, or vpdpbusd)
  kF32 = 2,   // fused (portable: separate) multiply and add
};

struct Probes {
  const char* isa;
  // Reads this worker's share of `bytes` (64-byte aligned, a multiple of 64) in one of the forms;
  // returns a checksum to keep the reads alive.
  uint64_t (*read)(const void* memory, int64_t bytes, int form, int worker, int n_workers);
  // Runs `rounds` rounds of independent register-only instructions; returns operations done (a
  // multiply-add counts 2).
  double (*peak)(ProbePeak kind, int64_t rounds);
};

}  // namespace cpu
}  // namespace pluq
