// SPDX-License-Identifier: Apache-2.0
// The PTX of wgmma.mma_async for the shapes that hopper.hpp offers: its operands are numbered text, so
// there is one macro per count of accumulators (4 to 128). Included by hopper.hpp, under nvcc only.
#pragma once

// clang-format off
#define PLUQ_WGMMA_R4 "%0,%1,%2,%3"
#define PLUQ_WGMMA_R8 PLUQ_WGMMA_R4 ",%4,%5,%6,%7"
#define PLUQ_WGMMA_R16 PLUQ_WGMMA_R8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define PLUQ_WGMMA_R32 PLUQ_WGMMA_R16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define PLUQ_WGMMA_R64 PLUQ_WGMMA_R32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47" \
  ",%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define PLUQ_WGMMA_R128 PLUQ_WGMMA_R64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79" \
  ",%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95" \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111" \
  ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define PLUQ_WGMMA_F(i) "+f"(d[i])
#define PLUQ_WGMMA_S(i) "+r"(d[i])
#define PLUQ_WGMMA_4(o, i) o(i), o((i) + 1), o((i) + 2), o((i) + 3)
#define PLUQ_WGMMA_8(o, i) PLUQ_WGMMA_4(o, i), PLUQ_WGMMA_4(o, (i) + 4)
#define PLUQ_WGMMA_16(o, i) PLUQ_WGMMA_8(o, i), PLUQ_WGMMA_8(o, (i) + 8)
#define PLUQ_WGMMA_32(o, i) PLUQ_WGMMA_16(o, i), PLUQ_WGMMA_16(o, (i) + 16)
#define PLUQ_WGMMA_64(o, i) PLUQ_WGMMA_32(o, i), PLUQ_WGMMA_32(o, (i) + 32)
#define PLUQ_WGMMA_128(o, i) PLUQ_WGMMA_64(o, i), PLUQ_WGMMA_64(o, (i) + 64)

// ss: A and B are descriptors. rs: A is in registers a[0..3]. tail: the immediates after scale-d.
#define PLUQ_WGMMA_SS(shape, regs, count, o, da, db, on, tail)                             \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" on ", 0;\n"                            \
               "wgmma.mma_async.sync.aligned." shape " {" regs "}, %" da ", %" db ", p" tail ";\n}" \
               : PLUQ_WGMMA_##count(o, 0)                                                   \
               : "l"(a), "l"(b), "r"(accumulate))
#define PLUQ_WGMMA_RS(shape, regs, count, o, a0, a1, a2, a3, db, on, tail)                 \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" on ", 0;\n"                            \
               "wgmma.mma_async.sync.aligned." shape " {" regs "}, {%" a0 ",%" a1 ",%" a2 ",%" a3 "}, %" db \
               ", p" tail ";\n}"                                                            \
               : PLUQ_WGMMA_##count(o, 0)                                                   \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate))

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {
namespace ptx {

// The four operand types; D is f32, for s8 it is s32.
enum class Type { kF16, kBf16, kE4m3, kS8 };

template <int N, Type type>
struct Wgmma;

template <>
struct Wgmma<8, Type::kF16> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n8k16.f32.f16.f16", PLUQ_WGMMA_R4, 4, PLUQ_WGMMA_F, "4", "5", "6", ", 1, 1, 0, 0");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n8k16.f32.f16.f16", PLUQ_WGMMA_R4, 4, PLUQ_WGMMA_F, "4", "5", "6", "7", "8", "9", ", 1, 1, 0");
  }
};
template <>
struct Wgmma<8, Type::kBf16> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n8k16.f32.bf16.bf16", PLUQ_WGMMA_R4, 4, PLUQ_WGMMA_F, "4", "5", "6", ", 1, 1, 0, 0");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n8k16.f32.bf16.bf16", PLUQ_WGMMA_R4, 4, PLUQ_WGMMA_F, "4", "5", "6", "7", "8", "9", ", 1, 1, 0");
  }
};
template <>
struct Wgmma<8, Type::kE4m3> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n8k32.f32.e4m3.e4m3", PLUQ_WGMMA_R4, 4, PLUQ_WGMMA_F, "4", "5", "6", ", 1, 1");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n8k32.f32.e4m3.e4m3", PLUQ_WGMMA_R4, 4, PLUQ_WGMMA_F, "4", "5", "6", "7", "8", "9", ", 1, 1");
  }
};
template <>
struct Wgmma<8, Type::kS8> {
  static __device__ __forceinline__ void ss(int32_t *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n8k32.s32.s8.s8", PLUQ_WGMMA_R4, 4, PLUQ_WGMMA_S, "4", "5", "6", "");
  }
  static __device__ __forceinline__ void rs(int32_t *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n8k32.s32.s8.s8", PLUQ_WGMMA_R4, 4, PLUQ_WGMMA_S, "4", "5", "6", "7", "8", "9", "");
  }
};
template <>
struct Wgmma<16, Type::kF16> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n16k16.f32.f16.f16", PLUQ_WGMMA_R8, 8, PLUQ_WGMMA_F, "8", "9", "10", ", 1, 1, 0, 0");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n16k16.f32.f16.f16", PLUQ_WGMMA_R8, 8, PLUQ_WGMMA_F, "8", "9", "10", "11", "12", "13", ", 1, 1, 0");
  }
};
template <>
struct Wgmma<16, Type::kBf16> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n16k16.f32.bf16.bf16", PLUQ_WGMMA_R8, 8, PLUQ_WGMMA_F, "8", "9", "10", ", 1, 1, 0, 0");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n16k16.f32.bf16.bf16", PLUQ_WGMMA_R8, 8, PLUQ_WGMMA_F, "8", "9", "10", "11", "12", "13", ", 1, 1, 0");
  }
};
template <>
struct Wgmma<16, Type::kE4m3> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n16k32.f32.e4m3.e4m3", PLUQ_WGMMA_R8, 8, PLUQ_WGMMA_F, "8", "9", "10", ", 1, 1");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n16k32.f32.e4m3.e4m3", PLUQ_WGMMA_R8, 8, PLUQ_WGMMA_F, "8", "9", "10", "11", "12", "13", ", 1, 1");
  }
};
template <>
struct Wgmma<16, Type::kS8> {
  static __device__ __forceinline__ void ss(int32_t *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n16k32.s32.s8.s8", PLUQ_WGMMA_R8, 8, PLUQ_WGMMA_S, "8", "9", "10", "");
  }
  static __device__ __forceinline__ void rs(int32_t *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n16k32.s32.s8.s8", PLUQ_WGMMA_R8, 8, PLUQ_WGMMA_S, "8", "9", "10", "11", "12", "13", "");
  }
};
template <>
struct Wgmma<32, Type::kF16> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n32k16.f32.f16.f16", PLUQ_WGMMA_R16, 16, PLUQ_WGMMA_F, "16", "17", "18", ", 1, 1, 0, 0");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n32k16.f32.f16.f16", PLUQ_WGMMA_R16, 16, PLUQ_WGMMA_F, "16", "17", "18", "19", "20", "21", ", 1, 1, 0");
  }
};
template <>
struct Wgmma<32, Type::kBf16> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n32k16.f32.bf16.bf16", PLUQ_WGMMA_R16, 16, PLUQ_WGMMA_F, "16", "17", "18", ", 1, 1, 0, 0");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n32k16.f32.bf16.bf16", PLUQ_WGMMA_R16, 16, PLUQ_WGMMA_F, "16", "17", "18", "19", "20", "21", ", 1, 1, 0");
  }
};
template <>
struct Wgmma<32, Type::kE4m3> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n32k32.f32.e4m3.e4m3", PLUQ_WGMMA_R16, 16, PLUQ_WGMMA_F, "16", "17", "18", ", 1, 1");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n32k32.f32.e4m3.e4m3", PLUQ_WGMMA_R16, 16, PLUQ_WGMMA_F, "16", "17", "18", "19", "20", "21", ", 1, 1");
  }
};
template <>
struct Wgmma<32, Type::kS8> {
  static __device__ __forceinline__ void ss(int32_t *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n32k32.s32.s8.s8", PLUQ_WGMMA_R16, 16, PLUQ_WGMMA_S, "16", "17", "18", "");
  }
  static __device__ __forceinline__ void rs(int32_t *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n32k32.s32.s8.s8", PLUQ_WGMMA_R16, 16, PLUQ_WGMMA_S, "16", "17", "18", "19", "20", "21", "");
  }
};
template <>
struct Wgmma<64, Type::kF16> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n64k16.f32.f16.f16", PLUQ_WGMMA_R32, 32, PLUQ_WGMMA_F, "32", "33", "34", ", 1, 1, 0, 0");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n64k16.f32.f16.f16", PLUQ_WGMMA_R32, 32, PLUQ_WGMMA_F, "32", "33", "34", "35", "36", "37", ", 1, 1, 0");
  }
};
template <>
struct Wgmma<64, Type::kBf16> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n64k16.f32.bf16.bf16", PLUQ_WGMMA_R32, 32, PLUQ_WGMMA_F, "32", "33", "34", ", 1, 1, 0, 0");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n64k16.f32.bf16.bf16", PLUQ_WGMMA_R32, 32, PLUQ_WGMMA_F, "32", "33", "34", "35", "36", "37", ", 1, 1, 0");
  }
};
template <>
struct Wgmma<64, Type::kE4m3> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n64k32.f32.e4m3.e4m3", PLUQ_WGMMA_R32, 32, PLUQ_WGMMA_F, "32", "33", "34", ", 1, 1");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n64k32.f32.e4m3.e4m3", PLUQ_WGMMA_R32, 32, PLUQ_WGMMA_F, "32", "33", "34", "35", "36", "37", ", 1, 1");
  }
};
template <>
struct Wgmma<64, Type::kS8> {
  static __device__ __forceinline__ void ss(int32_t *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n64k32.s32.s8.s8", PLUQ_WGMMA_R32, 32, PLUQ_WGMMA_S, "32", "33", "34", "");
  }
  static __device__ __forceinline__ void rs(int32_t *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n64k32.s32.s8.s8", PLUQ_WGMMA_R32, 32, PLUQ_WGMMA_S, "32", "33", "34", "35", "36", "37", "");
  }
};
template <>
struct Wgmma<128, Type::kF16> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n128k16.f32.f16.f16", PLUQ_WGMMA_R64, 64, PLUQ_WGMMA_F, "64", "65", "66", ", 1, 1, 0, 0");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n128k16.f32.f16.f16", PLUQ_WGMMA_R64, 64, PLUQ_WGMMA_F, "64", "65", "66", "67", "68", "69", ", 1, 1, 0");
  }
};
template <>
struct Wgmma<128, Type::kBf16> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n128k16.f32.bf16.bf16", PLUQ_WGMMA_R64, 64, PLUQ_WGMMA_F, "64", "65", "66", ", 1, 1, 0, 0");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n128k16.f32.bf16.bf16", PLUQ_WGMMA_R64, 64, PLUQ_WGMMA_F, "64", "65", "66", "67", "68", "69", ", 1, 1, 0");
  }
};
template <>
struct Wgmma<128, Type::kE4m3> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n128k32.f32.e4m3.e4m3", PLUQ_WGMMA_R64, 64, PLUQ_WGMMA_F, "64", "65", "66", ", 1, 1");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n128k32.f32.e4m3.e4m3", PLUQ_WGMMA_R64, 64, PLUQ_WGMMA_F, "64", "65", "66", "67", "68", "69", ", 1, 1");
  }
};
template <>
struct Wgmma<128, Type::kS8> {
  static __device__ __forceinline__ void ss(int32_t *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n128k32.s32.s8.s8", PLUQ_WGMMA_R64, 64, PLUQ_WGMMA_S, "64", "65", "66", "");
  }
  static __device__ __forceinline__ void rs(int32_t *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n128k32.s32.s8.s8", PLUQ_WGMMA_R64, 64, PLUQ_WGMMA_S, "64", "65", "66", "67", "68", "69", "");
  }
};
template <>
struct Wgmma<256, Type::kF16> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n256k16.f32.f16.f16", PLUQ_WGMMA_R128, 128, PLUQ_WGMMA_F, "128", "129", "130", ", 1, 1, 0, 0");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n256k16.f32.f16.f16", PLUQ_WGMMA_R128, 128, PLUQ_WGMMA_F, "128", "129", "130", "131", "132", "133", ", 1, 1, 0");
  }
};
template <>
struct Wgmma<256, Type::kBf16> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n256k16.f32.bf16.bf16", PLUQ_WGMMA_R128, 128, PLUQ_WGMMA_F, "128", "129", "130", ", 1, 1, 0, 0");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n256k16.f32.bf16.bf16", PLUQ_WGMMA_R128, 128, PLUQ_WGMMA_F, "128", "129", "130", "131", "132", "133", ", 1, 1, 0");
  }
};
template <>
struct Wgmma<256, Type::kE4m3> {
  static __device__ __forceinline__ void ss(float *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n256k32.f32.e4m3.e4m3", PLUQ_WGMMA_R128, 128, PLUQ_WGMMA_F, "128", "129", "130", ", 1, 1");
  }
  static __device__ __forceinline__ void rs(float *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n256k32.f32.e4m3.e4m3", PLUQ_WGMMA_R128, 128, PLUQ_WGMMA_F, "128", "129", "130", "131", "132", "133", ", 1, 1");
  }
};
template <>
struct Wgmma<256, Type::kS8> {
  static __device__ __forceinline__ void ss(int32_t *d, uint64_t a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_SS("m64n256k32.s32.s8.s8", PLUQ_WGMMA_R128, 128, PLUQ_WGMMA_S, "128", "129", "130", "");
  }
  static __device__ __forceinline__ void rs(int32_t *d, const uint32_t *a, uint64_t b, int accumulate) {
    PLUQ_WGMMA_RS("m64n256k32.s32.s8.s8", PLUQ_WGMMA_R128, 128, PLUQ_WGMMA_S, "128", "129", "130", "131", "132", "133", "");
  }
};

}  // namespace ptx
}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
// clang-format on
