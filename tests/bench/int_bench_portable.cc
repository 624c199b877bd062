// SPDX-License-Identifier: Apache-2.0
// Kernels and probes of portable for int_gemm_bench.
#include "pluq/cpu/int_gemm_portable.inl"
#include "pluq/cpu/probe_portable.inl"

PLUQ_INT_KERNELS_PORTABLE(int_bench_kernels_portable)
PLUQ_PROBES_PORTABLE(int_bench_probes_portable)
