/* SPDX-License-Identifier: Apache-2.0
 * A whole format in plain C11, against abi.h alone: what plugin.hpp does for C++ authors, spelled
 * out. On disk: codes I8 [N, K], step F32 [N]; W[n, k] = step[n] * codes[n, k].
 * All state of a method is one struct; nothing is allocated after get_quant_method. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "pluq/abi.h"

#define ID "c11_rowwise"

static const pluq_host *host; /* set by the entry */

static pluq_str str(const char *s) { return (pluq_str){s, strlen(s)}; }
static bool equal(pluq_str a, const char *b) {
  return a.size == strlen(b) && memcmp(a.data, b, a.size) == 0;
}
static pluq_status *fail(int32_t code, const char *s) {
  return host->status_new(host, code, s, strlen(s));
}
static pluq_dtype dtype(uint32_t id, uint32_t bytes) { return (pluq_dtype){id, 1, bytes}; }
static void say(pluq_text *out, const char *s) {
  const size_t n = strlen(s);
  out->size = n < out->capacity ? n : out->capacity;
  if (out->size > 0) memcpy(out->data, s, out->size);
}
/* Ours into the caller's struct: at most its size, which stays. */
static void give(void *to, const void *from, size_t bytes) {
  const uint32_t size = *(const uint32_t *)to;
  memcpy((char *)to + 4, (const char *)from + 4, (size < bytes ? size : bytes) - 4);
}
static const pluq_tensor *at(const pluq_tensor *first, size_t stride, size_t i) {
  return (const pluq_tensor *)((const char *)first + i * stride);
}
static const pluq_tensor *find(const pluq_tensor *first, size_t stride, size_t count,
                               const char *name) {
  for (size_t i = 0; i < count; ++i) {
    if (equal(at(first, stride, i)->name, name)) return at(first, stride, i);
  }
  return NULL;
}

/* ------------------------------------------------------------------ the method */

typedef struct method {
  int64_t full_n, full_k, n0, n1, k0, k1; /* the whole layer and this shard of it */
  const int8_t *codes;                    /* of the shard, set by process_weights_after_loading */
  const char *step;                       /* F32, of any alignment */
} method;

static float step_of(const char *step, int64_t n) {
  float value;
  memcpy(&value, step + n * 4, 4);
  return value;
}

static void destroy(void *self) { free(self); }

static void describe_method(void *self, pluq_method_info *info) {
  const method *m = self;
  pluq_method_info out;
  memset(&out, 0, sizeof out);
  out.format = str(ID);
  out.scheme = str("int8 row");
  out.kernel = str("c11");
  out.arithmetic = PLUQ_ARITHMETIC_F32;
  out.activation_scheme.struct_size = sizeof out.activation_scheme;
  out.error_bound = 1e-5;
  out.bits_per_weight = 8 + 32.0 / (double)m->full_k;
  give(info, &out, sizeof out);
}

static void fill_specs(int64_t n, int64_t k, const method *shard, pluq_weight_spec *specs,
                       size_t stride, size_t *count) {
  const size_t room = specs == NULL ? 0 : *count;
  for (size_t i = 0; i < 2 && i < room; ++i) {
    pluq_weight_spec s;
    memset(&s, 0, sizeof s);
    s.suffix = str(i == 0 ? "codes" : "step");
    s.dtype = i == 0 ? dtype(PLUQ_DTYPE_I8, 1) : dtype(PLUQ_DTYPE_F32, 4);
    s.rank = i == 0 ? 2 : 1;
    s.shape[0] = s.box_end[0] = n;
    if (i == 0) s.shape[1] = s.box_end[1] = k;
    if (shard != NULL) {
      s.box_begin[0] = shard->n0;
      s.box_end[0] = shard->n1;
      if (i == 0) s.box_begin[1] = shard->k0, s.box_end[1] = shard->k1;
    }
    s.input_dim = i == 0 ? 1 : -1;
    s.packed_dim = -1;
    s.pack_elements = s.pack_words = 1;
    s.sample.struct_size = sizeof s.sample;
    s.sample.kind = i == 0 ? PLUQ_SAMPLE_BITS : PLUQ_SAMPLE_REAL;
    s.sample.lo = 1e-3;
    s.sample.hi = 1e-2;
    give((char *)specs + i * stride, &s, sizeof s);
  }
  *count = 2;
}

static pluq_status *create_weights(void *self, pluq_weight_spec *specs, size_t stride,
                                   size_t *count) {
  const method *m = self;
  fill_specs(m->full_n, m->full_k, m, specs, stride, count);
  return NULL;
}

static pluq_status *process_plan(void *self, const pluq_tensor *tensors, size_t stride,
                                 size_t count, pluq_process_plan *plan) {
  (void)self;
  if (find(tensors, stride, count, "codes") == NULL ||
      find(tensors, stride, count, "step") == NULL) {
    return fail(PLUQ_STATUS_NOT_FOUND, "a tensor is missing: codes and step are needed");
  }
  pluq_text key = plan->cache_key;
  say(&key, ID " 1");
  pluq_process_plan out;
  memset(&out, 0, sizeof out);
  out.keep_tensors = 1;
  out.cache_key = key;
  give(plan, &out, sizeof out);
  return NULL;
}

static pluq_status *process(void *self, const pluq_exec *exec, const pluq_tensor *tensors,
                            size_t stride, size_t count, void *buffer) {
  method *m = self;
  const pluq_tensor *codes = find(tensors, stride, count, "codes"),
                    *step = find(tensors, stride, count, "step");
  (void)exec;
  (void)buffer;
  if (codes == NULL || step == NULL)
    return fail(PLUQ_STATUS_NOT_FOUND, "a tensor is missing: codes and step are needed");
  m->codes = codes->data;
  m->step = step->data;
  return NULL;
}

static uint64_t workspace(void *self, int64_t max_tokens, int32_t n_workers) {
  (void)self;
  (void)max_tokens;
  (void)n_workers;
  return 0;
}

typedef struct job {
  const method *m;
  const pluq_activation *x;
  const float *bias;
  const pluq_output *y;
} job;

/* One worker's rows of W. */
static void run(void *user, int32_t worker, int32_t n_workers) {
  const job *j = user;
  const int64_t n_all = j->m->n1 - j->m->n0, k = j->m->k1 - j->m->k0;
  for (int64_t n = n_all * worker / n_workers; n < n_all * (worker + 1) / n_workers; ++n) {
    const int8_t *w = j->m->codes + n * k;
    for (int64_t row = 0; row < j->x->m; ++row) {
      const float *x = (const float *)j->x->data + row * j->x->ld;
      double sum = 0;
      for (int64_t i = 0; i < k; ++i) sum += (double)x[i] * w[i];
      ((float *)j->y->data)[row * j->y->ld + n] =
          (float)(sum * (double)step_of(j->m->step, n) +
                  (j->bias == NULL ? 0 : (double)j->bias[n]));
    }
  }
}

static pluq_status *apply(void *self, const pluq_exec *exec, const pluq_activation *x,
                          const float *bias, const pluq_output *y) {
  job j = {self, x, bias, y};
  if (x->m == 0) return NULL;
  if (x->dtype.id != PLUQ_DTYPE_F32 || y->dtype.id != PLUQ_DTYPE_F32)
    return fail(PLUQ_STATUS_UNSUPPORTED, "x and y must be F32");
  if (x->k != j.m->k1 - j.m->k0 || y->n != j.m->n1 - j.m->n0 || y->m != x->m)
    return fail(PLUQ_STATUS_INVALID, "x or y has another shape than the layer");
  if (exec->worker >= 0)
    run(&j, exec->worker, exec->n_workers);
  else if (exec->parallel == NULL || exec->n_workers <= 1)
    run(&j, 0, 1);
  else
    exec->parallel(exec, run, &j);
  return NULL;
}

static pluq_status *dequantize(void *self, const pluq_exec *exec, const pluq_tensor *tensors,
                               size_t stride, size_t count, int64_t n_begin, int64_t n_end,
                               float *out, int64_t ld) {
  const method *m = self;
  const int64_t n_all = m->n1 - m->n0, k = m->k1 - m->k0;
  const pluq_tensor *codes = find(tensors, stride, count, "codes"),
                    *step = find(tensors, stride, count, "step");
  (void)exec;
  if (codes == NULL || step == NULL)
    return fail(PLUQ_STATUS_NOT_FOUND, "a tensor is missing: codes and step are needed");
  if (n_begin < 0 || n_begin > n_end || n_end > n_all)
    return fail(PLUQ_STATUS_INVALID, "the layer does not have these rows");
  for (int64_t n = n_begin; n < n_end; ++n) {
    for (int64_t i = 0; i < k; ++i)
      out[(n - n_begin) * ld + i] =
          step_of(step->data, n) * ((const int8_t *)codes->data)[n * k + i];
  }
  return NULL;
}

static const void *no_extension(void *self, const char *id) {
  (void)self;
  (void)id;
  return NULL;
}

static const pluq_method_api method_api = {sizeof(pluq_method_api),
                                           0,
                                           destroy,
                                           describe_method,
                                           create_weights,
                                           process_plan,
                                           process,
                                           workspace,
                                           apply,
                                           dequantize,
                                           no_extension};

/* ------------------------------------------------------------------ the config */

static int the_config; /* a config has no state; its address is not NULL */
static void destroy_config(void *self) { (void)self; }

static pluq_status *get_quant_method(void *self, const pluq_layer_desc *layer,
                                     const pluq_device *device, pluq_method_choice *choice) {
  pluq_method_choice out;
  (void)self;
  memset(&out, 0, sizeof out);
  out.reason = choice->reason;
  if (find(layer->tensors, layer->tensor_stride, layer->tensor_count, "codes") == NULL ||
      find(layer->tensors, layer->tensor_stride, layer->tensor_count, "step") == NULL) {
    out.verdict = PLUQ_VERDICT_NOT_MINE;
    say(&out.reason, "no codes and step");
  } else if (device->kind != PLUQ_DEVICE_CPU) {
    out.verdict = PLUQ_VERDICT_UNSUPPORTED; /* the host then dequantizes the layer itself */
    say(&out.reason, "runs on the CPU only");
  } else {
    method *m = calloc(1, sizeof *m);
    if (m == NULL) return fail(PLUQ_STATUS_OUT_OF_MEMORY, "out of memory");
    *m = (method){layer->out_features,
                  layer->in_features,
                  layer->out_begin,
                  layer->out_end,
                  layer->in_begin,
                  layer->in_end,
                  NULL,
                  NULL};
    out.verdict = PLUQ_VERDICT_USE;
    out.score = 500;
    out.method = (pluq_method){&method_api, m};
  }
  give(choice, &out, sizeof out);
  return NULL;
}

static const pluq_config_api config_api = {sizeof(pluq_config_api), 0, destroy_config,
                                           get_quant_method, no_extension};

/* ------------------------------------------------------------------ quantizing: round to nearest
 */

typedef struct quantize_job {
  size_t count;
  struct {
    int64_t n, k;
  } layers[];
} quantize_job;

static void describe_quantizer(void *self, pluq_quantizer_info *info) {
  pluq_quantizer_info out = {0, 0, str("rtn")};
  (void)self;
  give(info, &out, sizeof out);
}

static pluq_status *begin(void *self, const pluq_quantize_request *request, uint32_t *statistics,
                          void **to) {
  quantize_job *j = calloc(1, sizeof *j + request->layer_count * sizeof j->layers[0]);
  (void)self;
  if (j == NULL) return fail(PLUQ_STATUS_OUT_OF_MEMORY, "out of memory");
  j->count = request->layer_count;
  for (size_t i = 0; i < j->count; ++i) {
    const pluq_quantize_layer *l =
        (const void *)((const char *)request->layers + i * request->layer_stride);
    j->layers[i].n = l->out_features;
    j->layers[i].k = l->in_features;
  }
  *statistics = PLUQ_STATISTIC_NONE;
  *to = j;
  return NULL;
}

static pluq_status *output_specs(void *self, size_t layer, pluq_weight_spec *specs, size_t stride,
                                 size_t *count) {
  const quantize_job *j = self;
  if (layer >= j->count) return fail(PLUQ_STATUS_INVALID, "there is no such layer");
  fill_specs(j->layers[layer].n, j->layers[layer].k, NULL, specs, stride, count);
  return NULL;
}

static pluq_status *solve_row(const pluq_quantize_context *c, size_t layer, int64_t n, int64_t k,
                              float *row, int8_t *codes) {
  pluq_status *status = c->rows(c, layer, n, n + 1, row, k);
  if (status != NULL) return status;
  float largest = 0;
  for (int64_t i = 0; i < k; ++i) largest = fmaxf(largest, fabsf(row[i]));
  const float step = largest > 0 ? largest / 127 : 1;
  for (int64_t i = 0; i < k; ++i) codes[i] = (int8_t)lrintf(row[i] / step);
  status = c->emit(c, layer, str("codes"), n, n + 1, codes, (uint64_t)k);
  return status != NULL ? status : c->emit(c, layer, str("step"), n, n + 1, &step, sizeof step);
}

static pluq_status *solve(void *self, const pluq_quantize_context *c) {
  const quantize_job *j = self;
  pluq_status *status = NULL;
  for (size_t i = 0; i < j->count && status == NULL; ++i) {
    const int64_t k = j->layers[i].k;
    float *row = malloc((size_t)k * sizeof *row);
    int8_t *codes = malloc((size_t)k);
    if (row == NULL || codes == NULL) status = fail(PLUQ_STATUS_OUT_OF_MEMORY, "out of memory");
    for (int64_t n = 0; n < j->layers[i].n && status == NULL; ++n)
      status = solve_row(c, i, n, k, row, codes);
    free(row);
    free(codes);
  }
  return status;
}

static void end(void *self) { free(self); }

static pluq_status *write_config(void *self, const pluq_quantize_request *request,
                                 const pluq_str *plain, size_t plain_count,
                                 const pluq_text_sink *sink) {
  static const char text[] = "{\"quant_method\": \"" ID "\"}";
  (void)self;
  (void)request;
  (void)plain;
  (void)plain_count;
  sink->write(sink->user, text, sizeof text - 1);
  return NULL;
}

static const pluq_quantizer quantizer = {
    sizeof(pluq_quantizer), 0, describe_quantizer, begin, output_specs, solve, end, write_config};

/* ------------------------------------------------------------------ the format and the entry */

static void describe(void *self, pluq_format_info *info) {
  pluq_format_info out;
  (void)self;
  memset(&out, 0, sizeof out);
  out.option_stride = sizeof(pluq_option);
  out.id = str(ID);
  out.summary = str("int8 with one step per row, in C11");
  give(info, &out, sizeof out);
}

static pluq_status *probe(void *self, const pluq_probe_request *request,
                          pluq_probe_result *result) {
  pluq_probe_result out = {0, 0, result->reason};
  (void)self;
  out.score = equal(request->quant_method, ID) ? 900 : 0;
  say(&out.reason, out.score > 0 ? "its own quant_method" : "another quant_method");
  give(result, &out, sizeof out);
  return NULL;
}

static pluq_status *create_config(void *self, const pluq_config_request *request,
                                  pluq_config *config) {
  (void)self;
  (void)request;
  *config = (pluq_config){&config_api, &the_config};
  return NULL;
}

static const void *extension(void *self, const char *id) {
  (void)self;
  return strcmp(id, PLUQ_QUANTIZER) == 0 ? &quantizer : NULL;
}

static const pluq_format_api format_api = {sizeof(pluq_format_api), 0,        describe, probe,
                                           create_config,           extension};

static const struct {
  uint32_t name_size, desc_size, type;
  char name[8];
  pluq_manifest manifest;
} note __attribute__((section(".note.pluq"), used, aligned(4))) = {5,
                                                                   sizeof(pluq_manifest),
                                                                   PLUQ_NOTE_TYPE,
                                                                   PLUQ_NOTE_NAME,
                                                                   {PLUQ_MANIFEST_MAGIC,
                                                                    sizeof(pluq_manifest),
                                                                    PLUQ_ABI_MAJOR,
                                                                    PLUQ_ABI_MIN_MINOR,
                                                                    PLUQ_ABI_MINOR,
                                                                    62,
                                                                    0,
                                                                    {0},
                                                                    "example." ID,
                                                                    "1.0.0",
                                                                    ID}};

__attribute__((visibility("default"))) pluq_status *PLUQ_PLUGIN_ENTRY(
    const pluq_host *from, const pluq_handshake *handshake, pluq_plugin_info *info);
pluq_status *PLUQ_PLUGIN_ENTRY(const pluq_host *from, const pluq_handshake *handshake,
                               pluq_plugin_info *info) {
  static const pluq_format format = {&format_api, NULL};
  const pluq_plugin_info out = {
      0, PLUQ_ABI_MAJOR, PLUQ_ABI_MIN_MINOR, PLUQ_ABI_MINOR, &note.manifest, NULL};
  host = from;
  if (handshake->abi_major != PLUQ_ABI_MAJOR || handshake->min_minor > PLUQ_ABI_MINOR ||
      handshake->max_minor < handshake->min_minor) {
    return fail(PLUQ_STATUS_ABI_MISMATCH,
                "the plugin and this host speak no common version of the ABI");
  }
  give(info, &out, sizeof out);
  return handshake->register_format(handshake->registrar, &format);
}
