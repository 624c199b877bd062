/* SPDX-License-Identifier: Apache-2.0
 *
 * pluq plugin ABI, version 1.0; what of it is frozen: see the end. Plain C11, also valid C++. This header and dtype.h are the only
 * layouts that cross the boundary between the host and a plugin; changes are listed in sdk/ABI_CHANGELOG.md.
 *
 * THE CONVENTIONS
 *  1. Structs. Every struct that may grow starts with `struct_size`, set by its producer to the size it was compiled
 *     with. A reader uses a field only when PLUQ_HAS(p, field) holds; fields are only ever appended. A callee that
 *     fills a caller's struct writes at most the caller's struct_size bytes and leaves struct_size alone. The few
 *     value types without struct_size (pluq_str, pluq_text, pluq_dtype, the object pairs) never change, nor do the two
 *     embedded in others (pluq_sample, pluq_activation_scheme). Arrays of growing structs: (pointer, stride in bytes, count).
 *  2. Errors. A call that can fail returns pluq_status *: NULL is success, anything else was made by host->status_new
 *     and belongs to the receiver, who hands it on or frees it with host->status_free. On error outputs are untouched.
 *     Destroy calls return nothing. No exception, longjmp, abort or exit crosses the boundary, in either direction.
 *  3. Strings are UTF-8 with a length, not NUL-terminated; they belong to whoever passes them and are valid for the
 *     duration of the call unless the declaration says otherwise.
 *  4. Memory. Each side frees what it allocated. Tensor data, run-time buffers, outputs and workspaces are the host's.
 *  5. Open sets. An unknown dtype, device kind, layer kind, status code, flag or extension id is never an error by
 *     itself: the answer is "unsupported" with a reason.
 *  6. Threads, as a tag on each function:
 *       [load]  while plugins and models are loaded; calls on one object never overlap
 *       [any]   from any thread at any time, calls may overlap
 *       [exec]  as [any], on the path of computation: no allocation, no lock held across the call, no logging, no
 *               device synchronisation. Objects are immutable by then.
 *  7. A matrix [M, K] is row-major: M tokens, K in_features, N out_features, y[M, N] = x[M, K] * W[N, K]^T.
 *     `ld` is the distance between rows, in elements. Sizes end in _bytes, counts say what they count.
 *  8. Names: pluq_host_* is implemented by the host, the other *_api tables by the plugin.
 */
#ifndef PLUQ_ABI_H_
#define PLUQ_ABI_H_

#include <stddef.h>
#include <stdint.h>

#include "pluq/dtype.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Each side states the range of minors it can work with; both meet at the lower maximum. The major is in the symbol. */
#define PLUQ_ABI_MAJOR 1u
#define PLUQ_ABI_MINOR 0u
#define PLUQ_ABI_MIN_MINOR 0u /* the oldest minor that code built from this header works with */
#define PLUQ_ENTRY_SYMBOL "pluq_plugin_entry_v1"
#define PLUQ_PLUGIN_ENTRY pluq_plugin_entry_v1

/* True when *p, a struct with struct_size, is long enough to hold `field`. */
#define PLUQ_HAS(p, field)                                                             \
  ((size_t)((const char *)&(p)->field - (const char *)(p)) + sizeof((p)->field) <= \
   (size_t)(p)->struct_size)

#define PLUQ_MAX_RANK 4 /* dimensions of a tensor; frozen */

/* ---------------------------------------------------------------- value types, frozen */

typedef struct pluq_str { /* UTF-8, not NUL-terminated; {NULL, 0} is empty */
  const char *data; /* NULL when size is 0 */
  size_t size; /* bytes */
} pluq_str;

/* A caller's text buffer. The callee writes at most `capacity` bytes and sets `size` to what it wrote; longer text is
 * cut. data may be NULL when capacity is 0. */
typedef struct pluq_text {
  char *data; /* the caller's */
  size_t capacity; /* bytes that fit */
  size_t size; /* bytes written */
} pluq_text;

typedef struct pluq_status pluq_status; /* made by the host, opaque */
typedef struct pluq_json pluq_json;     /* a cursor into text the host has parsed; see pluq_host_json */
typedef struct pluq_host pluq_host;
typedef struct pluq_exec pluq_exec;

/* Status codes: an open set; an unknown one is read as INTERNAL. */
#define PLUQ_STATUS_INVALID 1       /* an argument, configuration or tensor is wrong */
#define PLUQ_STATUS_UNSUPPORTED 2   /* right, but not built here */
#define PLUQ_STATUS_NOT_FOUND 3     /* something named is absent */
#define PLUQ_STATUS_OUT_OF_MEMORY 4
#define PLUQ_STATUS_INTERNAL 5
#define PLUQ_STATUS_ABI_MISMATCH 6
#define PLUQ_STATUS_CANCELLED 7

/* ---------------------------------------------------------------- the host's table */
/* Levels of pluq_host.log. */
#define PLUQ_LOG_DEBUG 0
#define PLUQ_LOG_INFO 1
#define PLUQ_LOG_WARNING 2

struct pluq_host { /* What the host offers to plugins. Process lifetime. */
  uint32_t struct_size;
  uint32_t abi_major; /* PLUQ_ABI_MAJOR */
  uint32_t abi_minor; /* the effective minor of this conversation */
  uint32_t reserved;
  pluq_str name;    /* "pluq"; process lifetime */
  pluq_str version; /* "0.9.0"; process lifetime */

  /* [any] A new status with a copy of the text: one sentence that names the place, the offending value and the
   * accepted ones. Never returns NULL: when memory is short it returns a static out-of-memory status. */
  pluq_status *(*status_new)(const pluq_host *host, int32_t code, const char *text, size_t text_size);
  int32_t (*status_code)(const pluq_status *status);                        /* [any] */
  pluq_str (*status_text)(const pluq_status *status);                       /* [any] valid until freed */
  void (*status_free)(const pluq_host *host, pluq_status *status);          /* [any] NULL is allowed */
  void (*log)(const pluq_host *host, int32_t level, pluq_str text);         /* [any], not [exec] */
  /* [any] A table of optional services by id ("pluq.host.json/1"), or NULL. Process lifetime. */
  const void *(*get_extension)(const pluq_host *host, const char *id);
};

/* Extension "pluq.host.json/1": cursors into JSON that the host has parsed under its limits. A cursor is valid until
 * the call that received it returns; so are the strings read through it. All [any]. */
#define PLUQ_HOST_JSON "pluq.host.json/1"
#define PLUQ_JSON_NULL 0
#define PLUQ_JSON_BOOL 1
#define PLUQ_JSON_INT 2 /* fits int64 */
#define PLUQ_JSON_REAL 3
#define PLUQ_JSON_STRING 4
#define PLUQ_JSON_ARRAY 5
#define PLUQ_JSON_OBJECT 6
typedef struct pluq_host_json {
  uint32_t struct_size;
  uint32_t reserved;
  int32_t (*type)(const pluq_json *node);                                 /* PLUQ_JSON_* */
  size_t (*size)(const pluq_json *node);                                  /* members of an array or object, else 0 */
  const pluq_json *(*get)(const pluq_json *object, pluq_str key);         /* NULL when absent or not an object */
  const pluq_json *(*at)(const pluq_json *node, size_t index);            /* array element or object value, or NULL */
  pluq_str (*key_at)(const pluq_json *object, size_t index);              /* in file order; empty when out of range */
  int64_t (*as_int)(const pluq_json *node);                               /* of BOOL, INT; a REAL is truncated; else 0 */
  double (*as_real)(const pluq_json *node);                               /* of INT, REAL; else 0 */
  pluq_str (*as_string)(const pluq_json *node);                           /* of STRING; else empty */
} pluq_host_json;

/* Extension "pluq.host.match/1": the three ways checkpoints name layers. [load] */
#define PLUQ_HOST_MATCH "pluq.host.match/1"
#define PLUQ_MATCH_EXACT 0
#define PLUQ_MATCH_SUBSTRING 1
#define PLUQ_MATCH_PREFIX_REGEX 2 /* as Python's re.match: anchored at the start, not at the end */
typedef struct pluq_host_match {
  uint32_t struct_size;
  uint32_t reserved;
  /* *matched = 1 or 0. An invalid pattern, or one that exhausts the limits, is an error. */
  pluq_status *(*match)(const pluq_host *host, int32_t kind, pluq_str pattern, pluq_str name, int32_t *matched);
} pluq_host_match;

/* ---------------------------------------------------------------- devices and execution */
/* Kinds of devices: an open set. */
#define PLUQ_DEVICE_CPU 1u
#define PLUQ_DEVICE_CUDA 2u
#define PLUQ_DEVICE_CUDA_EMULATED 3u

/* Bits of pluq_device.cpu_features, after the operating system's own checks and lowered by PLUQ_ISA. A plugin never
 * runs CPUID. */
#define PLUQ_CPU_X86_64_V2 (UINT64_C(1) << 0)
#define PLUQ_CPU_AVX2 (UINT64_C(1) << 1)
#define PLUQ_CPU_FMA (UINT64_C(1) << 2)
#define PLUQ_CPU_F16C (UINT64_C(1) << 3)
#define PLUQ_CPU_BMI2 (UINT64_C(1) << 4)
#define PLUQ_CPU_AVX_VNNI (UINT64_C(1) << 5)
#define PLUQ_CPU_AVX512F (UINT64_C(1) << 8)
#define PLUQ_CPU_AVX512BW (UINT64_C(1) << 9)
#define PLUQ_CPU_AVX512VL (UINT64_C(1) << 10)
#define PLUQ_CPU_AVX512DQ (UINT64_C(1) << 11)
#define PLUQ_CPU_AVX512VNNI (UINT64_C(1) << 12)
#define PLUQ_CPU_AVX512VBMI (UINT64_C(1) << 13)
#define PLUQ_CPU_AVX512BF16 (UINT64_C(1) << 14)
#define PLUQ_CPU_AMX_TILE (UINT64_C(1) << 16)
#define PLUQ_CPU_AMX_INT8 (UINT64_C(1) << 17)
#define PLUQ_CPU_AMX_BF16 (UINT64_C(1) << 18)

typedef struct pluq_device { /* A device that layers may run on, as far as plugins may use it. */
  uint32_t struct_size;
  uint32_t kind;  /* PLUQ_DEVICE_* */
  int32_t index;  /* CUDA ordinal; 0 on the CPU */
  int32_t n_workers; /* CPU: workers guaranteed to run at the same time inside exec->parallel */
  uint64_t cpu_features; /* PLUQ_CPU_* bits */
  uint64_t l1d_bytes, l2_bytes, l3_bytes; /* CPU, per core, per core, shared; 0 unknown */
  uint32_t compute_capability;            /* CUDA: 80, 89, 90, ... */
  uint32_t sm_count; /* CUDA: multiprocessors */
  uint64_t shared_optin_bytes; /* largest dynamic shared memory of one block */
  uint64_t memory_bytes; /* CUDA: all of the device's memory; 0 unknown */
} pluq_device;

#define PLUQ_EXEC_CAPTURING 1u     /* a CUDA graph is being captured */
#define PLUQ_EXEC_DETERMINISTIC 2u /* the result must not depend on the batch */

/* What a computation runs on. The host sets it up per call; valid for the call. */
struct pluq_exec {
  uint32_t struct_size;
  uint32_t device_kind; /* PLUQ_DEVICE_* */
  int32_t device_index; /* CUDA ordinal; 0 on the CPU */
  uint32_t flags;        /* PLUQ_EXEC_* */
  const pluq_host *host; /* the table that the entry got */
  void *stream;          /* CUDA: the native stream. The current device is set by the host and must not be changed */
  void *workspace;       /* host memory of the device, 64-byte aligned, contents undefined */
  uint64_t workspace_bytes; /* at least what workspace() asked for */
  /* CPU threads. worker < 0: nobody else is here; call parallel to use the pool. worker >= 0: the host is inside a
   * region already, all n_workers call this function with the same arguments and each does its own share. */
  int32_t worker;
  int32_t n_workers; /* how many share the work; 1 on CUDA devices */
  /* Runs fn(user, worker, n_workers) once on every worker and returns when all are done; static, not nestable, only
   * when worker < 0. */
  void (*parallel)(const pluq_exec *exec, void (*fn)(void *user, int32_t worker, int32_t n_workers), void *user);
  /* Waits for all workers; only inside a region. Every worker must call it the same number of times. */
  void (*barrier)(const pluq_exec *exec, int32_t worker);
};

/* ---------------------------------------------------------------- tensors */

/* A dense row-major tensor of one layer. `name` is the suffix after the layer's name and a dot ("qweight"). data may
 * be NULL (only headers are known) and has no alignment; it is read-only for the plugin. */
typedef struct pluq_tensor {
  uint32_t struct_size;
  uint32_t rank; /* 0 .. PLUQ_MAX_RANK */
  pluq_str name; /* the suffix; the full name in a probe */
  pluq_dtype dtype; /* of its elements */
  uint32_t device_kind; /* where data lives */
  int64_t shape[PLUQ_MAX_RANK]; /* in elements as stored, the innermost last */
  const void *data; /* or NULL */
  uint64_t data_bytes; /* of the whole tensor, also when data is NULL */
} pluq_tensor;

/* How the host may fill a tensor with plausible random contents (bench-linear, the probe of an unknown plugin, the
 * conformance kit). It then takes `dequantize` as the truth. */
#define PLUQ_SAMPLE_ZEROS 0u
#define PLUQ_SAMPLE_BITS 1u  /* uniform random bits */
#define PLUQ_SAMPLE_REAL 2u  /* uniform in [lo, hi], converted to the dtype */
#define PLUQ_SAMPLE_INDEX 3u /* integers 0 .. below-1, each used `per` times in order (g_idx) */
#define PLUQ_SAMPLE_SHAPE 4u /* the layer's [N, K] as integers (weight_shape) */
#define PLUQ_SAMPLE_BYTES 5u /* fill() writes the bytes */
typedef struct pluq_sample { /* One way to fill a tensor; embedded in pluq_weight_spec, frozen. */
  uint32_t struct_size;
  uint32_t kind; /* PLUQ_SAMPLE_* */
  double lo, hi; /* of REAL */
  int64_t below, per; /* of INDEX */
  void (*fill)(void *method, pluq_str suffix, uint64_t seed, void *data, uint64_t data_bytes); /* [load] */
} pluq_sample;

#define PLUQ_WEIGHT_OPTIONAL 1u /* may be absent from the file */

/* One tensor of a layer in checkpoint layout, and the part of it that the shard in pluq_layer_desc needs. Shards are
 * boxes in elements as stored; the host copies boxes and never computes with pack factors. */
typedef struct pluq_weight_spec {
  uint32_t struct_size;
  uint32_t flags; /* PLUQ_WEIGHT_* */
  pluq_str suffix; /* valid until the method is destroyed */
  pluq_dtype dtype; /* of its elements as stored */
  uint32_t rank; /* 0 .. PLUQ_MAX_RANK */
  int64_t shape[PLUQ_MAX_RANK];     /* of the whole tensor in the file */
  int64_t box_begin[PLUQ_MAX_RANK]; /* of this shard; the whole tensor when the layer is not split */
  int64_t box_end[PLUQ_MAX_RANK]; /* exclusive */
  /* Informational, for inspect and for other engines' loaders. */
  int32_t input_dim;  /* the dimension that runs along K, or -1 */
  int32_t output_dim; /* the dimension that runs along N, or -1 */
  int32_t packed_dim; /* the dimension in which elements are packed, or -1 */
  int32_t pack_elements, pack_words; /* a ratio: 3 bits store 32 elements in 3 words */
  int64_t group_size; /* along K; 0 when the tensor has no groups, -1 one group over all of K */
  pluq_sample sample; /* plausible contents */
} pluq_weight_spec;

/* ---------------------------------------------------------------- layers */

#define PLUQ_COMPUTE_EXACT 0u /* f32 accuracy, however reached */
#define PLUQ_COMPUTE_FAST 1u  /* any arithmetic within the format's error budget */
#define PLUQ_ACTIVATIONS_CHECKPOINT 0u /* rounded exactly as the checkpoint says */
#define PLUQ_ACTIVATIONS_FLOAT 1u      /* nothing is rounded below 16 bits */

typedef struct pluq_layer_desc { /* One linear layer, or a shard of it, that a method is wanted for. */
  uint32_t struct_size;
  uint32_t compute;     /* PLUQ_COMPUTE_* asked for */
  uint32_t activations; /* PLUQ_ACTIVATIONS_* asked for */
  uint32_t has_bias; /* 1: apply may get a bias */
  pluq_str name;         /* the checkpoint's own name: model.layers.0.self_attn.q_proj */
  pluq_str kind;         /* open set: "linear", "lm_head", "embedding", "expert" */
  pluq_str module_class; /* class name that checkpoints use as a target: "Linear", "Embedding" */
  int64_t in_features;   /* K of the whole layer */
  int64_t out_features;  /* N of the whole layer */
  int64_t in_begin, in_end;   /* this shard; [0, K) and [0, N) when the layer is not split */
  int64_t out_begin, out_end; /* rows of W in this shard */
  const int64_t *output_parts; /* rows of each part of a tensor fused on disk (q, k, v), or NULL */
  size_t output_parts_count; /* entries of output_parts */
  pluq_dtype activation_dtype; /* of x and y */
  int64_t max_tokens;          /* largest M that apply will see */
  uint64_t max_workspace_bytes; /* 0: no limit */
  /* The tensors that the file holds under this name. tensors_known = 0: no list; decide by configuration and name. */
  uint32_t tensors_known;
  const pluq_tensor *tensors; /* headers; data may be NULL */
  size_t tensor_stride, tensor_count; /* bytes from one to the next; how many */
} pluq_layer_desc;

/* How a method rounds its activations. Published so that the host may round once for several methods. */
#define PLUQ_STRATEGY_NONE 0u
#define PLUQ_STRATEGY_TENSOR 1u
#define PLUQ_STRATEGY_TOKEN 2u
#define PLUQ_STRATEGY_GROUP 3u
typedef struct pluq_activation_scheme {
  uint32_t struct_size;
  uint32_t strategy;   /* PLUQ_STRATEGY_NONE: activations are used as they come */
  pluq_dtype dtype;    /* I8, F8_E4M3, ... */
  int64_t group_size;  /* for GROUP */
  uint32_t dynamic;    /* 1: scales from the values of each call; 0: static, from the checkpoint */
  uint32_t symmetric; /* 1: codes have no zero point */
  double divisor;      /* scale = max|x| / divisor */
  pluq_str static_scale_suffix; /* tensor with the static scale ("input_scale"); valid for the method's life */
  const int32_t *permutation;   /* [K] column order in which groups are formed, or NULL; valid for the method's life */
} pluq_activation_scheme;
/* What a kernel multiplies in; sums are f32, of int8 int32. */
#define PLUQ_ARITHMETIC_F32 1u
#define PLUQ_ARITHMETIC_F16 2u
#define PLUQ_ARITHMETIC_BF16 3u
#define PLUQ_ARITHMETIC_INT8 4u       /* activations rounded per token or group by the engine's choice */
#define PLUQ_ARITHMETIC_CHECKPOINT 5u /* activations rounded as the checkpoint says */

#define PLUQ_METHOD_PROVISIONAL 1u /* values were not seen yet: process_plan may change kernel and arithmetic */
#define PLUQ_METHOD_TAKES_QUANTIZED 2u /* apply uses x->quantized */
#define PLUQ_METHOD_TAKES_ROWS 4u      /* apply uses x->rows */
#define PLUQ_METHOD_CAPTURE_SAFE 8u    /* apply may run while a CUDA graph is captured */

typedef struct pluq_method_info { /* What a method says of itself, for people and for the host's plans. */
  uint32_t struct_size;
  uint32_t flags;        /* PLUQ_METHOD_* */
  pluq_str format;       /* id of the format; all strings live as long as the method */
  pluq_str scheme;       /* short and human: "int4 g128 sym" */
  pluq_str kernel;       /* which kernel serves it: "int_gemm_avx2" */
  pluq_str reason;       /* why this kernel, when it is not the best; may be empty */
  uint32_t arithmetic;   /* PLUQ_ARITHMETIC_* */
  pluq_activation_scheme activation_scheme; /* how x is rounded first */
  double error_bound;    /* relative error of y against dequantize() in double, after the activation scheme, row-wise L2 */
  double bits_per_weight; /* scales and zero points included */
} pluq_method_info;

/* ---------------------------------------------------------------- apply */

typedef struct pluq_rows { /* a range of rows known only on the device */
  const int64_t *offset_count; /* {first row, number of rows}, memory of the device */
} pluq_rows;

typedef struct pluq_quantized { /* activations already rounded in the method's published scheme */
  uint32_t struct_size;
  uint32_t reserved;
  const void *codes;   /* [M, K] in the scheme's dtype, columns in the scheme's order */
  int64_t codes_ld; /* distance between rows of codes, in elements */
  const float *scales; /* [M, groups] */
  const int32_t *zeros; /* [M, groups], or NULL */
  const int32_t *sums;  /* [M, groups] sums of codes, or NULL */
} pluq_quantized;

typedef struct pluq_activation { /* x of apply. */
  uint32_t struct_size;
  uint32_t device_kind; /* PLUQ_DEVICE_*: where data lives */
  const void *data; /* [M, K] */
  pluq_dtype dtype; /* F32 on the CPU; F16 or BF16 on CUDA devices */
  int64_t m, k; /* rows, columns */
  int64_t ld; /* distance between rows, in elements */
  const pluq_quantized *quantized; /* or NULL */
  const pluq_rows *rows;           /* or NULL; then m is an upper bound */
} pluq_activation;

typedef struct pluq_output { /* y of apply and gather. */
  uint32_t struct_size;
  uint32_t device_kind; /* PLUQ_DEVICE_*: where data lives */
  void *data; /* [M, N] */
  pluq_dtype dtype; /* F32 on the CPU; as x, or F32, on CUDA devices */
  int64_t m, n; /* rows, columns */
  int64_t ld; /* distance between rows, in elements */
} pluq_output;

/* ---------------------------------------------------------------- LinearMethod: how one layer stores and applies W */

typedef struct pluq_process_plan { /* The run-time layout that a method wants, given the values of its tensors. */
  uint32_t struct_size;
  uint32_t keep_tensors; /* 1: apply reads the checkpoint tensors, the host keeps them */
  uint64_t buffer_bytes; /* one run-time buffer, 64-byte aligned, allocated by the host, zero-filled */
  uint64_t scratch_bytes; /* only during process_weights_after_loading */
  pluq_text cache_key;   /* identifies the run-time layout (plugin version, kernel, device) for a cache on disk */
} pluq_process_plan;

/* Order of calls: describe*, create_weights*, process_plan, process_weights_after_loading, then any number of
 * describe, workspace, apply, dequantize, at last destroy. process_* may be repeated on fresh tensors (reload), never
 * while apply runs. dequantize may also be called right after create_weights. */
typedef struct pluq_method_api {
  uint32_t struct_size;
  uint32_t reserved;
  void (*destroy)(void *method);                                            /* [load] */
  void (*describe)(void *method, pluq_method_info *info);                   /* [any] */
  /* [load] The tensors of the layer in checkpoint layout. *count is the capacity of specs on entry and the number of
   * tensors on return; specs may be NULL to ask for the number. */
  pluq_status *(*create_weights)(void *method, pluq_weight_spec *specs, size_t stride, size_t *count);
  /* [load] Sees the bound tensors, with data in host memory on every device, and settles all that depends on values
   * (g_idx, zero points, direction of scales). Refusing here is PLUQ_STATUS_UNSUPPORTED with a reason. */
  pluq_status *(*process_plan)(void *method, const pluq_tensor *tensors, size_t stride, size_t count,
                               pluq_process_plan *plan);
  /* [load] Repacks into `buffer` (plan.buffer_bytes), which stays valid and in place until destroy or the next
   * process call; with keep_tensors the tensors' data does too. exec->workspace holds plan.scratch_bytes. On CUDA the tensors' data, buffer and workspace are device memory: enqueue on exec->stream. */
  pluq_status *(*process_weights_after_loading)(void *method, const pluq_exec *exec, const pluq_tensor *tensors,
                                                size_t stride, size_t count, void *buffer);
  /* [any] Bytes of exec->workspace that apply needs for up to max_tokens rows and n_workers; monotone in both. */
  uint64_t (*workspace)(void *method, int64_t max_tokens, int32_t n_workers);
  /* [exec] y = x * W^T + bias, by the rules DEVICES and NUMBERS at the end. bias is f32 [N] or NULL. m = 0 does nothing. x
   * and y do not overlap. Too small a workspace is PLUQ_STATUS_INVALID. In a region (worker >= 0) every worker calls it. */
  pluq_status *(*apply)(void *method, const pluq_exec *exec, const pluq_activation *x, const float *bias,
                        const pluq_output *y);
  /* [exec] Rows n_begin..n_end of W in f32, out[(n - n_begin) * ld + k], from host tensors in checkpoint layout only;
   * reentrant. Slow, exact: the truth that everything else is checked against. */
  pluq_status *(*dequantize)(void *method, const pluq_exec *exec, const pluq_tensor *tensors, size_t stride,
                             size_t count, int64_t n_begin, int64_t n_end, float *out, int64_t ld);
  const void *(*get_extension)(void *method, const char *id);               /* [any] or NULL */
} pluq_method_api;

typedef struct pluq_method { /* frozen pair */
  const pluq_method_api *api; /* process lifetime */
  void *self; /* first argument of its functions */
} pluq_method;

/* Extension of a method, "pluq.embedding/1": rows of a table, for layers of kind "embedding". */
#define PLUQ_EMBEDDING "pluq.embedding/1"
typedef struct pluq_embedding {
  uint32_t struct_size;
  uint32_t reserved;
  /* [exec] y[i, :] = W[ids[i], :]. Ids are within [0, N). y is [count, K]. */
  pluq_status *(*gather)(void *method, const pluq_exec *exec, const int32_t *ids, int64_t count,
                         const pluq_output *y);
} pluq_embedding;

/* ---------------------------------------------------------------- QuantizationConfig: one checkpoint, one format */

#define PLUQ_VERDICT_NOT_MINE 0u          /* another format may take the layer */
#define PLUQ_VERDICT_USE 1u               /* choice->method serves it, with choice->score 1..1000 */
#define PLUQ_VERDICT_LEAVE_UNQUANTIZED 2u /* the checkpoint says that this layer is plain */
#define PLUQ_VERDICT_UNSUPPORTED 3u       /* mine, but not built: choice->reason says what */

typedef struct pluq_method_choice { /* The answer of get_quant_method. */
  uint32_t struct_size;
  uint32_t verdict; /* PLUQ_VERDICT_* */
  int32_t score; /* 1 .. 1000 with USE: the highest of all formats serves the layer */
  uint32_t reserved;
  pluq_text reason;   /* the caller's buffer: why, for any verdict but USE */
  pluq_method method; /* with USE; the host destroys it */
} pluq_method_choice;

typedef struct pluq_config_api { /* The functions of a config: one checkpoint as one format reads it. */
  uint32_t struct_size;
  uint32_t reserved;
  void (*destroy)(void *config); /* [load] after all its methods */
  /* [load] How this layer is served on this device. Never needs tensor values. */
  pluq_status *(*get_quant_method)(void *config, const pluq_layer_desc *layer, const pluq_device *device,
                                   pluq_method_choice *choice);
  const void *(*get_extension)(void *config, const char *id); /* [any] or NULL */
} pluq_config_api;

typedef struct pluq_config { /* frozen pair */
  const pluq_config_api *api; /* process lifetime */
  void *self; /* first argument of its functions */
} pluq_config;

/* ---------------------------------------------------------------- Format: what a plugin registers */
/* Types of options. */
#define PLUQ_OPTION_INT 1u
#define PLUQ_OPTION_REAL 2u
#define PLUQ_OPTION_BOOL 3u
#define PLUQ_OPTION_STRING 4u

/* One option of a format, for `--set key=value` and YAML; the host checks values against it. */
typedef struct pluq_option {
  uint32_t struct_size;
  uint32_t type;          /* PLUQ_OPTION_* */
  pluq_str key; /* "group_size" */
  pluq_str default_value; /* as text; empty: no default */
  double min, max;        /* for INT and REAL, when min <= max */
  pluq_str choices;       /* accepted values separated by '|'; empty: any */
  pluq_str help; /* one line for people */
} pluq_option;

/* All strings and arrays live as long as the process. */
typedef struct pluq_format_info {
  uint32_t struct_size;
  uint32_t option_stride; /* bytes from one option to the next */
  pluq_str id;      /* "gptq"; [a-z0-9_]+, third parties may use reverse-DNS ids */
  pluq_str aliases; /* further quant_method strings it may claim, separated by ',' */
  pluq_str summary; /* one line for people */
  const pluq_option *options; /* or NULL */
  size_t option_count; /* how many */
} pluq_format_info;

typedef struct pluq_probe_request { /* What is known of a checkpoint before any format has claimed it. */
  uint32_t struct_size;
  uint32_t reserved;
  pluq_str container;       /* "safetensors", "gguf" */
  pluq_str quant_method;    /* the quantization JSON's quant_method, or empty */
  const pluq_json *quantization; /* the checkpoint's quantization config, or NULL */
  const pluq_tensor *tensors;    /* full names; headers of the first layers */
  size_t tensor_stride, tensor_count; /* bytes from one to the next; how many */
} pluq_probe_request;

typedef struct pluq_probe_result { /* The answer of probe. */
  uint32_t struct_size;
  int32_t score;    /* 0: this checkpoint holds no layer of mine .. 1000 */
  pluq_text reason; /* the caller's buffer: why, also for 0 */
} pluq_probe_result;

typedef struct pluq_config_request { /* What create_config makes a config from. */
  uint32_t struct_size;
  uint32_t reserved;
  pluq_str container; /* "safetensors", "gguf" */
  const pluq_json *quantization; /* the checkpoint's, or NULL */
  const pluq_json *options;      /* from YAML or --set, checked against the schema, or NULL */
  pluq_str architecture;         /* of the model, may be empty */
} pluq_config_request;

typedef struct pluq_format_api { /* A format: probe asks whether a checkpoint may hold layers of it */
  uint32_t struct_size;
  uint32_t reserved;
  void (*describe)(void *format, pluq_format_info *info);                                              /* [any] */
  pluq_status *(*probe)(void *format, const pluq_probe_request *request, pluq_probe_result *result);   /* [load] */
  pluq_status *(*create_config)(void *format, const pluq_config_request *request, pluq_config *config); /* [load] */
  const void *(*get_extension)(void *format, const char *id);                                          /* [any] */
} pluq_format_api;

typedef struct pluq_format { /* frozen pair */
  const pluq_format_api *api; /* process lifetime */
  void *self; /* first argument of its functions */
} pluq_format;

/* ---------------------------------------------------------------- extension of a format: quantizing */

/* "pluq.quantizer/1", a draft. Works on a group: the linears that read one input (one layer is a group of one). */
#define PLUQ_QUANTIZER "pluq.quantizer/1"

#define PLUQ_STATISTIC_NONE 0u /* round to nearest */
#define PLUQ_STATISTIC_HESSIAN 1u /* context->hessian */
#define PLUQ_STATISTIC_INPUT 2u /* context->input_stats */

typedef struct pluq_quantize_layer { /* One linear layer of a group. */
  uint32_t struct_size;
  uint32_t reserved;
  pluq_str name; /* checkpoint name */
  pluq_str kind; /* as in pluq_layer_desc */
  int64_t in_features, out_features; /* K, N */
} pluq_quantize_layer;

typedef struct pluq_quantize_request { /* A group of layers to quantize, or, in write_config, all that were. */
  uint32_t struct_size;
  uint32_t reserved;
  pluq_str algorithm;       /* "rtn", ... */
  const pluq_json *options; /* checked against the format's schema, or NULL */
  pluq_dtype model_dtype;   /* 16- or 32-bit type of the source weights; the natural type for scales */
  const pluq_quantize_layer *layers; /* the group */
  size_t layer_stride, layer_count; /* bytes from one to the next; how many */
} pluq_quantize_request;

typedef struct pluq_quantize_context pluq_quantize_context;
struct pluq_quantize_context { /* What solve reads from and writes to. */
  uint32_t struct_size;
  uint32_t reserved;
  const pluq_host *host; /* the table that the entry got */
  const pluq_exec *exec; /* worker < 0; may be used for parallel work */
  void *user;            /* the host's */
  /* Rows n_begin..n_end of layer `layer` (index into the request) as f32, out[(n - n_begin) * ld + k]. Reentrant. */
  pluq_status *(*rows)(const pluq_quantize_context *context, size_t layer, int64_t n_begin, int64_t n_end, float *out,
                       int64_t ld);
  /* Rows [row_begin, row_end) along dimension 0 of the tensor `suffix`, bytes as stored. Every row of every tensor of
   * output_specs is emitted exactly once, in any order; reentrant. */
  pluq_status *(*emit)(const pluq_quantize_context *context, size_t layer, pluq_str suffix, int64_t row_begin,
                       int64_t row_end, const void *data, uint64_t data_bytes);
  /* The layer input's second moments [K, K] in f32 (sum over tokens of x x^T, divided by the tokens), or
   * NOT_FOUND when begin did not ask for it. */
  pluq_status *(*hessian)(const pluq_quantize_context *context, float *out, int64_t ld);
  /* Mean |x| and max |x| per input channel, each [K] or NULL. */
  pluq_status *(*input_stats)(const pluq_quantize_context *context, float *mean_abs, float *max_abs);
};

typedef struct pluq_quantizer_info { /* strings live as long as the process */
  uint32_t struct_size;
  uint32_t reserved;
  pluq_str algorithms; /* separated by ',', the default first */
} pluq_quantizer_info;

typedef struct pluq_text_sink { /* Takes a text in pieces. */
  uint32_t struct_size;
  uint32_t reserved;
  void *user; /* first argument of write */
  void (*write)(void *user, const char *text, size_t size); /* appends */
} pluq_text_sink;

typedef struct pluq_quantizer { /* The functions of the extension. */
  uint32_t struct_size;
  uint32_t reserved;
  void (*describe)(void *format, pluq_quantizer_info *info);                                 /* [any] */
  /* [load] Starts one group. *statistics = PLUQ_STATISTIC_* bits that solve will ask for. A layer that cannot be
   * quantized (K not divisible, ...) is UNSUPPORTED with a reason. */
  pluq_status *(*begin)(void *format, const pluq_quantize_request *request, uint32_t *statistics, void **job);
  /* [load] The tensors that layer `layer` becomes; same protocol as create_weights. */
  pluq_status *(*output_specs)(void *job, size_t layer, pluq_weight_spec *specs, size_t stride, size_t *count);
  /* [load] Reads rows, emits tensors. */
  pluq_status *(*solve)(void *job, const pluq_quantize_context *context);
  void (*end)(void *job);                                                                    /* [load] */
  /* [load] The JSON text of the quantization_config that the whole output checkpoint needs: request->layers are the
   * quantized layers, `plain` the linear layers left as they are. */
  pluq_status *(*write_config)(void *format, const pluq_quantize_request *request, const pluq_str *plain,
                               size_t plain_count, const pluq_text_sink *sink);
} pluq_quantizer;

/* ---------------------------------------------------------------- the manifest and the entry */

/* Read from an ELF note (section .note.pluq, name "pluq", type 1) before anything of the plugin runs, and compared
 * with what the entry returns. Texts are NUL-terminated and NUL-padded. */
#define PLUQ_MANIFEST_MAGIC "PLUQPLG"
#define PLUQ_NOTE_NAME "pluq"
#define PLUQ_NOTE_TYPE 1u
typedef struct pluq_manifest {
  char magic[8]; /* PLUQ_MANIFEST_MAGIC */
  uint32_t struct_size;
  uint32_t abi_major; /* PLUQ_ABI_MAJOR */
  uint32_t min_minor; /* the oldest host minor it runs on */
  uint32_t max_minor; /* the newest minor it makes use of */
  uint32_t elf_machine;    /* EM_X86_64 = 62 */
  uint32_t cuda_runtime;   /* 0: no CUDA code; else 12040 for 12.4 */
  uint32_t cuda_sm[8];     /* images carried; 0 ends the list */
  char id[64];             /* of the plugin */
  char version[32]; /* of the plugin, "1.0.0" */
  char formats[256];       /* ids separated by ',' */
} pluq_manifest;

typedef struct pluq_registrar pluq_registrar; /* the host's, opaque; only for register_format */

typedef struct pluq_handshake { /* The host's half of the entry call. */
  uint32_t struct_size;
  uint32_t abi_major; /* PLUQ_ABI_MAJOR */
  uint32_t min_minor, max_minor; /* what the host can work with */
  pluq_registrar *registrar; /* first argument of register_format */
  /* [load] Only during the entry call, and applied only when the entry returns success. The pair is copied; table and
   * object must live as long as the process. */
  pluq_status *(*register_format)(pluq_registrar *registrar, const pluq_format *format);
} pluq_handshake;

typedef struct pluq_plugin_info { /* The plugin's half of the entry call. */
  uint32_t struct_size;
  uint32_t abi_major; /* PLUQ_ABI_MAJOR */
  uint32_t min_minor, max_minor; /* what the plugin can work with */
  const pluq_manifest *manifest; /* the bytes of the note */
  void (*shutdown)(void); /* [load] or NULL; called once, before the process ends, after all objects are gone */
} pluq_plugin_info;

/* The one exported symbol. [load] `host` lives as long as the process. The plugin checks the versions, fills `info`
 * and registers its formats. It may be called twice; both calls must give the same answer. */
typedef pluq_status *(*pluq_plugin_entry_fn)(const pluq_host *host, const pluq_handshake *handshake,
                                             pluq_plugin_info *info);

#ifdef __cplusplus
} /* extern "C" */
#endif

/* ---------------------------------------------------------------- rules for several declarations above
 *
 * DEVICES. A method is offered a CUDA device by get_quant_method's `device`; a format without kernels for it answers
 * UNSUPPORTED, and the host serves the layer from dequantize. Emulated and real devices follow the same rules:
 *  - host memory: the tensors of get_quant_method, process_plan and dequantize, every struct, string and out parameter;
 *  - device memory: tensors, buffer and exec->workspace of process_weights_after_loading; data of x and y, bias, ids,
 *    pluq_quantized's arrays and exec->workspace of apply and gather. Host code never reads or writes any of these.
 *  - exec->stream is the host's. A plugin only enqueues: it does not synchronise, allocate or free device memory, create
 *    streams or change the current device, and everything it hands to a kernel lives until the method is destroyed.
 *  - workspace() covers apply; its contents are undefined at the start and nothing in it survives the call.
 *  - x and y are F16 or BF16 as activation_dtype said, y of a head F32; accumulate in F32 or wider.
 *  - x->quantized comes only to a method that sets PLUQ_METHOD_TAKES_QUANTIZED, in the scheme of its describe after
 *    process_weights_after_loading, and only in schemes that are whole by that (not, say, static ones with a zero point). x->data
 *    may be NULL then; x's dtype, m and k hold. The host may as well give plain x: workspace() covers that. Codes have one
 *    byte (I8, F8_E4M3), codes begins at a multiple of 16 bytes, codes_ld is a multiple of 64, and the columns from K to the
 *    next multiple of 64 are zero. scales is [M, groups] always, a static scale repeated; zeros is NULL where the scheme is
 *    symmetric; sums may be NULL. Codes and scales are those of the 16-bit x: scale = max|x| / divisor in F32 (I8 asymmetric:
 *    (max(x, 0) - min(x, 0)) / divisor, zero = -128 - min(x, 0) / scale to the nearest in -128 .. 127), code = x / scale
 *    (+ zero) to the nearest even of the type, clamped; 0 where the scale is 0. What is not finite in a row: I8 has NaN as the
 *    row's scale; F8_E4M3 has the code of NaN for a NaN and an infinite scale for an infinity. A static scale clamps an
 *    infinity (I8: NaN as well).
 *  - capability is what `device` says, which may be less than what the hardware has. Choose by it alone.
 *
 * NUMBERS, on every device and in every compute mode.
 *  - A NaN anywhere in row m of x makes every element of row m of y NaN. An infinity there makes every element of that row
 *    NaN or infinite, never finite, unless a static activation scale (dynamic = 0) clamps it as the checkpoint wants. No
 *    other row is touched: their bits are those of the same call without it.
 *  - A NaN in a tensor of the layer makes every column n of y NaN whose row of W, as dequantize gives it, it spoils. An
 *    infinity makes those columns NaN or infinite, never finite. Other columns keep within the error bound. process_plan
 *    may refuse such weights instead, with a reason.
 *  - Values that overflow the type of y become infinite. Subnormal numbers may be read as zero.
 *
 * FROZEN as of 1.0: all above except what is marked as a draft (pluq.quantizer/1: PLUQ_QUANTIZER, PLUQ_STATISTIC_*, the
 * pluq_quantize_* structs, pluq_quantizer_info, pluq_text_sink, pluq_quantizer), and pluq.embedding/1. The headers in ext/
 * are drafts: a new layout there gets a new id, and a side that lacks an id answers NULL. Policy: sdk/README.md, Versions. */

#endif /* PLUQ_ABI_H_ */
