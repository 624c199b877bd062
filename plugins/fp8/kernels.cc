// SPDX-License-Identifier: Apache-2.0
#include "fp8/kernels.h"

namespace fp8 {

const pluq::cpu::FloatKernels* kernels_portable();
const pluq::cpu::FloatKernels* kernels_avx2();
const pluq::cpu::FloatKernels* kernels_avx512();

pluq::cpu::FloatTables kernel_tables() { return {kernels_portable(), kernels_avx2(), kernels_avx512()}; }

}  // namespace fp8
