/* SPDX-License-Identifier: Apache-2.0
 *
 * Extension of a format, "pluq.samples/1", a draft: layers that the format can serve, for whoever
 * needs one without a checkpoint (the conformance kit, the probe of an unknown plugin). Formats
 * with a quantizer do not need it: the host quantizes a random layer. Plain C11. */
#ifndef PLUQ_EXT_SAMPLES_H_
#define PLUQ_EXT_SAMPLES_H_

#include "pluq/abi.h"

#ifdef __cplusplus
extern "C" {
#endif
/* Id for pluq_format_api.get_extension. */
#define PLUQ_SAMPLES "pluq.samples/1"
typedef struct pluq_samples { /* The table of the extension. */
  uint32_t struct_size;
  uint32_t reserved;
  /* [load] How many samples there are of a layer [N, K]; 0 when that shape has none. */
  size_t (*count)(void *format, int64_t n, int64_t k);
  /* [load] Sample `index`: a name for people into `name`, the JSON of the quantization config
   * (nothing when the checkpoint has none) into `quantization`, the tensors by the protocol of
   * create_weights; the host fills them by their pluq_sample, whose fill() it calls with the format
   * in place of the method, before it asks for another sample. Suffixes live as long as the
   * process. */
  pluq_status *(*get)(void *format, size_t index, int64_t n, int64_t k, pluq_text *name,
                      const pluq_text_sink *quantization, pluq_weight_spec *specs, size_t stride,
                      size_t *count);
} pluq_samples;

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* PLUQ_EXT_SAMPLES_H_ */
