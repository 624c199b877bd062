// SPDX-License-Identifier: Apache-2.0
// Float kernels for avx2.
#include "pluq/cpu/float_gemm_avx2.inl"

namespace dense {
PLUQ_FLOAT_KERNELS_AVX2(kernels_avx2)
}  // namespace dense
