// SPDX-License-Identifier: Apache-2.0
// The bytes of a plugin, looked at before any of its code may run.
#include <span>

#include "fuzz.h"
#include "plugin/elf_screen.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pluq::fuzz::taken([&] { pluq::refusal(pluq::read_elf(std::as_bytes(std::span(data, size)))); });
  return 0;
}
