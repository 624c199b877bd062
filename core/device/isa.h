// SPDX-License-Identifier: Apache-2.0
// Which instruction sets this process may use: what the CPU and the operating system offer, lowered
// by PLUQ_ISA.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pluq/abi.h"

namespace pluq {

enum class Isa { kPortable, kAvx2, kAvx512 };

std::string_view isa_name(Isa isa);  // "portable", "avx2", "avx512"

struct CpuInfo {
  uint64_t features = 0;  // PLUQ_CPU_* bits
  uint64_t l1d_bytes = 0, l2_bytes = 0, l3_bytes = 0;
  std::string model;  // "AMD EPYC ..."
};

// CPUID and XGETBV of the CPU this runs on; asked once.
const CpuInfo& cpu_info();

// The highest level whose features are all in `features`.
Isa best_isa(uint64_t features);

// Keeps only the bits that `isa` may use.
uint64_t lower_features(uint64_t features, Isa isa);

// The features to tell plugins: cpu_info() lowered by `forced` (the value of PLUQ_ISA: empty or
// "auto", "portable", "avx2", "avx512"). Throws Error(kUsage) for another word or a level the
// machine lacks.
uint64_t allowed_features(const CpuInfo& cpu, std::string_view forced);

// allowed_features of this machine and its environment.
uint64_t allowed_features();

// Names of the set bits, for people: "avx2", "avx512vnni", ...
std::vector<std::string> feature_names(uint64_t features);

}  // namespace pluq
