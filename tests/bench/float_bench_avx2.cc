// SPDX-License-Identifier: Apache-2.0
// The avx2 float kernels and probes of float_gemm_bench.
#include "pluq/cpu/float_gemm_avx2.inl"
#include "pluq/cpu/probe_avx2.inl"

PLUQ_FLOAT_KERNELS_AVX2(float_bench_kernels_avx2)
PLUQ_PROBES_AVX2(float_bench_probes_avx2)
