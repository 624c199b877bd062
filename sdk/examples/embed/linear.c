/* SPDX-License-Identifier: Apache-2.0
 * One linear layer of a checkpoint inside another program, on that program's threads and in its
 * memory: cc -std=c11 linear.c -I <pluq>/include -L <pluq>/lib -lpluq -lpthread -lm -o linear
 *   ./linear <pluq>/lib/pluq/plugins MODEL model.layers.0.mlp.up_proj
 * Checks y = x W^T against the dequantized weight and exits with 1 when they differ. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "pluq/pluq.h"

#define WORKERS 3
#define TOKENS 5

/* ------------------------------------------------------------------ our threads */

typedef struct share {
  void (*fn)(void *, int32_t, int32_t);
  void *arg;
  int32_t worker;
} share;

static void *run_share(void *p) {
  const share *s = p;
  s->fn(s->arg, s->worker, WORKERS);
  return NULL;
}

static int regions; /* how often pluq has asked for them */

static void parallel(void *user, void (*fn)(void *, int32_t, int32_t), void *arg) {
  pthread_t threads[WORKERS];
  share shares[WORKERS];
  ++*(int *)user;
  for (int32_t w = 0; w < WORKERS; ++w) {
    shares[w] = (share){fn, arg, w};
    if (w > 0 && pthread_create(&threads[w], NULL, run_share, &shares[w]) != 0) abort();
  }
  run_share(&shares[0]);
  for (int32_t w = 1; w < WORKERS; ++w) pthread_join(threads[w], NULL);
}

/* ------------------------------------------------------------------ our memory */

static size_t in_use, most;

static void *allocate(void *user, size_t bytes, size_t alignment) {
  void *data = NULL;
  (void)user;
  if (posix_memalign(&data, alignment, bytes) != 0) return NULL;
  in_use += bytes;
  if (in_use > most) most = in_use;
  return data;
}
static void release(void *user, void *data, size_t bytes) {
  (void)user;
  in_use -= bytes;
  free(data);
}

static void check(pluq_status *status) {
  if (status == NULL) return;
  fprintf(stderr, "error %d: %s\n", (int)pluq_status_code(status), pluq_status_message(status));
  pluq_status_release(status);
  exit(1);
}

/* ------------------------------------------------------------------ the layer */

/* The largest |y - x W^T| as a share of the largest |y|. */
static double difference(const float *x, const float *y, const float *w, int64_t k, int64_t n) {
  double worst = 0, largest = 1e-30;
  for (int64_t m = 0; m < TOKENS; ++m) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t i = 0; i < k; ++i) sum += (double)x[m * k + i] * (double)w[j * k + i];
      worst = fmax(worst, fabs(sum - (double)y[m * n + j]));
      largest = fmax(largest, fabs(sum));
    }
  }
  return worst / largest;
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: linear PLUGIN_DIR MODEL LAYER\n");
    return 2;
  }
  const char *directories[] = {argv[1]};
  pluq_engine_options options = {.struct_size = sizeof options,
                                 .plugin_directories = directories,
                                 .plugin_directory_count = 1,
                                 .n_workers = WORKERS,
                                 .parallel = parallel,
                                 .parallel_user = &regions,
                                 .allocate = allocate,
                                 .release = release};
  pluq_engine *engine = NULL;
  check(pluq_engine_create(&options, &engine));

  pluq_linear_options how = {.struct_size = sizeof how,
                             .compute = PLUQ_COMPUTE_EXACT,
                             .activations = PLUQ_ACTIVATIONS_FLOAT,
                             .max_tokens = 2};
  pluq_linear *layer = NULL;
  check(pluq_linear_create(engine, argv[2], argv[3], &how, &layer));
  pluq_linear_info info = {.struct_size = sizeof info};
  pluq_linear_describe(layer, &info);
  printf("%s: %s %s by %s, [%lld, %lld], %.2f bits a weight\n", argv[3], info.format, info.scheme,
         info.kernel, (long long)info.out_features, (long long)info.in_features,
         info.bits_per_weight);

  const int64_t k = info.in_features, n = info.out_features;
  float *x = malloc(sizeof *x * (size_t)(TOKENS * k)),
        *y = malloc(sizeof *y * (size_t)(TOKENS * n));
  if (x == NULL || y == NULL) return 1;
  for (int64_t i = 0; i < TOKENS * k; ++i) x[i] = sinf((float)i);
  check(pluq_linear_forward(layer, x, k, TOKENS, y, n));

  pluq_dl_managed_tensor *w = NULL, *z = NULL;
  check(pluq_linear_dequantize_dlpack(layer, &w));
  int64_t shape[3] = {1, TOKENS, k};
  const pluq_dl_tensor in = {.data = x,
                             .device_type = 1,
                             .ndim = 3,
                             .dtype_code = 2,
                             .dtype_bits = 32,
                             .dtype_lanes = 1,
                             .shape = shape};
  check(pluq_linear_forward_dlpack(layer, &in, &z));
  const double error = difference(x, y, w->dl_tensor.data, k, n),
               again = difference(x, z->dl_tensor.data, w->dl_tensor.data, k, n);
  const int shaped =
      z->dl_tensor.ndim == 3 && z->dl_tensor.shape[1] == TOKENS && z->dl_tensor.shape[2] == n;
  printf("difference from the dequantized weight: %.1e, through DLPack %.1e\n", error, again);
  w->deleter(w);
  z->deleter(z);

  pluq_status *status =
      pluq_linear_create(engine, argv[2], "no.such.layer", NULL, &(pluq_linear *){NULL});
  printf("a layer that is not there: %s\n", pluq_status_message(status));
  const int refused = status != NULL;
  pluq_status_release(status);

  pluq_linear_destroy(layer);
  pluq_engine_destroy(engine);
  free(x);
  free(y);
  printf("our threads were used %d times, %zu bytes of our memory at most, %zu now\n", regions,
         most, in_use);
  return error < 1e-5 && again < 1e-5 && shaped && refused && regions > 0 && most > 0 && in_use == 0
             ? 0
             : 1;
}
