// SPDX-License-Identifier: Apache-2.0
// The float kernels of avx512 over the emulated vocabulary, for the tests.
#define PLUQ_CPU_EMULATE_AVX512
#include "pluq/cpu/float_gemm_avx512.inl"

PLUQ_FLOAT_KERNELS_AVX512(float_test_kernels_emulated)
