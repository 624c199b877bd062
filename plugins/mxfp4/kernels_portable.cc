// SPDX-License-Identifier: Apache-2.0
// Integer kernels for portable.
#include "pluq/cpu/int_gemm_portable.inl"

namespace mxfp4 {
PLUQ_INT_KERNELS_PORTABLE(kernels_portable)
}  // namespace mxfp4
