// SPDX-License-Identifier: Apache-2.0
// Instantiates the integer GEMM for avx2. In a plugin's kernels_avx2.cc:
//   #include "pluq/cpu/int_gemm_avx2.inl"
//   PLUQ_INT_KERNELS_AVX2(my_int_kernels_avx2)   // defines: const pluq::cpu::IntKernels*
//   my_int_kernels_avx2();
#pragma once

#include "pluq/cpu/int_types.h"
#include "pluq/cpu/vec_avx2.h"

namespace pluq {
namespace cpu {
namespace int_avx2 {
namespace {
#define PLUQ_INT_HAS_DOT 0
#include "pluq/cpu/int_kernels.inl"
#undef PLUQ_INT_HAS_DOT
}  // namespace
}  // namespace int_avx2
}  // namespace cpu
}  // namespace pluq

#define PLUQ_INT_KERNELS_AVX2(name)    \
  const pluq::cpu::IntKernels* name(); \
  const pluq::cpu::IntKernels* name() { return &pluq::cpu::int_avx2::kIntKernels; }
