// SPDX-License-Identifier: Apache-2.0
// The probes for avx512.
#include "pluq/cpu/probe_avx512.inl"

namespace pluq {
PLUQ_PROBES_AVX512(probes_avx512)
}  // namespace pluq
