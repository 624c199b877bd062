// SPDX-License-Identifier: Apache-2.0
// What differs between nvcc and the host twin: macros, indices, vectors. A kernel source is
// compiled by nvcc as it is, and by the host compiler with PLUQ_CUDA_EMULATE=1, where each CUDA
// thread is a fiber (see README.md).
#pragma once

#ifndef PLUQ_CUDA_EMULATE
#define PLUQ_CUDA_EMULATE 0
#endif
#if !PLUQ_CUDA_EMULATE && !defined(__CUDACC__)
#error "compile this file with nvcc, or define PLUQ_CUDA_EMULATE=1"
#endif

#include <cstdint>

#if PLUQ_CUDA_EMULATE
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>

#include "pluq/ext/cuda_emulator.h"
#else
#include <cuda_runtime.h>
#endif

// PLUQ_CUDA_SIDE names the inline namespace, so that both twins of a kernel can live in one shared
// object:
//   namespace pluq::gptq { inline namespace PLUQ_CUDA_SIDE { ... } }
// PLUQ_KERNEL(threads, min_blocks) void name_kernel(...) declares a kernel.
// PLUQ_AT / PLUQ_HERE pass the place of the call to the host twin; PLUQ_AT0 where there is no
// parameter before.
#if PLUQ_CUDA_EMULATE
#define PLUQ_CUDA_SIDE emulated
#define PLUQ_DEVICE inline
#define PLUQ_HOST_DEVICE inline
#define PLUQ_NOINLINE_DEVICE inline
#define PLUQ_KERNEL(threads, min_blocks) inline
#define PLUQ_UNROLL
#define PLUQ_UNROLL_N(n)
#define PLUQ_AT0 const char *file = __builtin_FILE(), uint32_t line = __builtin_LINE()
#define PLUQ_AT , PLUQ_AT0
#define PLUQ_HERE0 file, line
#define PLUQ_HERE , file, line
#else
#define PLUQ_CUDA_SIDE device
#define PLUQ_DEVICE __device__ __forceinline__
#define PLUQ_HOST_DEVICE __host__ __device__ __forceinline__
#define PLUQ_NOINLINE_DEVICE __device__ __noinline__
#define PLUQ_KERNEL(threads, min_blocks) __global__ __launch_bounds__(threads, min_blocks)
#define PLUQ_PRAGMA(x) _Pragma(#x)
#define PLUQ_UNROLL _Pragma("unroll")
#define PLUQ_UNROLL_N(n) PLUQ_PRAGMA(unroll n)
#define PLUQ_AT0
#define PLUQ_AT
#define PLUQ_HERE0
#define PLUQ_HERE
#endif

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

// Vectors for 8- and 16-byte accesses; lane i of memory order is v[i].
struct alignas(8) u32x2 {
  uint32_t v[2];
};
struct alignas(16) u32x4 {
  uint32_t v[4];
};
struct alignas(8) f32x2 {
  float v[2];
};
struct alignas(16) f32x4 {
  float v[4];
};

struct dim {
  uint32_t x, y, z;
};

constexpr uint32_t kFullMask = 0xffffffffU;
constexpr int kWarpSize = 32;

#if PLUQ_CUDA_EMULATE

// The block that this OS thread runs; set when a fiber starts, the same for all fibers of a launch.
inline thread_local pluq_emu_block *current_block = nullptr;

inline pluq_emu_block *block_state() { return current_block; }

[[noreturn]] inline void emulator_fail(const char *text, const char *file, uint32_t line) {
  pluq_emu_block *b = block_state();
  b->api->fail(b, text, file, line);
  __builtin_unreachable();
}

// A word that is stored or converted: fails when it comes from the accumulators of a wgmma that no
// wait covers.
inline void check_finished(const uint32_t *value, uint32_t words, const char *file, uint32_t line) {
  pluq_emu_block *b = block_state();
  if (b != nullptr && (b->checks & PLUQ_EMU_CHECK_WGMMA) != 0)
    b->api->wgmma_value(b, value, words, file, line);
}
inline void check_finished(uint32_t nan) {
  if ((nan & PLUQ_EMU_UNFINISHED_BITS) == PLUQ_EMU_UNFINISHED) check_finished(&nan, 1, "", 0);
}

inline dim thread_idx() {
  const pluq_emu_block *b = block_state();
  return {b->thread_idx[0], b->thread_idx[1], b->thread_idx[2]};
}
inline dim block_idx() {
  const pluq_emu_block *b = block_state();
  return {b->block_idx[0], b->block_idx[1], b->block_idx[2]};
}
inline dim block_dim() {
  const pluq_emu_block *b = block_state();
  return {b->block_dim[0], b->block_dim[1], b->block_dim[2]};
}
inline dim grid_dim() {
  const pluq_emu_block *b = block_state();
  return {b->grid_dim[0], b->grid_dim[1], b->grid_dim[2]};
}
inline int lane_id() { return static_cast<int>(block_state()->thread % 32); }
// Index of the warp in the block, from the linear thread index.
inline int warp_id() { return static_cast<int>(block_state()->thread / 32); }

// A stop with a reason that the emulator shows; traps on a GPU.
inline void device_trap(const char *reason PLUQ_AT) { emulator_fail(reason PLUQ_HERE); }

// Fails when the emulated device is older than the instruction asks for.
inline void require_sm(uint32_t sm, const char *what, const char *file, uint32_t line) {
  const pluq_emu_block *b = block_state();
  if (b->sm >= sm) return;
  char text[160];
  std::snprintf(text, sizeof text, "%s needs sm_%u, the emulated device is sm_%u", what, sm, b->sm);
  emulator_fail(text, file, line);
}

#else

PLUQ_DEVICE dim thread_idx() { return {threadIdx.x, threadIdx.y, threadIdx.z}; }
PLUQ_DEVICE dim block_idx() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
PLUQ_DEVICE dim block_dim() { return {blockDim.x, blockDim.y, blockDim.z}; }
PLUQ_DEVICE dim grid_dim() { return {gridDim.x, gridDim.y, gridDim.z}; }
PLUQ_DEVICE int linear_thread() {
  return static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
}
PLUQ_DEVICE int lane_id() { return linear_thread() % 32; }
PLUQ_DEVICE int warp_id() { return linear_thread() / 32; }
PLUQ_DEVICE void device_trap(const char *) { __trap(); }

#endif

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
