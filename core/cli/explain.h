// SPDX-License-Identifier: Apache-2.0
// pluq explain MODEL.
#pragma once

#include "cli/common.h"

namespace pluq::cli {

Verb add_explain(CLI::App& app, CommonFlags& flags);

}  // namespace pluq::cli
