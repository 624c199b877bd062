// SPDX-License-Identifier: Apache-2.0
// The float kernels of avx2, for the tests.
#include "pluq/cpu/float_gemm_avx2.inl"

PLUQ_FLOAT_KERNELS_AVX2(float_test_kernels_avx2)
