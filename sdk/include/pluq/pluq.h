/* SPDX-License-Identifier: Apache-2.0
 *
 * libpluq for other engines: single linear layers of a checkpoint in any format that a plugin
 * implements. Plain C11, with the conventions of abi.h: options carry struct_size and only grow at
 * the end, a call that can fail returns pluq_status * (NULL: success) that the receiver frees with
 * pluq_status_release, strings are UTF-8. Unlike there, strings are NUL-terminated. No exception
 * leaves the library. Matrices are row-major f32: y[M, N] = x[M, K] * W[N, K]^T + bias.
 *
 * Threads, as in abi.h: [load] calls on one object never overlap; [any] from any thread, calls may
 * overlap. */
#ifndef PLUQ_PLUQ_H_
#define PLUQ_PLUQ_H_

#include "pluq/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

const char *pluq_version(void); /* [any] "0.9.0"; process lifetime */

/* ---------------------------------------------------------------- errors */

/* Codes of this library: INVALID, an argument, a model or a file is wrong; UNSUPPORTED, a plugin is
 * missing, refused or cannot serve the layer; OUT_OF_MEMORY, `allocate` gave NULL or there is not
 * enough; INTERNAL, anything else. On an error outputs are untouched. What a call cannot see is the
 * caller's to keep: pointers to that much memory, objects that still live. */

int32_t pluq_status_code(const pluq_status *status); /* [any] PLUQ_STATUS_*; 0 for NULL */
const char *pluq_status_message(
    const pluq_status *status);                /* [any] valid until released; "" for NULL */
void pluq_status_release(pluq_status *status); /* [any] NULL is allowed */

/* ---------------------------------------------------------------- engine: plugins, threads, memory
 */

typedef struct pluq_engine pluq_engine; /* plugins, threads and memory; opaque */

#define PLUQ_ENGINE_TRIAL \
  1u /* try unknown plugins in a forked child first; only before the process has other threads */
#define PLUQ_ENGINE_STRICT 2u /* only plugins on the allow list */

/* Settings of an engine, read during pluq_engine_create; all zero but struct_size: the defaults. */
typedef struct pluq_engine_options {
  uint32_t struct_size;
  uint32_t flags; /* PLUQ_ENGINE_* */
  const char *const *
      plugin_directories; /* absolute; NULL: pluq/plugins beside libpluq.so, and PLUQ_PLUGIN_PATH */
  size_t plugin_directory_count; /* entries of plugin_directories */
  const char *allow_list;        /* file in the format of sha256sum, or NULL */

  /* Threads. parallel == NULL: n_workers threads of the library's own (0: one per usable CPU; 1:
   * none, all work is done by the calling thread). Else the caller's: parallel runs fn(arg, worker,
   * n_workers) once for every worker, all at the same time, and returns when all are done. It is
   * called by the thread that calls pluq, never nested. */
  int32_t n_workers;
  uint32_t reserved;
  /* NULL: the library's own threads */
  void (*parallel)(void *user, void (*fn)(void *arg, int32_t worker, int32_t n_workers), void *arg);
  void *parallel_user; /* first argument of parallel */

  /* Memory of weights, workspaces and DLPack outputs. NULL: the library's own. allocate returns
   * `bytes` aligned to `alignment` (a power of two, at most 2 MiB) or NULL; release gets the same
   * sizes back. Both [any]. */
  void *(*allocate)(void *user, size_t bytes, size_t alignment);
  void (*release)(void *user, void *data, size_t bytes); /* frees what allocate gave */
  void *memory_user; /* first argument of allocate and release */
} pluq_engine_options;

/* [load] options may be NULL. */
pluq_status *pluq_engine_create(const pluq_engine_options *options, pluq_engine **engine);
/* [load] NULL is allowed. Layers and tensors made with it stay valid: the functions that it was
 * given must last until the last of them is gone. */
void pluq_engine_destroy(pluq_engine *engine);

/* ---------------------------------------------------------------- one linear layer */

typedef struct pluq_linear pluq_linear; /* one loaded layer; opaque */

/* Settings of a layer, read during pluq_linear_create. */
typedef struct pluq_linear_options {
  uint32_t struct_size;
  uint32_t compute;     /* PLUQ_COMPUTE_EXACT, PLUQ_COMPUTE_FAST */
  uint32_t activations; /* PLUQ_ACTIVATIONS_* */
  uint32_t reserved;
  int64_t max_tokens; /* most rows that are computed at once; more are split. 0: 512 */
} pluq_linear_options;

typedef struct pluq_linear_info { /* strings live as long as the layer */
  uint32_t struct_size;
  uint32_t reserved;
  int64_t in_features, out_features;    /* K, N */
  const char *format, *scheme, *kernel; /* "gptq", "int4 g128 sym", "int_gemm_avx2" */
  double bits_per_weight;               /* scales and zero points included */
} pluq_linear_info;

/* [load] The layer `name` as `pluq inspect` lists it ("model.layers.0.mlp.up_proj") of the
 * checkpoint directory or .gguf file, loaded and repacked. options may be NULL: fast, activations
 * as the checkpoint says. */
pluq_status *pluq_linear_create(pluq_engine *engine, const char *checkpoint, const char *name,
                                const pluq_linear_options *options, pluq_linear **linear);
void pluq_linear_destroy(pluq_linear *linear); /* [load] NULL is allowed */
/* [any] info->struct_size says how much of it is written; nothing when either is NULL. */
void pluq_linear_describe(const pluq_linear *linear, pluq_linear_info *info);

/* [any], but calls on layers of one engine take turns: they share its threads. y [m, N] from x [m,
 * K], rows ldx and ldy apart; m = 0 does nothing. */
pluq_status *pluq_linear_forward(pluq_linear *linear, const float *x, int64_t ldx, int64_t m,
                                 float *y, int64_t ldy);
/* Rows [n_begin, n_end) of W as f32, ld apart. */
pluq_status *pluq_linear_dequantize(pluq_linear *linear, int64_t n_begin, int64_t n_end, float *out,
                                    int64_t ld);

/* ---------------------------------------------------------------- DLPack */

/* Same layout as DLPack's DLTensor and DLManagedTensor (its version 0.x, "dltensor" capsules): cast
 * the pointers. */
typedef struct pluq_dl_tensor {
  void *data;           /* plus byte_offset: the first element */
  int32_t device_type;  /* 1: CPU */
  int32_t device_id;    /* 0 */
  int32_t ndim;         /* dimensions */
  uint8_t dtype_code;   /* 2: float */
  uint8_t dtype_bits;   /* 32 */
  uint16_t dtype_lanes; /* 1 */
  int64_t *shape;       /* [ndim] */
  int64_t *strides;     /* in elements; NULL: dense and row-major */
  uint64_t byte_offset; /* from data */
} pluq_dl_tensor;
/* A tensor with its owner. */
typedef struct pluq_dl_managed_tensor {
  pluq_dl_tensor dl_tensor;                             /* the tensor */
  void *manager_ctx;                                    /* the owner's */
  void (*deleter)(struct pluq_dl_managed_tensor *self); /* frees the tensor and this struct */
} pluq_dl_managed_tensor;

/* x: f32 on the CPU, [..., K] with unit stride along K and, beyond two dimensions, dense. It is
 * only read and stays the caller's. *y: [..., N] in memory of the engine's allocator; the receiver
 * calls its deleter, at any time and from any thread. */
pluq_status *pluq_linear_forward_dlpack(pluq_linear *linear, const pluq_dl_tensor *x,
                                        pluq_dl_managed_tensor **y);
/* W as a new tensor [N, K]. */
pluq_status *pluq_linear_dequantize_dlpack(pluq_linear *linear, pluq_dl_managed_tensor **w);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* PLUQ_PLUQ_H_ */
