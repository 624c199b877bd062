// SPDX-License-Identifier: Apache-2.0
// Instantiates the probes for avx512: PLUQ_PROBES_AVX512(name) defines const pluq::cpu::Probes*
// name().
#pragma once

#include "pluq/cpu/probe.h"
#include "pluq/cpu/vec_avx512.h"

#ifdef PLUQ_CPU_EMULATE_AVX512
#error "the probes measure a real CPU: not with PLUQ_CPU_EMULATE_AVX512"
#endif

namespace pluq {
namespace cpu {
namespace int_avx512 {
namespace {
#define PLUQ_INT_HAS_DOT 1
#include "pluq/cpu/probe_kernels.inl"
#undef PLUQ_INT_HAS_DOT
}  // namespace
}  // namespace int_avx512
}  // namespace cpu
}  // namespace pluq

#define PLUQ_PROBES_AVX512(name)   \
  const pluq::cpu::Probes* name(); \
  const pluq::cpu::Probes* name() { return &pluq::cpu::int_avx512::kProbes; }
