/* SPDX-License-Identifier: Apache-2.0 */
/* Host extension "pluq.gemm/1" (draft): matrix products by the host's library: cuBLASLt with cached
 * plans on a GPU, the host's own kernel on the emulated device, absent on the CPU. A plugin asks
 * pluq_exec.host->get_extension for it; it links no CUDA library itself. Plain C11. */
#ifndef PLUQ_EXT_GEMM_H_
#define PLUQ_EXT_GEMM_H_

#include "pluq/abi.h"

#ifdef __cplusplus
extern "C" {
#endif
/* Id for pluq_host.get_extension. */
#define PLUQ_GEMM "pluq.gemm/1"

/* How many scales an 8-bit operand has. */
#define PLUQ_GEMM_SCALE_NONE 0u
#define PLUQ_GEMM_SCALE_ONE 1u     /* one for the whole operand */
#define PLUQ_GEMM_SCALE_PER_ROW 2u /* x: [m], w: [n] */

/* y [m, n] = x [m, k] w [n, k]^T + bias, summed in f32 and rounded once. All pointers are memory of
 * the device of `exec`; ld* count elements of their type.
 *   x and w   both F16 or both BF16, without scales; or both F8_E4M3, with scales for both of the
 *             same kind: value = code * scale
 *   y         the type of x or F32; for F8_E4M3 also F16 or BF16
 *   bias      f32 [n] or NULL; a library may round it to the type of y before it is added */
typedef struct pluq_gemm_args {
  uint32_t struct_size;
  uint32_t x_type, w_type, y_type; /* PLUQ_DTYPE_* */
  int64_t m, n, k;                 /* rows of x and y, rows of w, columns of x and w */
  const void *x;                   /* [m, k] */
  int64_t ldx;                     /* distance between rows of x */
  const void *w;                   /* [n, k] */
  int64_t ldw;                     /* distance between rows of w */
  const float *bias;               /* [n] or NULL */
  void *y;                         /* [m, n] */
  int64_t ldy;                     /* distance between rows of y */
  uint32_t x_scale_kind, w_scale_kind; /* PLUQ_GEMM_SCALE_* */
  const float *x_scale, *w_scale;      /* as many as the kind says, or NULL */
} pluq_gemm_args;

typedef struct pluq_gemm { /* The table of the extension. */
  uint32_t struct_size;
  uint32_t reserved;
  /* [exec] Queues the product on exec->stream; allocates nothing that the caller must free and
   * waits for nothing. `exec` is the one that the host gave to the call in progress. UNSUPPORTED
   * when neither library nor host has this product: the caller then uses a kernel of its own. The
   * first product of a shape may take longer, while a plan is made. */
  pluq_status *(*multiply)(const pluq_exec *exec, const pluq_gemm_args *args);
} pluq_gemm;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* PLUQ_EXT_GEMM_H_ */
