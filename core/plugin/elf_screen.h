// SPDX-License-Identifier: Apache-2.0
// Reads a plugin file as bytes, before any of its code can run: is it a 64-bit x86 shared object,
// what does its manifest note say, what does it export and need? Bounds-checked; nothing is mapped
// for execution here.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "pluq/abi.h"

namespace pluq {

struct ElfFacts {
  pluq_manifest manifest{};
  std::vector<std::string> exports;  // defined dynamic symbols
  std::vector<std::string> needed;   // DT_NEEDED
  bool has_runpath = false;          // DT_RPATH or DT_RUNPATH
  bool loads_others = false;         // a filter, auxiliary or audit library
  bool executable_stack = false;
  bool text_relocations = false;
  std::string glibc;  // highest GLIBC_x.y needed, as "2.34", or empty
};

// Throws Error(kPlugin) with a reason when the bytes are no ELF shared object for x86-64 or have no
// manifest.
ElfFacts read_elf(std::span<const std::byte> bytes);

// The reason why this host will not load it, or empty.
std::string refusal(const ElfFacts& facts);

}  // namespace pluq
