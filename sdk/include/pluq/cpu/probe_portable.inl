// SPDX-License-Identifier: Apache-2.0
// Instantiates the probes for portable: PLUQ_PROBES_PORTABLE(name) defines const pluq::cpu::Probes*
// name().
#pragma once

#include "pluq/cpu/probe.h"
#include "pluq/cpu/vec_portable.h"

#ifdef PLUQ_CPU_EMULATE_AVX512
#error "the probes measure a real CPU: not with PLUQ_CPU_EMULATE_AVX512"
#endif

namespace pluq {
namespace cpu {
namespace int_portable {
namespace {
#define PLUQ_INT_HAS_DOT 0
#include "pluq/cpu/probe_kernels.inl"
#undef PLUQ_INT_HAS_DOT
}  // namespace
}  // namespace int_portable
}  // namespace cpu
}  // namespace pluq

#define PLUQ_PROBES_PORTABLE(name) \
  const pluq::cpu::Probes* name(); \
  const pluq::cpu::Probes* name() { return &pluq::cpu::int_portable::kProbes; }
