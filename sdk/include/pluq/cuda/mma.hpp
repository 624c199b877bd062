// SPDX-License-Identifier: Apache-2.0
// ldmatrix and the warp-wide matrix products d = a * b + c (c is overwritten). Register layouts
// with g = lane / 4 and t = lane % 4, from the PTX ISA, "Matrix Fragments for mma.m16n8k16" and
// ".m16n8k32":
//   m16n8k16 (16-bit)  A a0..a7: row g (i in 0,1,4,5) or g + 8, column 2t + (i & 1) + (i >= 4 ? 8 :
//   0)
//                      B b0..b3: k = 2t + (i & 1) + (i >= 2 ? 8 : 0), n = g
//   m16n8k32 (8-bit)   A a0..a15: row g (i < 4, 8 <= i < 12) or g + 8, column 4t + (i & 3) + (i >=
//   8 ? 16 : 0)
//                      B b0..b7: k = 4t + (i & 3) + (i >= 4 ? 16 : 0), n = g
//   C of both          c0..c3: row g (i < 2) or g + 8, column 2t + (i & 1)
// In emulation products are summed in f32 in ascending k; a GPU's order and internal width differ.
#pragma once

#include "pluq/cuda/convert.hpp"
#include "pluq/cuda/memory.hpp"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

#if PLUQ_CUDA_EMULATE

struct ldmatrix_operand {
  uint32_t *r;
  uint32_t offset;  // of the row that this lane addresses
};

template <int count, bool trans>
inline void run_ldmatrix(pluq_emu_block *b, uint32_t, void *const *operands, void *) {
  for (int lane = 0; lane < 32; ++lane) {
    const auto *o = static_cast<const ldmatrix_operand *>(operands[lane]);
    for (int m = 0; m < count; ++m) {
      uint16_t half[2];
      for (int i = 0; i < 2; ++i) {
        const int row = trans ? 2 * (lane % 4) + i : lane / 4;
        const int column = trans ? lane / 4 : 2 * (lane % 4) + i;
        const auto *source = static_cast<const ldmatrix_operand *>(operands[8 * m + row]);
        std::memcpy(&half[i], b->shared + source->offset + 2 * column, 2);
      }
      o->r[m] = half[0] | static_cast<uint32_t>(half[1]) << 16;
    }
  }
}

template <int count, bool trans, class T>
inline void ldmatrix(uint32_t *r, smem<T> s, int64_t i, const char *file, uint32_t line) {
  static constexpr const char *kNames[] = {"ldmatrix.x1", "ldmatrix.x2", "ldmatrix.x4"};
  pluq_emu_block *b = block_state();
  ldmatrix_operand o{r, 0};
  if (lane_id() < 8 * count) {  // the other lanes' addresses are ignored
    o.offset = s.check(i, 16, 16, "ldmatrix" PLUQ_HERE);
    if ((b->checks & PLUQ_EMU_CHECK_SHARED) != 0)
      b->api->shared_access(b, b->thread, o.offset, 16, PLUQ_EMU_READ, file, line);
  }
  b->api->collective(b, kNames[count / 2], 32, kFullMask, &o, &run_ldmatrix<count, trans>, nullptr,
                     file, line);
}

// Lanes 0-7, 8-15, 16-23, 24-31 give the row addresses (element i of s, 16 aligned bytes) of
// matrices 0..3.
template <class T>
inline void ldmatrix_x4(uint32_t *r, smem<T> s, int64_t i PLUQ_AT) {
  ldmatrix<4, false>(r, s, i PLUQ_HERE);
}
template <class T>
inline void ldmatrix_x4_trans(uint32_t *r, smem<T> s, int64_t i PLUQ_AT) {
  ldmatrix<4, true>(r, s, i PLUQ_HERE);
}
template <class T>
inline void ldmatrix_x2(uint32_t *r, smem<T> s, int64_t i PLUQ_AT) {
  ldmatrix<2, false>(r, s, i PLUQ_HERE);
}
template <class T>
inline void ldmatrix_x2_trans(uint32_t *r, smem<T> s, int64_t i PLUQ_AT) {
  ldmatrix<2, true>(r, s, i PLUQ_HERE);
}

struct mma_operand {
  void *c;
  const uint32_t *a, *b;
};

inline float element_f16(uint32_t word, int half) {
  return f16_to_f32(static_cast<uint16_t>(word >> 16 * half));
}
inline float element_bf16(uint32_t word, int half) {
  return bf16_to_f32(static_cast<uint16_t>(word >> 16 * half));
}

// Gathers the fragments of all lanes into matrices, multiplies, and gives the sums back.
template <float (*element)(uint32_t, int)>
inline void run_mma_k16(pluq_emu_block *, uint32_t, void *const *operands, void *) {
  float a[16][16], b[16][8], c[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto *o = static_cast<const mma_operand *>(operands[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 8; ++i)
      a[(i & 2) != 0 ? g + 8 : g][2 * t + (i & 1) + (i >= 4 ? 8 : 0)] = element(o->a[i / 2], i & 1);
    for (int i = 0; i < 4; ++i)
      b[2 * t + (i & 1) + (i >= 2 ? 8 : 0)][g] = element(o->b[i / 2], i & 1);
    for (int i = 0; i < 4; ++i)
      c[i < 2 ? g : g + 8][2 * t + (i & 1)] = static_cast<const float *>(o->c)[i];
  }
  for (int m = 0; m < 16; ++m) {
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 8; ++n) c[m][n] += a[m][k] * b[k][n];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto *o = static_cast<const mma_operand *>(operands[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i)
      static_cast<float *>(o->c)[i] = c[i < 2 ? g : g + 8][2 * t + (i & 1)];
  }
}

inline int32_t element_s8(uint32_t word, int byte) {
  return static_cast<int8_t>(static_cast<uint8_t>(word >> 8 * byte));
}
inline float element_e4m3(uint32_t word, int byte) {
  return f16_to_f32(e4m3_to_f16_bits(static_cast<uint8_t>(word >> 8 * byte)));
}

template <class Sum, Sum (*element)(uint32_t, int)>
inline void run_mma_k32(pluq_emu_block *, uint32_t, void *const *operands, void *) {
  Sum a[16][32], b[32][8], c[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto *o = static_cast<const mma_operand *>(operands[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 16; ++i)
      a[(i & 4) != 0 ? g + 8 : g][4 * t + (i & 3) + (i >= 8 ? 16 : 0)] =
          element(o->a[i / 4], i & 3);
    for (int i = 0; i < 8; ++i)
      b[4 * t + (i & 3) + (i >= 4 ? 16 : 0)][g] = element(o->b[i / 4], i & 3);
    for (int i = 0; i < 4; ++i)
      c[i < 2 ? g : g + 8][2 * t + (i & 1)] = static_cast<const Sum *>(o->c)[i];
  }
  for (int m = 0; m < 16; ++m) {
    for (int n = 0; n < 8; ++n) {
      if constexpr (sizeof(Sum) == 4 && Sum(0.5) == Sum(0)) {  // s32 wraps
        uint32_t sum = static_cast<uint32_t>(c[m][n]);
        for (int k = 0; k < 32; ++k) sum += static_cast<uint32_t>(a[m][k] * b[k][n]);
        c[m][n] = static_cast<Sum>(sum);
      } else {
        for (int k = 0; k < 32; ++k) c[m][n] += a[m][k] * b[k][n];
      }
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto *o = static_cast<const mma_operand *>(operands[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) static_cast<Sum *>(o->c)[i] = c[i < 2 ? g : g + 8][2 * t + (i & 1)];
  }
}

inline void warp_mma(const char *what, void *c, const uint32_t *a, const uint32_t *b,
                     pluq_emu_run run, const char *file, uint32_t line) {
  mma_operand o{c, a, b};
  pluq_emu_block *s = block_state();
  s->api->collective(s, what, 32, kFullMask, &o, run, nullptr, file, line);
}
inline void mma_m16n8k16_f16(float *c, const uint32_t *a, const uint32_t *b PLUQ_AT) {
  warp_mma("mma.m16n8k16.f16", c, a, b, &run_mma_k16<&element_f16> PLUQ_HERE);
}
inline void mma_m16n8k16_bf16(float *c, const uint32_t *a, const uint32_t *b PLUQ_AT) {
  warp_mma("mma.m16n8k16.bf16", c, a, b, &run_mma_k16<&element_bf16> PLUQ_HERE);
}
inline void mma_m16n8k32_s8(int32_t *c, const uint32_t *a, const uint32_t *b PLUQ_AT) {
  warp_mma("mma.m16n8k32.s8", c, a, b, &run_mma_k32<int32_t, &element_s8> PLUQ_HERE);
}
// sm_89 and newer.
inline void mma_m16n8k32_e4m3(float *c, const uint32_t *a, const uint32_t *b PLUQ_AT) {
  require_sm(89, "mma.m16n8k32.e4m3" PLUQ_HERE);
  warp_mma("mma.m16n8k32.e4m3", c, a, b, &run_mma_k32<float, &element_e4m3> PLUQ_HERE);
}

#else

template <class T>
PLUQ_DEVICE void ldmatrix_x4(uint32_t *r, smem<T> s, int64_t i) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(s.address(i))
               : "memory");
}
template <class T>
PLUQ_DEVICE void ldmatrix_x4_trans(uint32_t *r, smem<T> s, int64_t i) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(s.address(i))
               : "memory");
}
template <class T>
PLUQ_DEVICE void ldmatrix_x2(uint32_t *r, smem<T> s, int64_t i) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(s.address(i))
               : "memory");
}
template <class T>
PLUQ_DEVICE void ldmatrix_x2_trans(uint32_t *r, smem<T> s, int64_t i) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(s.address(i))
               : "memory");
}
PLUQ_DEVICE void mma_m16n8k16_f16(float *c, const uint32_t *a, const uint32_t *b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
PLUQ_DEVICE void mma_m16n8k16_bf16(float *c, const uint32_t *a, const uint32_t *b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
PLUQ_DEVICE void mma_m16n8k32_s8(int32_t *c, const uint32_t *a, const uint32_t *b) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// sm_89 and newer; traps on older ones.
PLUQ_DEVICE void mma_m16n8k32_e4m3(float *c, const uint32_t *a, const uint32_t *b) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  (void)c, (void)a, (void)b;
  __trap();
#endif
}

#endif

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
