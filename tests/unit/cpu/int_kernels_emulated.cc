// SPDX-License-Identifier: Apache-2.0
// The AVX-512 kernels over the emulated vocabulary: run on every machine.
#define PLUQ_CPU_EMULATE_AVX512
#include "pluq/cpu/int_gemm_avx512.inl"

PLUQ_INT_KERNELS_AVX512(int_test_kernels_emulated)
