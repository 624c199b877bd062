// SPDX-License-Identifier: Apache-2.0
#include "device/isa.h"

#include <cpuid.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace pluq {
namespace {

struct Named {
  uint64_t bit;
  const char* name;
};
constexpr Named kNames[] = {
    {PLUQ_CPU_X86_64_V2, "x86-64-v2"},
    {PLUQ_CPU_AVX2, "avx2"},
    {PLUQ_CPU_FMA, "fma"},
    {PLUQ_CPU_F16C, "f16c"},
    {PLUQ_CPU_BMI2, "bmi2"},
    {PLUQ_CPU_AVX_VNNI, "avx_vnni"},
    {PLUQ_CPU_AVX512F, "avx512f"},
    {PLUQ_CPU_AVX512BW, "avx512bw"},
    {PLUQ_CPU_AVX512VL, "avx512vl"},
    {PLUQ_CPU_AVX512DQ, "avx512dq"},
    {PLUQ_CPU_AVX512VNNI, "avx512vnni"},
    {PLUQ_CPU_AVX512VBMI, "avx512vbmi"},
    {PLUQ_CPU_AVX512BF16, "avx512bf16"},
    {PLUQ_CPU_AMX_TILE, "amx_tile"},
    {PLUQ_CPU_AMX_INT8, "amx_int8"},
    {PLUQ_CPU_AMX_BF16, "amx_bf16"},
};

constexpr uint64_t kAvx2Level =
    PLUQ_CPU_X86_64_V2 | PLUQ_CPU_AVX2 | PLUQ_CPU_FMA | PLUQ_CPU_F16C | PLUQ_CPU_BMI2;
constexpr uint64_t kAvx512Level =
    kAvx2Level | PLUQ_CPU_AVX512F | PLUQ_CPU_AVX512BW | PLUQ_CPU_AVX512VL | PLUQ_CPU_AVX512DQ;

struct Regs {
  uint32_t a = 0, b = 0, c = 0, d = 0;
};

Regs cpuid(uint32_t leaf, uint32_t sub) {
  Regs r;
  if (__get_cpuid_count(leaf, sub, &r.a, &r.b, &r.c, &r.d) == 0) return {};
  return r;
}

uint64_t xcr0() {
  uint32_t lo = 0, hi = 0;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return static_cast<uint64_t>(hi) << 32 | lo;
}

uint64_t detect_features() {
  const Regs l1 = cpuid(1, 0), l7 = cpuid(7, 0), l7_1 = cpuid(7, 1);
  const auto bit = [](uint32_t reg, int n) { return (reg >> n & 1) != 0; };
  uint64_t f = 0;
  // SSE3, SSSE3, CX16, SSE4.1, SSE4.2, POPCNT.
  if (bit(l1.c, 0) && bit(l1.c, 9) && bit(l1.c, 13) && bit(l1.c, 19) && bit(l1.c, 20) &&
      bit(l1.c, 23)) {
    f |= PLUQ_CPU_X86_64_V2;
  }
  const uint64_t os = bit(l1.c, 27) ? xcr0() : 0;
  const bool ymm = (os & 0x6) == 0x6, zmm = (os & 0xe6) == 0xe6, tiles = (os & 0x60000) == 0x60000;
  const auto set = [&](bool has, uint64_t flag) {
    if (has) f |= flag;
  };
  if (ymm && bit(l1.c, 28)) {
    set(bit(l7.b, 5), PLUQ_CPU_AVX2);
    set(bit(l1.c, 12), PLUQ_CPU_FMA);
    set(bit(l1.c, 29), PLUQ_CPU_F16C);
    set(bit(l7_1.a, 4), PLUQ_CPU_AVX_VNNI);
  }
  set(bit(l7.b, 8), PLUQ_CPU_BMI2);
  if (zmm && bit(l7.b, 16)) {
    set(true, PLUQ_CPU_AVX512F);
    set(bit(l7.b, 30), PLUQ_CPU_AVX512BW);
    set(bit(l7.b, 31), PLUQ_CPU_AVX512VL);
    set(bit(l7.b, 17), PLUQ_CPU_AVX512DQ);
    set(bit(l7.c, 11), PLUQ_CPU_AVX512VNNI);
    set(bit(l7.c, 1), PLUQ_CPU_AVX512VBMI);
    set(bit(l7_1.a, 5), PLUQ_CPU_AVX512BF16);
  }
  if (tiles) {
    set(bit(l7.d, 24), PLUQ_CPU_AMX_TILE);
    set(bit(l7.d, 25), PLUQ_CPU_AMX_INT8);
    set(bit(l7.d, 22), PLUQ_CPU_AMX_BF16);
  }
  return f;
}

uint64_t cache_size(int name) {
  const long bytes = ::sysconf(name);
  return bytes > 0 ? static_cast<uint64_t>(bytes) : 0;
}

std::string brand() {
  char text[49] = {};
  for (uint32_t i = 0; i < 3; ++i) {
    const Regs r = cpuid(0x80000002 + i, 0);
    std::memcpy(text + 16 * i, &r, 16);
  }
  const std::string name(text);
  const size_t begin = name.find_first_not_of(' ');
  return begin == std::string::npos ? "unknown CPU" : name.substr(begin);
}

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kPortable:
      break;
  }
  return "portable";
}

const CpuInfo& cpu_info() {
  static const CpuInfo info{detect_features(), cache_size(_SC_LEVEL1_DCACHE_SIZE),
                            cache_size(_SC_LEVEL2_CACHE_SIZE), cache_size(_SC_LEVEL3_CACHE_SIZE),
                            brand()};
  return info;
}

Isa best_isa(uint64_t features) {
  if ((features & kAvx512Level) == kAvx512Level) return Isa::kAvx512;
  if ((features & kAvx2Level) == kAvx2Level) return Isa::kAvx2;
  return Isa::kPortable;
}

uint64_t lower_features(uint64_t features, Isa isa) {
  constexpr uint64_t kAbove512 = ~((UINT64_C(1) << 8) - 1);  // the AVX-512 and AMX bits
  switch (isa) {
    case Isa::kPortable:
      return features & PLUQ_CPU_X86_64_V2;
    case Isa::kAvx2:
      return features & ~kAbove512;
    case Isa::kAvx512:
      break;
  }
  return features;
}

uint64_t allowed_features(const CpuInfo& cpu, std::string_view forced) {
  const Isa best = best_isa(cpu.features);
  if ((cpu.features & PLUQ_CPU_X86_64_V2) == 0) {
    fail_usage("this CPU ({}) lacks x86-64-v2 (SSE4.2, POPCNT), which pluq needs", cpu.model);
  }
  if (forced.empty() || forced == "auto") return lower_features(cpu.features, best);
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (forced != isa_name(isa)) continue;
    if (isa > best) {
      fail_usage("PLUQ_ISA={}: this CPU ({}) offers at most {}", forced, cpu.model, isa_name(best));
    }
    return lower_features(cpu.features, isa);
  }
  fail_usage("PLUQ_ISA={}: unknown; accepted are auto, portable, avx2, avx512", printable(forced));
}

uint64_t allowed_features() {
  const char* forced = std::getenv("PLUQ_ISA");
  return allowed_features(cpu_info(), forced == nullptr ? "" : forced);
}

std::vector<std::string> feature_names(uint64_t features) {
  std::vector<std::string> out;
  for (const Named& named : kNames) {
    if ((features & named.bit) != 0) out.emplace_back(named.name);
  }
  return out;
}

}  // namespace pluq
