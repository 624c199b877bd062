// SPDX-License-Identifier: Apache-2.0
// The trial of an unknown plugin: loaded, entered and made to compute a small layer in a child
// process before the host maps it. What it promises and what not is in core/plugin/README.md.
#pragma once

#include <functional>
#include <string>

#include "plugin/elf_screen.h"

namespace pluq::conformance {

struct TrialOptions {
  double time_limit = 20;  // seconds
  std::string cache;       // directory of verdicts; empty: none is kept
};

// The reason why the plugin that `path` opens must not be loaded, or empty.
std::string trial(const std::string& path, const std::string& sha256, const ElfFacts& facts,
                  const TrialOptions& options);

// For PluginOptions::trial: with verdicts kept below $XDG_CACHE_HOME or ~/.cache in pluq/trials,
// where that can be done safely.
std::function<std::string(const std::string&, const std::string&, const ElfFacts&)> default_trial();

}  // namespace pluq::conformance
