// SPDX-License-Identifier: Apache-2.0
// Instantiates the float kernels for portable: PLUQ_FLOAT_KERNELS_PORTABLE(name) defines const
// pluq::cpu::FloatKernels* name().
#pragma once

#include "pluq/cpu/float_types.h"
#include "pluq/cpu/fvec_portable.h"

namespace pluq {
namespace cpu {
namespace float_portable {
namespace {
#define PLUQ_FLOAT_ISA_NAME "portable"
#include "pluq/cpu/float_kernels.inl"
#undef PLUQ_FLOAT_ISA_NAME
}  // namespace
}  // namespace float_portable
}  // namespace cpu
}  // namespace pluq

#define PLUQ_FLOAT_KERNELS_PORTABLE(name) \
  const pluq::cpu::FloatKernels* name();  \
  const pluq::cpu::FloatKernels* name() { return &pluq::cpu::float_portable::kKernels; }
