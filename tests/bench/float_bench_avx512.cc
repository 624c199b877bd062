// SPDX-License-Identifier: Apache-2.0
// The avx512 float kernels and probes of float_gemm_bench.
#include "pluq/cpu/float_gemm_avx512.inl"
#include "pluq/cpu/probe_avx512.inl"

PLUQ_FLOAT_KERNELS_AVX512(float_bench_kernels_avx512)
PLUQ_PROBES_AVX512(float_bench_probes_avx512)
