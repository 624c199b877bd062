// SPDX-License-Identifier: Apache-2.0
// Integer kernels for avx512; compiled once per build for every plugin that asks for the family
// (pluq_add_plugin KERNELS).
#include "pluq/cpu/int_gemm_avx512.inl"

PLUQ_INT_KERNELS_AVX512(pluq_int_kernels_avx512)
