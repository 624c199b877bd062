// SPDX-License-Identifier: Apache-2.0
// The host's `pluq.gemm/1` (pluq/ext/gemm.h).
#pragma once

#include "pluq/ext/gemm.h"

namespace pluq {

// Process lifetime. Its products run on the runtime whose stream the plugin was given.
const pluq_gemm* gemm_service();

}  // namespace pluq
