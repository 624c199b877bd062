// SPDX-License-Identifier: Apache-2.0
// The probes for avx2.
#include "pluq/cpu/probe_avx2.inl"

namespace pluq {
PLUQ_PROBES_AVX2(probes_avx2)
}  // namespace pluq
