// SPDX-License-Identifier: Apache-2.0
// The operators of ops.h for avx2.
#define PLUQ_OPS_NAMESPACE ops_avx2
#define PLUQ_OPS_NAME "avx2"
#include "model/cpu/ops.inl"
