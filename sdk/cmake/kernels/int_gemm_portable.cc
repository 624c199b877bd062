// SPDX-License-Identifier: Apache-2.0
// Integer kernels for portable; compiled once per build for every plugin that asks for the family
// (pluq_add_plugin KERNELS).
#include "pluq/cpu/int_gemm_portable.inl"

PLUQ_INT_KERNELS_PORTABLE(pluq_int_kernels_portable)
