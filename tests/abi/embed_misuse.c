/* SPDX-License-Identifier: Apache-2.0
 * Wrong use of libpluq: every mistake that a call can see is a status with a sentence, outputs stay
 * as they were, and nothing crashes. Also: every byte of the caller's memory comes back with its
 * size, whatever fails, the library makes no thread when the caller gives its own, two threads may
 * share layers, and an engine may be destroyed before its layers.
 *   embed_misuse PLUGIN_DIR MODEL LAYER OTHER_LAYER */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pluq/pluq.h"

#define WORKERS 3
#define ROWS 5

static int failures;
static void expect(int good, const char *what) {
  if (good) return;
  printf("FAILED: %s\n", what);
  ++failures;
}
static void fine(const char *what, pluq_status *status) {
  if (status == NULL) return;
  printf("%s: %s\n", what, pluq_status_message(status));
  expect(0, what);
  pluq_status_release(status);
}
/* A refusal of this kind whose sentence holds `text`. */
static void refused(const char *what, pluq_status *status, int32_t code, const char *text) {
  const char *message = pluq_status_message(status);
  if (pluq_status_code(status) != code || strstr(message, text) == NULL) {
    printf("%s: code %d, '%s'; expected %d and '%s'\n", what, (int)pluq_status_code(status),
           message, (int)code, text);
    expect(0, what);
  }
  pluq_status_release(status);
}

/* ------------------------------------------------------------------ our memory and threads */

struct head { /* before each block */
  void *base;
  size_t bytes;
};
static atomic_long in_use, blocks, allocations_left = -1;

static void *allocate(void *user, size_t bytes, size_t alignment) {
  expect(user == &in_use, "allocate gets memory_user");
  if (allocations_left == 0) return NULL;
  if (allocations_left > 0) --allocations_left;
  char *base = malloc(bytes + alignment + sizeof(struct head));
  if (base == NULL) return NULL;
  const uintptr_t first = (uintptr_t)base + sizeof(struct head);
  char *data = base + (first + alignment - 1) / alignment * alignment - (uintptr_t)base;
  const struct head head = {base, bytes};
  memcpy(data - sizeof head, &head, sizeof head);
  memset(data, 0xa5, bytes); /* nobody may count on zeros */
  in_use += (long)bytes;
  ++blocks;
  return data;
}
static void release(void *user, void *data, size_t bytes) {
  struct head head;
  expect(user == &in_use, "release gets memory_user");
  memcpy(&head, (char *)data - sizeof head, sizeof head);
  expect(head.bytes == bytes, "release gets the size that allocate got");
  in_use -= (long)head.bytes;
  --blocks;
  free(head.base);
}

struct share {
  void (*fn)(void *, int32_t, int32_t);
  void *arg;
  int32_t worker;
};
static void *run_share(void *p) {
  const struct share *s = p;
  s->fn(s->arg, s->worker, WORKERS);
  return NULL;
}
static void parallel(void *user, void (*fn)(void *, int32_t, int32_t), void *arg) {
  pthread_t threads[WORKERS];
  struct share shares[WORKERS];
  (void)user;
  for (int32_t w = 0; w < WORKERS; ++w) {
    shares[w] = (struct share){fn, arg, w};
    if (w > 0 && pthread_create(&threads[w], NULL, run_share, &shares[w]) != 0) abort();
  }
  run_share(&shares[0]);
  for (int32_t w = 1; w < WORKERS; ++w) pthread_join(threads[w], NULL);
}
static int threads_of_process(void) {
  int n = 0;
  DIR *tasks = opendir("/proc/self/task");
  if (tasks == NULL) return -1;
  for (const struct dirent *e = readdir(tasks); e != NULL; e = readdir(tasks))
    n += e->d_name[0] != '.';
  closedir(tasks);
  return n;
}

/* ------------------------------------------------------------------ one layer */

static void wrong_matrices(pluq_linear *l, const float *x, float *y, int64_t k, int64_t n) {
  const int32_t bad = PLUQ_STATUS_INVALID;
  refused("m", pluq_linear_forward(l, x, k, -1, y, n), bad, "m is -1");
  refused("ldx", pluq_linear_forward(l, x, k - 1, ROWS, y, n), bad, "ldx is");
  refused("ldy", pluq_linear_forward(l, x, k, ROWS, y, n - 1), bad, "ldy");
  refused("x", pluq_linear_forward(l, NULL, k, ROWS, y, n), bad, "x is NULL");
  refused("y", pluq_linear_forward(l, x, k, ROWS, NULL, n), bad, "y is NULL");
  refused("linear", pluq_linear_forward(NULL, x, k, ROWS, y, n), bad, "linear is NULL");
  refused("huge", pluq_linear_forward(l, x, INT64_MAX / 2, INT64_MAX / 2, y, n), bad, "more than");
  fine("m = 0", pluq_linear_forward(l, NULL, k, 0, NULL, n));
  refused("end", pluq_linear_dequantize(l, 0, n + 1, y, k), bad, "the layer has");
  refused("order", pluq_linear_dequantize(l, 2, 1, y, k), bad, "rows 2 to 1");
  refused("negative", pluq_linear_dequantize(l, -1, 1, y, k), bad, "rows -1");
  refused("ld", pluq_linear_dequantize(l, 0, 1, y, k - 1), bad, "ld is");
  refused("out", pluq_linear_dequantize(l, 0, 1, NULL, k), bad, "out is NULL");
}

static void wrong_tensor(pluq_linear *l, const pluq_dl_tensor *x, const char *text) {
  pluq_dl_managed_tensor untouched, *y = &untouched;
  refused("DLPack", pluq_linear_forward_dlpack(l, x, &y), PLUQ_STATUS_INVALID, text);
  expect(y == &untouched, "the output stays as it was");
}

static void wrong_tensors(pluq_linear *l, float *x, int64_t k) {
  int64_t shape[3] = {ROWS, k, 0}, longer[2] = {ROWS, k + 1}, negative[2] = {-1, k};
  int64_t column_major[2] = {1, ROWS}, overlapping[2] = {k / 2, 1};
  int64_t three[3] = {2, 2, k}, uneven[3] = {3 * k, k, 1};
  const pluq_dl_tensor good = {.data = x,
                               .device_type = 1,
                               .ndim = 2,
                               .dtype_code = 2,
                               .dtype_bits = 32,
                               .dtype_lanes = 1,
                               .shape = shape};
  pluq_dl_tensor t = good;
  t.dtype_bits = 16, wrong_tensor(l, &t, "16 bits"), t = good;
  t.dtype_code = 0, wrong_tensor(l, &t, "type code 0"), t = good;
  t.dtype_lanes = 4, wrong_tensor(l, &t, "4 lanes"), t = good;
  t.device_type = 2, wrong_tensor(l, &t, "device 2"), t = good;
  t.ndim = 0, wrong_tensor(l, &t, "0 dimensions"), t = good;
  t.ndim = -1, wrong_tensor(l, &t, "-1 dimensions"), t = good;
  t.shape = NULL, wrong_tensor(l, &t, "dimensions"), t = good;
  t.shape = longer, wrong_tensor(l, &t, "columns"), t = good;
  t.shape = negative, wrong_tensor(l, &t, "dimension of -1"), t = good;
  t.data = NULL, wrong_tensor(l, &t, "NULL"), t = good;
  t.byte_offset = 2, wrong_tensor(l, &t, "aligned"), t = good;
  t.strides = column_major, wrong_tensor(l, &t, "along its columns"), t = good;
  t.strides = overlapping, wrong_tensor(l, &t, "apart"), t = good;
  t.ndim = 3, t.shape = three, t.strides = uneven, wrong_tensor(l, &t, "evenly");
  wrong_tensor(l, NULL, "x is NULL");
  refused("y", pluq_linear_forward_dlpack(l, &good, NULL), PLUQ_STATUS_INVALID, "y is NULL");
  refused("w", pluq_linear_dequantize_dlpack(l, NULL), PLUQ_STATUS_INVALID, "w is NULL");
}

/* Shapes and strides that are allowed give the bits of forward. */
static void right_tensors(pluq_linear *l, float *x, const float *y, int64_t k, int64_t n) {
  int64_t vector[1] = {k}, none[2] = {0, k}, ones[4] = {ROWS, 1, 1, k};
  int64_t anything[4] = {k, 7, -3, 1}; /* strides of dimensions of 1 mean nothing */
  pluq_dl_tensor t = {.data = x,
                      .device_type = 1,
                      .ndim = 1,
                      .dtype_code = 2,
                      .dtype_bits = 32,
                      .dtype_lanes = 1,
                      .shape = vector};
  pluq_dl_managed_tensor *z = NULL;
  fine("[K]", pluq_linear_forward_dlpack(l, &t, &z));
  if (z == NULL) return;
  expect(z->dl_tensor.ndim == 1 && z->dl_tensor.shape[0] == n, "[K] gives [N]");
  expect(memcmp(z->dl_tensor.data, y, sizeof *y * (size_t)n) == 0, "[K] gives the first row");
  z->deleter(z);
  t.ndim = 2, t.shape = none;
  fine("[0, K]", pluq_linear_forward_dlpack(l, &t, &z));
  z->deleter(z);
  t.ndim = 4, t.shape = ones, t.strides = anything;
  fine("[M, 1, 1, K]", pluq_linear_forward_dlpack(l, &t, &z));
  expect(memcmp(z->dl_tensor.data, y, sizeof *y * (size_t)(ROWS * n)) == 0, "[M, 1, 1, K]");
  z->deleter(z);
}

static void use(pluq_linear *l) {
  pluq_linear_info info = {.struct_size = sizeof info};
  pluq_linear_describe(l, &info);
  const int64_t k = info.in_features, n = info.out_features;
  float *x = calloc((size_t)((ROWS + 1) * k), sizeof *x);
  float *y = calloc((size_t)(ROWS * n), sizeof *y);
  if (x == NULL || y == NULL) exit(1);
  for (int64_t i = 0; i < ROWS * k; ++i) x[i] = (float)(i % 101 - 50);
  fine("forward", pluq_linear_forward(l, x, k, ROWS, y, n));
  right_tensors(l, x, y, k, n);
  wrong_tensors(l, x, k);
  wrong_matrices(l, x, y, k, n);
  free(x);
  free(y);
}

/* ------------------------------------------------------------------ layers, engines, threads */

static void wrong_layers(pluq_engine *e, const char *model, const char *layer) {
  const int32_t bad = PLUQ_STATUS_INVALID;
  pluq_linear *const untouched = (pluq_linear *)&failures, *l = untouched;
  pluq_linear_options o = {.struct_size = sizeof o, .compute = 77};
  refused("layer", pluq_linear_create(e, model, "no.such.layer", NULL, &l), bad, "no.such.layer");
  refused("empty", pluq_linear_create(e, model, "", NULL, &l), bad, "no linear layer ''");
  refused("a norm", pluq_linear_create(e, model, "model.norm", NULL, &l), bad, "model.norm");
  refused("name", pluq_linear_create(e, model, NULL, NULL, &l), bad, "name is NULL");
  refused("checkpoint", pluq_linear_create(e, NULL, layer, NULL, &l), bad, "checkpoint is NULL");
  refused("engine", pluq_linear_create(NULL, model, layer, NULL, &l), bad, "engine is NULL");
  refused("linear", pluq_linear_create(e, model, layer, NULL, NULL), bad, "linear is NULL");
  refused("a file", pluq_linear_create(e, "/etc/passwd", layer, NULL, &l), bad, "not a model");
  refused("compute", pluq_linear_create(e, model, layer, &o, &l), bad, "compute is 77");
  o.compute = 0, o.activations = 9;
  refused("activations", pluq_linear_create(e, model, layer, &o, &l), bad, "activations 9");
  o.activations = 0, o.max_tokens = -5;
  refused("max_tokens", pluq_linear_create(e, model, layer, &o, &l), bad, "max_tokens -5");
  o.struct_size = 0;
  refused("struct_size", pluq_linear_create(e, model, layer, &o, &l), bad, "struct_size is 0");
  expect(l == untouched, "the output stays as it was");
}

static void wrong_engines(pluq_engine_options o) {
  const pluq_engine_options good = o;
  const char *nothing[] = {NULL}, *relative[] = {"plugins"}, *missing[] = {"/no/such/directory"};
  const int32_t bad = PLUQ_STATUS_INVALID;
  pluq_engine *const untouched = (pluq_engine *)&failures, *e = untouched;
  o.allocate = NULL, refused("release", pluq_engine_create(&o, &e), bad, "go together"), o = good;
  o.release = NULL, refused("allocate", pluq_engine_create(&o, &e), bad, "go together"), o = good;
  o.n_workers = -1, refused("workers", pluq_engine_create(&o, &e), bad, "n_workers is -1"),
  o = good;
  o.n_workers = 0, refused("parallel", pluq_engine_create(&o, &e), bad, "n_workers"), o = good;
  o.plugin_directories = nothing, refused("NULL", pluq_engine_create(&o, &e), bad, "[0] is NULL");
  o.plugin_directories = relative, refused("cwd", pluq_engine_create(&o, &e), bad, "absolute");
  o.plugin_directories = NULL, refused("none", pluq_engine_create(&o, &e), bad, "is NULL"),
  o = good;
  o.plugin_directories = missing;
  refused("missing", pluq_engine_create(&o, &e), PLUQ_STATUS_UNSUPPORTED, "does not exist"),
      o = good;
  o.allow_list = "/no/such/list", refused("list", pluq_engine_create(&o, &e), bad, "/no/such/list");
  o = good, o.struct_size = 0, refused("size", pluq_engine_create(&o, &e), bad, "struct_size is 0");
  refused("engine", pluq_engine_create(&good, NULL), bad, "engine is NULL");
  expect(e == untouched, "the output stays as it was");
}

/* Memory that runs out at each allocation in turn. */
static void out_of_memory(const pluq_engine_options *o, const char *model, const char *layer) {
  int refusals = 0;
  for (long left = 0; left < 100; ++left) {
    pluq_engine *e = NULL;
    pluq_linear *l = NULL;
    pluq_dl_managed_tensor *w = NULL;
    fine("engine", pluq_engine_create(o, &e));
    allocations_left = left;
    pluq_status *status = pluq_linear_create(e, model, layer, NULL, &l);
    if (status == NULL) status = pluq_linear_dequantize_dlpack(l, &w);
    allocations_left = -1;
    if (w != NULL) w->deleter(w);
    pluq_linear_destroy(l);
    pluq_engine_destroy(e);
    expect(in_use == 0 && blocks == 0, "nothing is left after a failed allocation");
    if (status == NULL) break;
    refused("memory", status, PLUQ_STATUS_OUT_OF_MEMORY, "out of memory");
    ++refusals;
  }
  expect(refusals >= 2, "several allocations were refused in turn");
  printf("out of memory at %d places\n", refusals);
}

struct job {
  pluq_linear *linear;
  float *y;
};
static void *forward_often(void *p) {
  struct job *job = p;
  pluq_linear_info info = {.struct_size = sizeof info};
  pluq_linear_describe(job->linear, &info);
  const int64_t k = info.in_features, n = info.out_features;
  float *x = calloc((size_t)(ROWS * k), sizeof *x);
  job->y = calloc((size_t)(ROWS * n), sizeof *job->y);
  if (x == NULL || job->y == NULL) abort();
  for (int64_t i = 0; i < ROWS * k; ++i) x[i] = (float)(i % 17 - 8);
  for (int i = 0; i < 20; ++i)
    fine("forward beside others", pluq_linear_forward(job->linear, x, k, ROWS, job->y, n));
  free(x);
  return NULL;
}

static void beside_each_other(pluq_linear *a, pluq_linear *b) {
  struct job jobs[4] = {{a, NULL}, {b, NULL}, {a, NULL}, {b, NULL}};
  pthread_t threads[4];
  for (int i = 0; i < 4; ++i)
    if (pthread_create(&threads[i], NULL, forward_often, &jobs[i]) != 0) abort();
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], NULL);
  for (int i = 0; i < 2; ++i) {
    pluq_linear_info info = {.struct_size = sizeof info};
    pluq_linear_describe(jobs[i].linear, &info);
    const size_t bytes = sizeof(float) * (size_t)(ROWS * info.out_features);
    expect(memcmp(jobs[i].y, jobs[i + 2].y, bytes) == 0, "threads get the same bits");
  }
  for (int i = 0; i < 4; ++i) free(jobs[i].y);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  const char *directories[] = {argv[1]}, *model = argv[2];
  const pluq_engine_options o = {.struct_size = sizeof o,
                                 .plugin_directories = directories,
                                 .plugin_directory_count = 1,
                                 .n_workers = WORKERS,
                                 .parallel = parallel,
                                 .allocate = allocate,
                                 .release = release,
                                 .memory_user = &in_use};
  pluq_engine *e = NULL;
  pluq_linear *a = NULL, *b = NULL;
  const int threads = threads_of_process();
  fine("engine", pluq_engine_create(&o, &e));
  fine("layer", pluq_linear_create(e, model, argv[3], NULL, &a));
  fine("layer", pluq_linear_create(e, model, argv[4], NULL, &b));
  if (a == NULL || b == NULL) return 1;
  const long loaded = in_use;
  expect(loaded > 0, "weights are in the caller's memory");
  use(a);
  use(b);
  wrong_layers(e, model, argv[3]);
  expect(in_use == loaded, "nothing is kept of calls and of refusals");
  expect(threads > 0 && threads_of_process() == threads, "no thread but the caller's");
  beside_each_other(a, b);

  pluq_linear_describe(NULL, NULL);
  pluq_linear_describe(a, NULL);
  expect(pluq_status_code(NULL) == 0 && *pluq_status_message(NULL) == '\0', "NULL is no error");
  pluq_status_release(NULL);
  pluq_linear_destroy(NULL);
  pluq_engine_destroy(NULL);

  /* The engine goes first, a tensor last. */
  pluq_dl_managed_tensor *w = NULL;
  fine("W", pluq_linear_dequantize_dlpack(a, &w));
  pluq_engine_destroy(e);
  use(a);
  pluq_linear_destroy(b);
  pluq_linear_destroy(a);
  if (w != NULL) w->deleter(w);
  expect(in_use == 0 && blocks == 0, "every byte came back");

  wrong_engines(o);
  out_of_memory(&o, model, argv[3]);
  printf("%d failures\n", failures);
  return failures != 0;
}
