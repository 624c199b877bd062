// SPDX-License-Identifier: Apache-2.0
// Instantiates the float kernels for avx2: PLUQ_FLOAT_KERNELS_AVX2(name) defines const
// pluq::cpu::FloatKernels* name().
#pragma once

#include "pluq/cpu/float_types.h"
#include "pluq/cpu/fvec_avx2.h"

namespace pluq {
namespace cpu {
namespace float_avx2 {
namespace {
#define PLUQ_FLOAT_ISA_NAME "avx2"
#include "pluq/cpu/float_kernels.inl"
#undef PLUQ_FLOAT_ISA_NAME
}  // namespace
}  // namespace float_avx2
}  // namespace cpu
}  // namespace pluq

#define PLUQ_FLOAT_KERNELS_AVX2(name)    \
  const pluq::cpu::FloatKernels* name(); \
  const pluq::cpu::FloatKernels* name() { return &pluq::cpu::float_avx2::kKernels; }
