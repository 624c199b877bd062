// SPDX-License-Identifier: Apache-2.0
#include "version.h"

extern "C" const char* pluq_version(void) { return PLUQ_VERSION; }
