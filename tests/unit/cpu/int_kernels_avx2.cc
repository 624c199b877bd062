// SPDX-License-Identifier: Apache-2.0
// The avx2 tables under test, instantiated as a plugin does it.
#include "pluq/cpu/int_gemm_avx2.inl"

PLUQ_INT_KERNELS_AVX2(int_test_kernels_avx2)
