// SPDX-License-Identifier: Apache-2.0
// Integer kernels for portable.
#include "pluq/cpu/int_gemm_portable.inl"

namespace nvfp4 {
PLUQ_INT_KERNELS_PORTABLE(kernels_portable)
}  // namespace nvfp4
