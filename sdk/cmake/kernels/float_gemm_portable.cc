// SPDX-License-Identifier: Apache-2.0
// Float kernels for portable; compiled once per build for every plugin that asks for the family
// (pluq_add_plugin KERNELS).
#include "pluq/cpu/float_gemm_portable.inl"

PLUQ_FLOAT_KERNELS_PORTABLE(pluq_float_kernels_portable)
