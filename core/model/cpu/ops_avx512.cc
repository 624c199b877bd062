// SPDX-License-Identifier: Apache-2.0
// The operators of ops.h for avx512.
#define PLUQ_OPS_NAMESPACE ops_avx512
#define PLUQ_OPS_NAME "avx512"
#include "model/cpu/ops.inl"
