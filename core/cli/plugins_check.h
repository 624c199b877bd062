// SPDX-License-Identifier: Apache-2.0
// The subverb `plugins check`.
#pragma once

#include <functional>

#include "cli/common.h"

namespace pluq::cli {

// Declares it below `plugins`; *run is what it does.
CLI::App* add_plugins_check(CLI::App& plugins, const CommonFlags& common,
                            std::function<void()>* run);

}  // namespace pluq::cli
