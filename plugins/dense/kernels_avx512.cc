// SPDX-License-Identifier: Apache-2.0
// Float kernels for avx512.
#include "pluq/cpu/float_gemm_avx512.inl"

namespace dense {
PLUQ_FLOAT_KERNELS_AVX512(kernels_avx512)
}  // namespace dense
