/* SPDX-License-Identifier: Apache-2.0
 *
 * Extension of a config, "pluq.kv_cache/1", a draft: what the checkpoint says of the KV cache.
 * Storage, paging and attention are the host's; a format only tells the element type and which
 * tensors hold the scales. The host asks every config of the checkpoint for every attention block;
 * equal answers count once, different ones are an error. Plain C11. */
#ifndef PLUQ_EXT_KV_CACHE_H_
#define PLUQ_EXT_KV_CACHE_H_

#include "pluq/abi.h"

#ifdef __cplusplus
extern "C" {
#endif
/* Id for pluq_config_api.get_extension. */
#define PLUQ_KV_CACHE "pluq.kv_cache/1"

typedef struct pluq_kv_request { /* One attention block. */
  uint32_t struct_size;
  uint32_t reserved;
  pluq_str attention;            /* checkpoint name: "model.layers.0.self_attn" */
  int64_t kv_heads, head_dim;    /* of the model */
  const pluq_tensor *tensors;    /* all tensors below it, named by suffix: "k_proj.k_scale";
                                  * data is NULL when only headers are known */
  size_t tensor_stride, tensor_count; /* bytes from one to the next; how many */
} pluq_kv_request;

/* Values: stored = round(clamp(x / scale)), x = stored * scale. A scale tensor is F32, F16 or BF16
 * with 1 element (for all heads) or kv_heads elements ([kv_heads] or [kv_heads, 1, 1]). */
typedef struct pluq_kv_answer {
  uint32_t struct_size;
  uint32_t verdict;   /* PLUQ_VERDICT_NOT_MINE: nothing is said of the KV cache; USE;
                       * UNSUPPORTED: something is said that is not built, see reason */
  uint32_t dtype;     /* PLUQ_DTYPE_F8_E4M3, F8_E5M2 or I8 */
  int32_t in_force;   /* 1: the checkpoint asks for this KV cache; 0: scales are there for whoever
                       * chooses it */
  int32_t dynamic;    /* 1: scales are computed as tokens are stored; no tensors are named */
  uint32_t reserved;
  pluq_text k_scale;  /* the caller's buffers: suffixes of the tensors; empty: there is none. Both */
  pluq_text v_scale;  /* may name one tensor */
  pluq_text unneeded; /* suffixes, separated by ',', of tensors that belong to the scheme but change
                       * nothing here (scales of queries, zero points that are 0) */
  pluq_text reason;   /* the caller's buffer: why, with UNSUPPORTED */
} pluq_kv_answer;

typedef struct pluq_kv_cache { /* The table of the extension. */
  uint32_t struct_size;
  uint32_t reserved;
  /* [load] */
  pluq_status *(*describe)(void *config, const pluq_kv_request *request, pluq_kv_answer *answer);
} pluq_kv_cache;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* PLUQ_EXT_KV_CACHE_H_ */
