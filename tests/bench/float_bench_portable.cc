// SPDX-License-Identifier: Apache-2.0
// The portable float kernels and probes of float_gemm_bench.
#include "pluq/cpu/float_gemm_portable.inl"
#include "pluq/cpu/probe_portable.inl"

PLUQ_FLOAT_KERNELS_PORTABLE(float_bench_kernels_portable)
PLUQ_PROBES_PORTABLE(float_bench_probes_portable)
