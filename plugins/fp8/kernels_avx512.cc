// SPDX-License-Identifier: Apache-2.0
// Float kernels for avx512.
#include "pluq/cpu/float_gemm_avx512.inl"

namespace fp8 {
PLUQ_FLOAT_KERNELS_AVX512(kernels_avx512)
}  // namespace fp8
