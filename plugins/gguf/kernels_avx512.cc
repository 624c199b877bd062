// SPDX-License-Identifier: Apache-2.0
// Integer kernels for avx512.
#include "pluq/cpu/int_gemm_avx512.inl"

namespace gguf_format {
PLUQ_INT_KERNELS_AVX512(kernels_avx512)
}  // namespace gguf_format
