// SPDX-License-Identifier: Apache-2.0
// Float kernels for avx2; compiled once per build for every plugin that asks for the family
// (pluq_add_plugin KERNELS).
#include "pluq/cpu/float_gemm_avx2.inl"

PLUQ_FLOAT_KERNELS_AVX2(pluq_float_kernels_avx2)
