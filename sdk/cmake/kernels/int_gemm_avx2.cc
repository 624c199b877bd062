// SPDX-License-Identifier: Apache-2.0
// Integer kernels for avx2; compiled once per build for every plugin that asks for the family
// (pluq_add_plugin KERNELS).
#include "pluq/cpu/int_gemm_avx2.inl"

PLUQ_INT_KERNELS_AVX2(pluq_int_kernels_avx2)
