// SPDX-License-Identifier: Apache-2.0
// Integer kernels for portable.
#include "pluq/cpu/int_gemm_portable.inl"

namespace w8a8 {
PLUQ_INT_KERNELS_PORTABLE(kernels_portable)
}  // namespace w8a8
