// SPDX-License-Identifier: Apache-2.0
// Kernels and probes of avx2 for int_gemm_bench.
#include "pluq/cpu/int_gemm_avx2.inl"
#include "pluq/cpu/probe_avx2.inl"

PLUQ_INT_KERNELS_AVX2(int_bench_kernels_avx2)
PLUQ_PROBES_AVX2(int_bench_probes_avx2)
