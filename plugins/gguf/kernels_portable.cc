// SPDX-License-Identifier: Apache-2.0
// Integer kernels for portable.
#include "pluq/cpu/int_gemm_portable.inl"

namespace gguf_format {
PLUQ_INT_KERNELS_PORTABLE(kernels_portable)
}  // namespace gguf_format
