// SPDX-License-Identifier: Apache-2.0
// The float kernels of avx512, for the tests.
#include "pluq/cpu/float_gemm_avx512.inl"

PLUQ_FLOAT_KERNELS_AVX512(float_test_kernels_avx512)
