/* SPDX-License-Identifier: Apache-2.0
 * The ABI header is valid C11; prints the layout of every struct: name, then field, offset, size.
 */
#include <stddef.h>
#include <stdio.h>

#include "pluq/abi.h"

#define STRUCT(type) printf("%s size %zu\n", #type, sizeof(type))
#define FIELD(type, field) \
  printf("%s.%s %zu %zu\n", #type, #field, offsetof(type, field), sizeof(((type *)0)->field))

int main(void) {
#include "layout_fields.inc"
  return 0;
}
