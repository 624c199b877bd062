// SPDX-License-Identifier: Apache-2.0
// Float kernels for portable.
#include "pluq/cpu/float_gemm_portable.inl"

namespace dense {
PLUQ_FLOAT_KERNELS_PORTABLE(kernels_portable)
}  // namespace dense
