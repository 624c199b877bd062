// SPDX-License-Identifier: Apache-2.0
#include "nf4/kernels.h"

namespace nf4 {

const pluq::cpu::IntKernels* kernels_portable();
const pluq::cpu::IntKernels* kernels_avx2();
const pluq::cpu::IntKernels* kernels_avx512();

pluq::cpu::IntTables kernel_tables() { return {kernels_portable(), kernels_avx2(), kernels_avx512()}; }

}  // namespace nf4
