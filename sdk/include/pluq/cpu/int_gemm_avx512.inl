// SPDX-License-Identifier: Apache-2.0
// Instantiates the integer GEMM for AVX-512 with VNNI (the caller must have checked for VNNI;
// without it use avx2). Needs -mavx512f -mavx512bw -mavx512vl -mavx512dq; the VNNI instruction
// itself is written as asm. In a plugin:
//   #include "pluq/cpu/int_gemm_avx512.inl"
//   PLUQ_INT_KERNELS_AVX512(my_int_kernels_avx512)   // defines: const pluq::cpu::IntKernels*
//   my_int_kernels_avx512();
// With PLUQ_CPU_EMULATE_AVX512 defined the kernels run on any CPU, for tests.
#pragma once

#include "pluq/cpu/int_types.h"
#include "pluq/cpu/vec_avx512.h"

#ifdef PLUQ_CPU_EMULATE_AVX512
#define PLUQ_INT_AVX512 int_avx512_emulated
#else
#define PLUQ_INT_AVX512 int_avx512
#endif

namespace pluq {
namespace cpu {
namespace PLUQ_INT_AVX512 {
namespace {
#define PLUQ_INT_HAS_DOT 1
#include "pluq/cpu/int_kernels.inl"
#undef PLUQ_INT_HAS_DOT
}  // namespace
}  // namespace PLUQ_INT_AVX512
}  // namespace cpu
}  // namespace pluq

#define PLUQ_INT_KERNELS_AVX512(name)  \
  const pluq::cpu::IntKernels* name(); \
  const pluq::cpu::IntKernels* name() { return &pluq::cpu::PLUQ_INT_AVX512::kIntKernels; }
