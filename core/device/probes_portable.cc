// SPDX-License-Identifier: Apache-2.0
// The probes for portable.
#include "pluq/cpu/probe_portable.inl"

namespace pluq {
PLUQ_PROBES_PORTABLE(probes_portable)
}  // namespace pluq
