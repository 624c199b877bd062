// SPDX-License-Identifier: Apache-2.0
// Whether a table that a plugin hands out has what 1.0 asks of it.
#pragma once

#include "pluq/abi.h"

namespace pluq {

// The first slot that such a table lacks, beyond its end or empty; null when it has all it needs.
const char* missing_slot(const pluq_format_api* api);
const char* missing_slot(const pluq_config_api* api);
const char* missing_slot(const pluq_method_api* api);

}  // namespace pluq
