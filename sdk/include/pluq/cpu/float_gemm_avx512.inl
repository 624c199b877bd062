// SPDX-License-Identifier: Apache-2.0
// Instantiates the float kernels for avx512: PLUQ_FLOAT_KERNELS_AVX512(name) defines const
// pluq::cpu::FloatKernels* name().
#pragma once

#include "pluq/cpu/float_types.h"
#include "pluq/cpu/fvec_avx512.h"

namespace pluq {
namespace cpu {
#ifdef PLUQ_CPU_EMULATE_AVX512
namespace float_avx512_emulated {
#define PLUQ_FLOAT_ISA_NAME "avx512-emulated"
#else
namespace float_avx512 {
#define PLUQ_FLOAT_ISA_NAME "avx512"
#endif
namespace {
#include "pluq/cpu/float_kernels.inl"
#undef PLUQ_FLOAT_ISA_NAME
}  // namespace
}  // namespace float_avx512 or float_avx512_emulated
}  // namespace cpu
}  // namespace pluq

#ifdef PLUQ_CPU_EMULATE_AVX512
#define PLUQ_FLOAT_AVX512_NAMESPACE float_avx512_emulated
#else
#define PLUQ_FLOAT_AVX512_NAMESPACE float_avx512
#endif
#define PLUQ_FLOAT_KERNELS_AVX512(name)                       \
  const pluq::cpu::FloatKernels* name();                      \
  const pluq::cpu::FloatKernels* name() {                     \
    return &pluq::cpu::PLUQ_FLOAT_AVX512_NAMESPACE::kKernels; \
  }
