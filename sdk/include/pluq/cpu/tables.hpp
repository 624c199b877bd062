// SPDX-License-Identifier: Apache-2.0
// The kernel tables of a plugin that is built with pluq_add_plugin(... KERNELS int float): one
// function per family and instruction set, defined by sdk/cmake/kernels/<family>_gemm_<isa>.cc and
// linked into the plugin.
#pragma once

#include "pluq/cpu/float_linear.hpp"
#include "pluq/cpu/int_linear.hpp"

#pragma GCC visibility push(hidden)
const pluq::cpu::IntKernels* pluq_int_kernels_portable();
const pluq::cpu::IntKernels* pluq_int_kernels_avx2();
const pluq::cpu::IntKernels* pluq_int_kernels_avx512();
const pluq::cpu::FloatKernels* pluq_float_kernels_portable();
const pluq::cpu::FloatKernels* pluq_float_kernels_avx2();
const pluq::cpu::FloatKernels* pluq_float_kernels_avx512();
#pragma GCC visibility pop

namespace pluq {
namespace cpu {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  // Needs KERNELS int.
  inline IntTables int_tables() {
    return {pluq_int_kernels_portable(), pluq_int_kernels_avx2(), pluq_int_kernels_avx512()};
  }
  // Needs KERNELS float.
  inline FloatTables float_tables() {
    return {pluq_float_kernels_portable(), pluq_float_kernels_avx2(), pluq_float_kernels_avx512()};
  }

}  // namespace )
}  // namespace cpu
}  // namespace pluq
