// SPDX-License-Identifier: Apache-2.0
// Progress of long work on stderr: one redrawn bar on a terminal, plain lines (at most one every
// few seconds) elsewhere, nothing when quiet.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace pluq {

class Progress {
 public:
  // what: "quantizing"; total: steps to come; quiet: print nothing.
  Progress(std::string what, int64_t total, bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // One more step is done; `detail` names it ("model.layers.3.mlp.up_proj").
  void step(std::string_view detail);

 private:
  void draw(std::string_view detail, bool last);

  std::string what_;
  int64_t total_, done_ = 0;
  bool quiet_, terminal_;
  std::chrono::steady_clock::time_point start_, drawn_;
};

}  // namespace pluq
