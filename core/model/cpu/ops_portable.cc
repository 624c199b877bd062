// SPDX-License-Identifier: Apache-2.0
// The operators of ops.h for portable.
#define PLUQ_OPS_NAMESPACE ops_portable
#define PLUQ_OPS_NAME "portable"
#include "model/cpu/ops.inl"
