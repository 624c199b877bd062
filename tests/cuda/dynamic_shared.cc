// SPDX-License-Identifier: Apache-2.0
// Prints the dynamic shared memory of every kernel that has some, as its launcher computes it:
// a line "KERNEL<tab>BYTES" each, the kernel named as resources.py shows it; without template
// arguments, all its instances are meant. For resources.py.
#include <cinttypes>
#include <cstdio>

#include "device/cuda/engine_kernels.cuh"
#include "pluq/cuda/quantized/byte_gemm.cuh"
#include "pluq/cuda/quantized/byte_wgmma.cuh"
#include "pluq/cuda/quantized/weight_only.cuh"

namespace {

using namespace pluq::cuda;

const char* name(bool b) { return b ? "true" : "false"; }

template <int kKind, int... kRows>
void byte_gemm() {
  (std::printf("byte_gemm_kernel<(cuda::ByteKind)%d, %d>\t%" PRIu32 "\n", kKind, kRows,
               byte_shared_bytes<static_cast<ByteKind>(kKind), kRows>()),
   ...);
}

template <int kKind, int kColumns, bool kRuns>
void byte_wgmma() {
  std::printf("byte_wgmma_kernel<(cuda::ByteKind)%d, %d, %s>\t%" PRIu32 "\n", kKind, kColumns,
              name(kRuns), ByteWgmma<static_cast<ByteKind>(kKind), kColumns, kRuns>::kBytes);
}

template <int kBits, int kRows, bool kWgmma>
void weight_only() {
  for (const bool zeros : {false, true}) {
    const uint32_t bytes = zeros ? WoShape<kBits, true, kRows, kWgmma>::kBytes
                                 : WoShape<kBits, false, kRows, kWgmma>::kBytes;
    for (const bool bf16 : {false, true}) {
      std::printf("weight_only_kernel<%d, %d, %s, %s, %s>\t%" PRIu32 "\n", kBits, kRows,
                  name(zeros), name(bf16), name(kWgmma), bytes);
    }
  }
}
template <int kBits>
void weight_only() {
  weight_only<kBits, 8, false>();
  weight_only<kBits, 16, false>();
  weight_only<kBits, 32, false>();
  weight_only<kBits, 64, false>();
  weight_only<kBits, 128, false>();
  weight_only<kBits, 128, true>();
}

template <class Cache, int kColumns>
void attention(const char* cache) {
  for (const bool decode : {false, true}) {
    std::printf("engine::kernel_attention_mma<engine::%s, %d, %s>\t%" PRIu32 "\n", cache, kColumns,
                name(decode),
                decode ? engine::AttentionLayout<Cache, kColumns, true>::kBytes
                       : engine::AttentionLayout<Cache, kColumns, false>::kBytes);
  }
}
template <class Cache>
void attention(const char* cache) {
  attention<Cache, 128>(cache);
  attention<Cache, 256>(cache);
}

}  // namespace

int main() {
  byte_gemm<0, 16, 64, 128>();
  byte_gemm<1, 16, 64>();
  byte_gemm<2, 16, 64>();
  byte_gemm<3, 16, 64>();
  byte_gemm<4, 16, 64>();
  byte_gemm<5, 16, 64>();
  byte_wgmma<0, 128, true>();
  byte_wgmma<0, 64, false>();
  byte_wgmma<0, 128, false>();
  byte_wgmma<0, 256, false>();
  byte_wgmma<1, 64, false>();
  byte_wgmma<1, 128, false>();
  byte_wgmma<1, 256, false>();
  weight_only<4>();
  weight_only<8>();
  attention<engine::CacheF16>("CacheF16");
  attention<engine::CacheBf16>("CacheBf16");
  attention<engine::Cache8>("Cache8");
  // The longest head that the engine takes.
  std::printf("engine::kernel_attention\t%" PRIu32 "\n",
              engine::attention_shared_bytes(32 * engine::kMaxPerLane));
  return 0;
}
