// SPDX-License-Identifier: Apache-2.0
// sm_90a: mbarriers, bulk copies into shared memory, and wgmma (a warpgroup's product with B, and
// if wanted A, read from shared memory). PTX ISA 9.2: mbarrier 9.7.13.15, cp.async.bulk 9.7.9.25,
// wgmma 9.7.15. Compiled for an older SM they trap. In emulation a wgmma is performed when it is
// issued; with the detectors on, its accumulators hold NaN until a wgmma_wait covers it.
#pragma once

#include "pluq/cuda/memory.hpp"
#include "pluq/cuda/mma.hpp"

#if !PLUQ_CUDA_EMULATE
#include "pluq/cuda/wgmma_ptx.hpp"
#endif

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

// How rows of 8- or 16-bit elements lie in shared memory for wgmma, K contiguous:
// kNone: blocks of 8 rows x 16 bytes (128 contiguous bytes); `leading_bytes` between blocks
// neighbouring in K,
//   `stride_bytes` between blocks of 8 rows.
// k128B: 8 rows x 128 bytes (1024 bytes, 1024-byte aligned), 16-byte chunk c of row r at chunk c ^
// r;
//   `stride_bytes` between groups of 8 rows (1024 when they follow each other); leading_bytes is
//   not used.
enum class Swizzle { kNone, k128B };

// Byte offset of chunk `chunk` (16 bytes) of row `row` in a k128B tile whose rows have 128 bytes.
PLUQ_HOST_DEVICE uint32_t swizzled_128b(uint32_t row, uint32_t chunk) {
  return row * 128 + ((chunk ^ (row & 7)) & 7) * 16;
}

// PTX ISA 9.7.15.5.1.2.2, matrix descriptor: start address in shared memory, leading and stride
// offsets in units of 16 bytes at bits 0, 16 and 32; swizzling at bits 62 and 63 (1: 128 bytes).
PLUQ_HOST_DEVICE uint64_t matrix_desc_bits(uint32_t start, Swizzle swizzle, uint32_t leading_bytes,
                                           uint32_t stride_bytes) {
  const auto part = [](uint32_t bytes) { return static_cast<uint64_t>((bytes & 0x3ffffU) >> 4); };
  const uint64_t leading = swizzle == Swizzle::kNone ? part(leading_bytes) : 1;
  return part(start) | leading << 16 | part(stride_bytes) << 32 |
         static_cast<uint64_t>(swizzle == Swizzle::k128B ? 1 : 0) << 62;
}

#if PLUQ_CUDA_EMULATE

// ---- mbarrier: element i of an smem<uint64_t>

// `count` arrivals end a phase; one thread initialises, then fence_mbar_init and a barrier of the
// block.
inline void mbar_init(smem<uint64_t> bars, int64_t i, uint32_t count PLUQ_AT) {
  pluq_emu_block *b = block_state();
  require_sm(90, "mbarrier.init" PLUQ_HERE);
  b->api->mbar_init(b, bars.check(i, 8, 8, "mbarrier" PLUQ_HERE), count PLUQ_HERE);
}
inline void mbar_arrive(smem<uint64_t> bars, int64_t i PLUQ_AT) {
  pluq_emu_block *b = block_state();
  b->api->mbar_arrive(b, bars.check(i, 8, 8, "mbarrier" PLUQ_HERE), 0 PLUQ_HERE);
}
// Arrives and makes the phase wait for tx_bytes of bulk copies too.
inline void mbar_arrive_expect(smem<uint64_t> bars, int64_t i, uint32_t tx_bytes PLUQ_AT) {
  pluq_emu_block *b = block_state();
  b->api->mbar_arrive(b, bars.check(i, 8, 8, "mbarrier" PLUQ_HERE), tx_bytes PLUQ_HERE);
}
// Waits until the phase of this parity (0 for the first) is over.
inline void mbar_wait(smem<uint64_t> bars, int64_t i, uint32_t parity PLUQ_AT) {
  pluq_emu_block *b = block_state();
  b->api->mbar_wait(b, bars.check(i, 8, 8, "mbarrier" PLUQ_HERE), parity PLUQ_HERE);
}
inline void proxy_fence(uint32_t kind) {
  pluq_emu_block *b = block_state();
  if ((b->checks & PLUQ_EMU_CHECK_PROXY) != 0) b->api->proxy_fence(b, kind);
}
// Between the initialisation of mbarriers and their use by bulk copies.
inline void fence_mbar_init() { proxy_fence(PLUQ_EMU_FENCE_MBAR_INIT); }
// Between ordinary writes to shared memory (cp.async too) and their use by wgmma or a bulk copy: by
// the threads that wrote, before the barrier.
inline void fence_async_proxy() { proxy_fence(PLUQ_EMU_FENCE_ASYNC_PROXY); }

// `bytes` (a multiple of 16) to element di of dst, counted by mbarrier bi. One thread issues it.
template <class S, class G>
inline void bulk_copy(smem<S> dst, int64_t di, gmem<G> src, int64_t si, uint32_t bytes,
                      smem<uint64_t> bars, int64_t bi PLUQ_AT) {
  pluq_emu_block *b = block_state();
  require_sm(90, "cp.async.bulk" PLUQ_HERE);
  if (bytes % 16 != 0)
    emulator_fail("cp.async.bulk: the size is not a multiple of 16 bytes" PLUQ_HERE);
  const uint32_t at = dst.check(di, bytes, 16, "cp.async.bulk" PLUQ_HERE);
  const void *from = src.check(si, bytes, 16, PLUQ_EMU_READ, "cp.async.bulk" PLUQ_HERE);
  b->api->bulk_copy(b, at, from, bytes, bars.check(bi, 8, 8, "mbarrier" PLUQ_HERE) PLUQ_HERE);
}

// ---- wgmma

struct MatrixDesc {
  uint32_t start, leading_bytes, stride_bytes;
  Swizzle swizzle;
};
template <class T>
inline MatrixDesc matrix_desc(smem<T> s, int64_t i, Swizzle swizzle, uint32_t leading_bytes,
                              uint32_t stride_bytes PLUQ_AT) {
  const uint32_t at = s.check(i, 16, 16, "matrix descriptor" PLUQ_HERE);
  if (leading_bytes % 16 != 0 || stride_bytes % 16 != 0)
    emulator_fail("matrix descriptor: its strides are no multiples of 16 bytes" PLUQ_HERE);
  return {at, leading_bytes, stride_bytes, swizzle};
}
// The same matrix from `bytes` (a multiple of 16) later on: the next K of a k128B tile is 32 bytes
// later.
inline MatrixDesc advance(MatrixDesc d, uint32_t bytes) {
  d.start += bytes;
  return d;
}

// Offset of 16-byte chunk `chunk` of row `row`.
inline uint32_t desc_chunk(const MatrixDesc &d, uint32_t row, uint32_t chunk) {
  const uint32_t group = d.start + row / 8 * d.stride_bytes;
  if (d.swizzle == Swizzle::kNone) return group + chunk * d.leading_bytes + row % 8 * 16;
  const uint32_t linear = group + row % 8 * 128 + chunk * 16;
  return linear ^ (linear >> 7 & 7) << 4;
}

struct wgmma_operand {
  void *d;
  const uint32_t *a;  // registers, or null
  MatrixDesc a_desc, b_desc;
  bool accumulate;
  const char *file;
  uint32_t line;
};

// Reads a row's 32 bytes of K, checked for all four warps.
inline void read_row(pluq_emu_block *b, uint32_t first, const wgmma_operand &o, const MatrixDesc &m,
                     uint32_t row, uint8_t *out) {
  for (uint32_t chunk = 0; chunk < 2; ++chunk) {
    const uint32_t at = desc_chunk(m, row, chunk);
    if (at + 16 > b->shared_bytes)
      emulator_fail("wgmma: a matrix descriptor leads out of shared memory", o.file, o.line);
    if ((b->checks & PLUQ_EMU_CHECK_SHARED) != 0)
      for (uint32_t warp = 0; warp < 4; ++warp)
        b->api->shared_access(b, first + 32 * warp, at, 16, PLUQ_EMU_READ | PLUQ_EMU_ASYNC_PROXY,
                              o.file, o.line);
    if ((b->checks & PLUQ_EMU_CHECK_WGMMA) != 0) b->api->wgmma_reads(b, first, at, o.file, o.line);
    std::memcpy(out + 16 * chunk, b->shared + at, 16);
  }
}

// Element k of 32 bytes of K.
inline float row_f16(const uint8_t *row, int k) {
  return f16_to_f32(static_cast<uint16_t>(row[2 * k] | row[2 * k + 1] << 8));
}
inline float row_bf16(const uint8_t *row, int k) {
  return bf16_to_f32(static_cast<uint16_t>(row[2 * k] | row[2 * k + 1] << 8));
}
inline float row_e4m3(const uint8_t *row, int k) { return f16_to_f32(e4m3_to_f16_bits(row[k])); }
inline int32_t row_s8(const uint8_t *row, int k) { return static_cast<int8_t>(row[k]); }

template <int N, int K, class Sum, Sum (*element)(const uint8_t *, int)>
inline void run_wgmma(pluq_emu_block *block, uint32_t first, void *const *operands, void *) {
  constexpr int kBytes = 32 / K;  // of an element
  const auto &o = *static_cast<const wgmma_operand *>(operands[0]);
  for (uint32_t t = 1; t < 128; ++t) {
    const auto &other = *static_cast<const wgmma_operand *>(operands[t]);
    if (other.b_desc.start != o.b_desc.start || other.a_desc.start != o.a_desc.start ||
        other.accumulate != o.accumulate)
      emulator_fail(
          "wgmma: the threads of the warpgroup give different matrix descriptors or scale-d",
          o.file, o.line);
  }
  Sum b[K][N], a[64][K];
  uint8_t row[32];
  for (uint32_t n = 0; n < N; ++n) {
    read_row(block, first, o, o.b_desc, n, row);
    for (int k = 0; k < K; ++k) b[k][n] = element(row, k);
  }
  for (uint32_t m = 0; m < 64; ++m) {
    if (o.a == nullptr) {
      read_row(block, first, o, o.a_desc, m, row);
    } else {  // as the A of mma.m16n8k16 and m16n8k32, 16 rows a warp
      for (uint32_t byte = 0; byte < 32; ++byte) {
        const uint32_t lane = m % 8 * 4 + byte % 16 / 4, reg = (m % 16 / 8) + byte / 16 * 2;
        const auto *owner = static_cast<const wgmma_operand *>(operands[m / 16 * 32 + lane]);
        row[byte] = static_cast<uint8_t>(owner->a[reg] >> 8 * (byte % 4));
      }
    }
    for (int k = 0; k < K; ++k) a[m][k] = element(row, k);
  }
  static_assert(kBytes == 1 || kBytes == 2, "8- and 16-bit elements");
  for (uint32_t t = 0; t < 128; ++t) {
    const auto &mine = *static_cast<const wgmma_operand *>(operands[t]);
    auto *d = static_cast<Sum *>(mine.d);
    if ((block->checks & PLUQ_EMU_CHECK_WGMMA) != 0)
      d = reinterpret_cast<Sum *>(block->api->wgmma_accumulators(
          block, first + t, static_cast<uint32_t *>(mine.d), N / 2, mine.a, o.file, o.line));
    const uint32_t g = t % 32 / 4, q = t % 4;
    for (uint32_t i = 0; i < N / 2; ++i) {
      const uint32_t m = t / 32 * 16 + g + ((i & 2) != 0 ? 8 : 0), n = i / 4 * 8 + 2 * q + (i & 1);
      Sum sum = mine.accumulate ? d[i] : Sum{0};
      for (int k = 0; k < K; ++k) sum += a[m][k] * b[k][n];
      d[i] = sum;
    }
  }
}

inline void warpgroup_mma(const char *what, const wgmma_operand &o, pluq_emu_run run) {
  pluq_emu_block *s = block_state();
  require_sm(90, what, o.file, o.line);
  s->api->collective(s, what, 128, kFullMask, const_cast<wgmma_operand *>(&o), run, nullptr, o.file,
                     o.line);
}

// d[N / 2] (+)= A[64, K] * B[K, N] of a warpgroup; K is 16 for 16-bit and 32 for 8-bit elements, N
// one of 8, 16, 32, 64, 128, 256; B lies as N rows of K. Issue: wgmma_fence, then any number, then
// wgmma_commit; the accumulators may be read after wgmma_wait. `_rs` takes A from registers (16
// rows per warp, as A of mma_m16n8k16 / m16n8k32).
#define PLUQ_WGMMA_TWIN(name, K, Sum, element)                                                   \
  template <int N>                                                                               \
  inline void wgmma_##name(Sum *d, MatrixDesc a, MatrixDesc b, bool accumulate = true PLUQ_AT) { \
    warpgroup_mma("wgmma." #name, {d, nullptr, a, b, accumulate, file, line},                    \
                  &run_wgmma<N, K, Sum, &element>);                                              \
  }                                                                                              \
  template <int N>                                                                               \
  inline void wgmma_##name##_rs(Sum *d, const uint32_t *a, MatrixDesc b,                         \
                                bool accumulate = true PLUQ_AT) {                                \
    warpgroup_mma("wgmma." #name ".rs", {d, a, b, b, accumulate, file, line},                    \
                  &run_wgmma<N, K, Sum, &element>);                                              \
  }
PLUQ_WGMMA_TWIN(f16, 16, float, row_f16)
PLUQ_WGMMA_TWIN(bf16, 16, float, row_bf16)
PLUQ_WGMMA_TWIN(e4m3, 32, float, row_e4m3)
PLUQ_WGMMA_TWIN(s8, 32, int32_t, row_s8)
#undef PLUQ_WGMMA_TWIN

inline void wgmma_order(uint32_t op, uint32_t pending, const char *file, uint32_t line) {
  pluq_emu_block *b = block_state();
  if ((b->checks & PLUQ_EMU_CHECK_WGMMA) != 0) b->api->wgmma_order(b, op, pending PLUQ_HERE);
}
// Between other accesses to the accumulators, and to A in registers, and a wgmma that uses them.
inline void wgmma_fence(PLUQ_AT0) { wgmma_order(PLUQ_EMU_WGMMA_FENCE, 0 PLUQ_HERE); }
inline void wgmma_commit(PLUQ_AT0) { wgmma_order(PLUQ_EMU_WGMMA_COMMIT, 0 PLUQ_HERE); }
// Waits until at most `pending` committed groups are in flight.
template <int pending>
inline void wgmma_wait(PLUQ_AT0) {
  wgmma_order(PLUQ_EMU_WGMMA_WAIT, pending PLUQ_HERE);
}
// Keeps the compiler from moving accesses to the accumulators over wgmma_fence and wgmma_wait.
template <int count, class T>
inline void wgmma_fence_registers(T *) {}
// setmaxnreg: gives registers back to or takes them from the block's pool, a warpgroup at a time.
template <int registers>
inline void set_max_registers_down() {}
template <int registers>
inline void set_max_registers_up() {}

#else

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define PLUQ_SM90(...) __VA_ARGS__
#else
#define PLUQ_SM90(...) __trap()
#endif
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PLUQ_SM90A(...) __VA_ARGS__
#else
#define PLUQ_SM90A(...) __trap()
#endif

PLUQ_DEVICE void mbar_init(smem<uint64_t> bars, int64_t i, uint32_t count) {
  PLUQ_SM90(
      asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bars.address(i)), "r"(count)
                   : "memory"));
}
PLUQ_DEVICE void mbar_arrive(smem<uint64_t> bars, int64_t i) {
  PLUQ_SM90(asm volatile(
      "{\n.reg .b64 s;\nmbarrier.arrive.shared::cta.b64 s, [%0];\n}" ::"r"(bars.address(i))
      : "memory"));
}
PLUQ_DEVICE void mbar_arrive_expect(smem<uint64_t> bars, int64_t i, uint32_t tx_bytes) {
  PLUQ_SM90(asm volatile(
      "{\n.reg .b64 s;\nmbarrier.arrive.expect_tx.shared::cta.b64 s, [%0], %1;\n}" ::"r"(
          bars.address(i)),
      "r"(tx_bytes)
      : "memory"));
}
PLUQ_DEVICE void mbar_wait(smem<uint64_t> bars, int64_t i, uint32_t parity) {
  uint32_t over = 0;
  const uint32_t address = bars.address(i);
  while (over == 0) {
    PLUQ_SM90(
        asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(over)
                     : "r"(address), "r"(parity)
                     : "memory"));
  }
}
PLUQ_DEVICE void fence_mbar_init() {
  PLUQ_SM90(asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"));
}
PLUQ_DEVICE void fence_async_proxy() {
  PLUQ_SM90(asm volatile("fence.proxy.async.shared::cta;" ::: "memory"));
}

template <class S, class G>
PLUQ_DEVICE void bulk_copy(smem<S> dst, int64_t di, gmem<G> src, int64_t si, uint32_t bytes,
                           smem<uint64_t> bars, int64_t bi) {
  PLUQ_SM90(asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(dst.address(di)),
      "l"(src.p + si), "r"(bytes), "r"(bars.address(bi))
      : "memory"));
}

struct MatrixDesc {
  uint64_t bits;
};
template <class T>
PLUQ_DEVICE MatrixDesc matrix_desc(smem<T> s, int64_t i, Swizzle swizzle, uint32_t leading_bytes,
                                   uint32_t stride_bytes) {
  return {matrix_desc_bits(s.address(i), swizzle, leading_bytes, stride_bytes)};
}
PLUQ_DEVICE MatrixDesc advance(MatrixDesc d, uint32_t bytes) { return {d.bits + (bytes >> 4)}; }

#define PLUQ_WGMMA_CALL(name, type, Sum)                                                      \
  template <int N>                                                                            \
  PLUQ_DEVICE void wgmma_##name(Sum *d, MatrixDesc a, MatrixDesc b, bool accumulate = true) { \
    (void)d, (void)a, (void)b, (void)accumulate;                                              \
    PLUQ_SM90A((ptx::Wgmma<N, ptx::Type::type>::ss(d, a.bits, b.bits, accumulate ? 1 : 0)));  \
  }                                                                                           \
  template <int N>                                                                            \
  PLUQ_DEVICE void wgmma_##name##_rs(Sum *d, const uint32_t *a, MatrixDesc b,                 \
                                     bool accumulate = true) {                                \
    (void)d, (void)a, (void)b, (void)accumulate;                                              \
    PLUQ_SM90A((ptx::Wgmma<N, ptx::Type::type>::rs(d, a, b.bits, accumulate ? 1 : 0)));       \
  }
PLUQ_WGMMA_CALL(f16, kF16, float)
PLUQ_WGMMA_CALL(bf16, kBf16, float)
PLUQ_WGMMA_CALL(e4m3, kE4m3, float)
PLUQ_WGMMA_CALL(s8, kS8, int32_t)
#undef PLUQ_WGMMA_CALL

PLUQ_DEVICE void wgmma_fence() {
  PLUQ_SM90A(asm volatile("wgmma.fence.sync.aligned;" ::: "memory"));
}
PLUQ_DEVICE void wgmma_commit() {
  PLUQ_SM90A(asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"));
}
template <int pending>
PLUQ_DEVICE void wgmma_wait() {
  PLUQ_SM90A(asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory"));
}
template <int count, class T>
PLUQ_DEVICE void wgmma_fence_registers(T *d) {
  PLUQ_UNROLL
  for (int i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<T, float>) {
      asm volatile("" : "+f"(d[i])::"memory");
    } else {
      asm volatile("" : "+r"(d[i])::"memory");
    }
  }
}
template <int registers>
PLUQ_DEVICE void set_max_registers_down() {
  PLUQ_SM90A(asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers)));
}
template <int registers>
PLUQ_DEVICE void set_max_registers_up() {
  PLUQ_SM90A(asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers)));
}

#undef PLUQ_SM90
#undef PLUQ_SM90A

#endif

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
