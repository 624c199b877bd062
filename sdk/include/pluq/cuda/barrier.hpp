// SPDX-License-Identifier: Apache-2.0
// Barriers of a block and of a warp. In emulation a barrier is strict: threads that returned do not
// count.
#pragma once

#include "pluq/cuda/platform.hpp"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

#if PLUQ_CUDA_EMULATE
// __syncthreads
inline void sync_threads(PLUQ_AT0) {
  pluq_emu_block *b = block_state();
  b->api->barrier(b, 0, 0, 0 PLUQ_HERE);
}
// bar.sync id, count: id 1..15, count a multiple of 32.
inline void named_sync(int id, int count PLUQ_AT) {
  pluq_emu_block *b = block_state();
  b->api->barrier(b, static_cast<uint32_t>(id), static_cast<uint32_t>(count), 0 PLUQ_HERE);
}
// bar.arrive id, count: does not wait.
inline void named_arrive(int id, int count PLUQ_AT) {
  pluq_emu_block *b = block_state();
  b->api->barrier(b, static_cast<uint32_t>(id), static_cast<uint32_t>(count), 1 PLUQ_HERE);
}
// __syncwarp: orders memory among the lanes of the mask.
inline void sync_warp(uint32_t mask = kFullMask PLUQ_AT) {
  pluq_emu_block *b = block_state();
  b->api->sync_warp(b, mask PLUQ_HERE);
}
#else
PLUQ_DEVICE void sync_threads() { __syncthreads(); }
PLUQ_DEVICE void named_sync(int id, int count) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(count) : "memory");
}
PLUQ_DEVICE void named_arrive(int id, int count) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(count) : "memory");
}
PLUQ_DEVICE void sync_warp(uint32_t mask = kFullMask) { __syncwarp(mask); }
#endif

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
