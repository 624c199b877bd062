// SPDX-License-Identifier: Apache-2.0
// Float kernels for portable.
#include "pluq/cpu/float_gemm_portable.inl"

namespace fp8 {
PLUQ_FLOAT_KERNELS_PORTABLE(kernels_portable)
}  // namespace fp8
