// SPDX-License-Identifier: Apache-2.0
// The avx512 tables under test, instantiated as a plugin does it.
#include "pluq/cpu/int_gemm_avx512.inl"

PLUQ_INT_KERNELS_AVX512(int_test_kernels_avx512)
