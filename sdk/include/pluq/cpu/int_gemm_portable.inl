// SPDX-License-Identifier: Apache-2.0
// Instantiates the integer GEMM for portable. In a plugin's kernels_portable.cc:
//   #include "pluq/cpu/int_gemm_portable.inl"
//   PLUQ_INT_KERNELS_PORTABLE(my_int_kernels_portable)   // defines: const pluq::cpu::IntKernels*
//   my_int_kernels_portable();
#pragma once

#include "pluq/cpu/int_types.h"
#include "pluq/cpu/vec_portable.h"

namespace pluq {
namespace cpu {
namespace int_portable {
namespace {
#define PLUQ_INT_HAS_DOT 0
#include "pluq/cpu/int_kernels.inl"
#undef PLUQ_INT_HAS_DOT
}  // namespace
}  // namespace int_portable
}  // namespace cpu
}  // namespace pluq

#define PLUQ_INT_KERNELS_PORTABLE(name) \
  const pluq::cpu::IntKernels* name();  \
  const pluq::cpu::IntKernels* name() { return &pluq::cpu::int_portable::kIntKernels; }
