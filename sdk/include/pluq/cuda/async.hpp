// SPDX-License-Identifier: Apache-2.0
// cp.async: copies from global to shared memory in the background. Groups are counted per thread,
// and a finished copy is visible only to the thread that issued it until a barrier. Choose the
// address, not whether to copy, and commit unconditionally, so that the groups of all threads stay
// aligned.
#pragma once

#include "pluq/cuda/memory.hpp"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

#if PLUQ_CUDA_EMULATE

template <int bytes, class S, class G>
inline void cp_async_bytes(smem<S> dst, int64_t di, gmem<G> src, int64_t si, bool valid,
                           const char *file, uint32_t line) {
  pluq_emu_block *b = block_state();
  const uint32_t at = dst.check(di, bytes, bytes, "cp.async" PLUQ_HERE);
  const void *from =
      valid ? src.check(si, bytes, bytes, PLUQ_EMU_READ, "cp.async" PLUQ_HERE) : nullptr;
  b->api->async_copy(b, at, from, bytes, valid ? bytes : 0 PLUQ_HERE);
}
// 16 bytes to element di of dst from element si of src; zeros when not valid (nothing is read
// then).
template <class S, class G>
inline void cp_async16(smem<S> dst, int64_t di, gmem<G> src, int64_t si,
                       bool valid = true PLUQ_AT) {
  cp_async_bytes<16>(dst, di, src, si, valid PLUQ_HERE);
}
template <class S, class G>
inline void cp_async8(smem<S> dst, int64_t di, gmem<G> src, int64_t si, bool valid = true PLUQ_AT) {
  cp_async_bytes<8>(dst, di, src, si, valid PLUQ_HERE);
}
template <class S, class G>
inline void cp_async4(smem<S> dst, int64_t di, gmem<G> src, int64_t si, bool valid = true PLUQ_AT) {
  cp_async_bytes<4>(dst, di, src, si, valid PLUQ_HERE);
}
inline void cp_async_commit() {
  pluq_emu_block *b = block_state();
  b->api->async_commit(b);
}
// Waits until at most N of this thread's committed groups are in flight.
template <int N>
inline void cp_async_wait(PLUQ_AT0) {
  pluq_emu_block *b = block_state();
  b->api->async_wait(b, N, 0 PLUQ_HERE);
}
inline void cp_async_wait_all(PLUQ_AT0) {
  pluq_emu_block *b = block_state();
  b->api->async_wait(b, 0, 1 PLUQ_HERE);
}

#else

template <class S, class G>
PLUQ_DEVICE void cp_async16(smem<S> dst, int64_t di, gmem<G> src, int64_t si, bool valid = true) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst.address(di)),
               "l"(src.p + (valid ? si : 0)), "r"(bytes)
               : "memory");
}
template <class S, class G>
PLUQ_DEVICE void cp_async8(smem<S> dst, int64_t di, gmem<G> src, int64_t si, bool valid = true) {
  const int bytes = valid ? 8 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(dst.address(di)),
               "l"(src.p + (valid ? si : 0)), "r"(bytes)
               : "memory");
}
template <class S, class G>
PLUQ_DEVICE void cp_async4(smem<S> dst, int64_t di, gmem<G> src, int64_t si, bool valid = true) {
  const int bytes = valid ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(dst.address(di)),
               "l"(src.p + (valid ? si : 0)), "r"(bytes)
               : "memory");
}
PLUQ_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N>
PLUQ_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
PLUQ_DEVICE void cp_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

#endif

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
