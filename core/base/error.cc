// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"

namespace pluq {

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  size_t count = 0;
  for (char c : text) {
    if (count++ == limit) {
      out += "...";
      break;
    }
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7f) {
      out += fmt::format("\\x{:02x}", u);
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace pluq
