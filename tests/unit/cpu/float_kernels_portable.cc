// SPDX-License-Identifier: Apache-2.0
// The float kernels of portable, for the tests.
#include "pluq/cpu/float_gemm_portable.inl"

PLUQ_FLOAT_KERNELS_PORTABLE(float_test_kernels_portable)
