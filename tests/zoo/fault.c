/* SPDX-License-Identifier: Apache-2.0
 * The name of the one rule that this plugin breaks, and the constructor for those that break it
 * before anything else. */
#include "zoo/fault.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const zoo_fault = ZOO_FAULT;

__attribute__((constructor)) static void begin(void) {
  if (strcmp(zoo_fault, "constructor_aborts") == 0) abort();
  if (strcmp(zoo_fault, "constructor_exits") == 0) exit(0);
  if (strcmp(zoo_fault, "constructor_segfaults") == 0) *(volatile int *)16 = 1;
  while (strcmp(zoo_fault, "constructor_hangs") == 0) usleep(1000);
}
