// SPDX-License-Identifier: Apache-2.0
// Watches generated text for stop strings and releases only text that can no longer belong to one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pluq {

class StopText {
 public:
  // Empty stop strings are refused with Error(kUsage).
  explicit StopText(std::vector<std::string> stops);

  // Appends text and returns what is safe to show. After stopped() turns true the rest is dropped.
  std::string push(std::string_view text);
  // The text held back at the end of the generation.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace pluq
