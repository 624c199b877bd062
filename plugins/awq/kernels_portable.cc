// SPDX-License-Identifier: Apache-2.0
// Integer kernels for portable.
#include "pluq/cpu/int_gemm_portable.inl"

namespace awq {
PLUQ_INT_KERNELS_PORTABLE(kernels_portable)
}  // namespace awq
