// SPDX-License-Identifier: Apache-2.0
// The portable tables under test, instantiated as a plugin does it.
#include "pluq/cpu/int_gemm_portable.inl"

PLUQ_INT_KERNELS_PORTABLE(int_test_kernels_portable)
