// SPDX-License-Identifier: Apache-2.0
// Integer kernels for avx2.
#include "pluq/cpu/int_gemm_avx2.inl"

namespace mxfp4 {
PLUQ_INT_KERNELS_AVX2(kernels_avx2)
}  // namespace mxfp4
