// SPDX-License-Identifier: Apache-2.0
// Kernels and probes of avx512 for int_gemm_bench.
#include "pluq/cpu/int_gemm_avx512.inl"
#include "pluq/cpu/probe_avx512.inl"

PLUQ_INT_KERNELS_AVX512(int_bench_kernels_avx512)
PLUQ_PROBES_AVX512(int_bench_probes_avx512)
