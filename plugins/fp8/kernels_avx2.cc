// SPDX-License-Identifier: Apache-2.0
// Float kernels for avx2.
#include "pluq/cpu/float_gemm_avx2.inl"

namespace fp8 {
PLUQ_FLOAT_KERNELS_AVX2(kernels_avx2)
}  // namespace fp8
