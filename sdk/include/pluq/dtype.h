/* SPDX-License-Identifier: Apache-2.0
 * Element types of tensors: an open set. A side that meets an id it does not know answers
 * "unsupported" and never fails otherwise. Plain C11; part of the ABI (see abi.h).
 *
 * A type is an id plus its block: a scalar type has one element per block; sub-byte and GGUF block
 * types have several. Bytes of n elements = n / block_elements * block_bytes; n must be a whole
 * number of blocks along the innermost dimension. */
#ifndef PLUQ_DTYPE_H_
#define PLUQ_DTYPE_H_

#include <stdint.h>

/* Never grows: passed by value and in arrays. */
typedef struct pluq_dtype {
  uint32_t id;             /* PLUQ_DTYPE_* */
  uint32_t block_elements; /* 1 for scalar types */
  uint32_t block_bytes;    /* size of a block */
} pluq_dtype;
/* Values of pluq_dtype.id, little-endian in files. */
#define PLUQ_DTYPE_UNKNOWN 0u
#define PLUQ_DTYPE_BOOL 1u
#define PLUQ_DTYPE_U8 2u
#define PLUQ_DTYPE_I8 3u
#define PLUQ_DTYPE_U16 4u
#define PLUQ_DTYPE_I16 5u
#define PLUQ_DTYPE_U32 6u
#define PLUQ_DTYPE_I32 7u
#define PLUQ_DTYPE_U64 8u
#define PLUQ_DTYPE_I64 9u
#define PLUQ_DTYPE_F16 10u
#define PLUQ_DTYPE_BF16 11u
#define PLUQ_DTYPE_F32 12u
#define PLUQ_DTYPE_F64 13u
#define PLUQ_DTYPE_F8_E4M3 14u /* e4m3fn: no infinity, NaN only at 0x7f and 0xff */
#define PLUQ_DTYPE_F8_E5M2 15u /* has infinities */
#define PLUQ_DTYPE_F8_E8M0 16u /* a power of two, value 2^(byte - 127) */
#define PLUQ_DTYPE_F8_E4M3FNUZ 17u /* NaN only at 0x80 */
#define PLUQ_DTYPE_F8_E5M2FNUZ 18u /* NaN only at 0x80, no infinity */
#define PLUQ_DTYPE_F4_E2M1 19u /* two per byte, the first in the low nibble */

/* GGUF block types: this base plus ggml's type number, e.g. Q4_0 = 0x1000 + 2, Q4_K = 0x1000 + 12.
 */
#define PLUQ_DTYPE_GGML_BASE 0x1000u

#endif /* PLUQ_DTYPE_H_ */
