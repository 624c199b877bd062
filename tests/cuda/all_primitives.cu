// SPDX-License-Identifier: Apache-2.0
// Every primitive of pluq/cuda/ once, so that nvcc shows whether it compiles for an SM; never run.
#include "pluq/cuda/cuda.hpp"

namespace pluq {
inline namespace PLUQ_CUDA_SIDE {

using namespace cuda;

PLUQ_KERNEL(128, 1)
void all_primitives_kernel(gmem<const uint16_t> x, gmem<float> y, gmem<int32_t> flags, int n) {
  PLUQ_DYNAMIC_SMEM(raw);
  PLUQ_STATIC_SMEM(uint32_t, words, 128);
  const int lane = lane_id(), t = static_cast<int>(thread_idx().x);
  const auto s = raw.view<uint16_t>(0, 1024);
  cp_async16(s, lane * 8, x, lane * 8, lane < n);
  cp_async8(s, 256 + lane * 4, x, lane * 4);
  cp_async4(s, 512 + lane * 2, x, lane * 2);
  cp_async_commit();
  cp_async_wait<1>();
  cp_async_wait_all();
  sync_threads();
  uint32_t r[8];
  ldmatrix_x4(r, s, lane * 8);
  ldmatrix_x4_trans(r + 4, s, lane * 8);
  ldmatrix_x2(r, s, lane * 8);
  ldmatrix_x2_trans(r + 2, s, lane * 8);
  float c[4] = {0, 0, 0, 0};
  int32_t ci[4] = {0, 0, 0, 0};
  mma_m16n8k16_f16(c, r, r + 4);
  mma_m16n8k16_bf16(c, r, r + 4);
  mma_m16n8k32_s8(ci, r, r + 4);
  if (n == 99) mma_m16n8k32_e4m3(c, r, r + 4);  // traps below sm_89
  words.store(t, prmt(r[0], r[1], 0x5410) ^ lop3<0xea>(r[0], r[1], r[2]));
  sync_warp();
  named_arrive(1, 128);
  if (warp_id() == 0) named_sync(1, 160);
  uint32_t u = words.load(31 - lane);
  u = fma_f16x2(u, add_f16x2(u, r[1]), sub_f16x2(mul_f16x2(u, r[2]), r[3]));
  u = fma_bf16x2(u, add_bf16x2(u, r[1]), sub_bf16x2(mul_bf16x2(u, r[2]), r[3]));
  u ^= splat16(f32_to_bf16(c[0])) ^ splat16(f32_to_f16(c[1])) ^ pack_f16x2(c[2], c[3]) ^
       pack_bf16x2(c[0], c[1]) ^ e4m3x2_to_f16x2(f32_to_e4m3x2(c[2], c[3]));
  float v = warp_sum(c[0]) + warp_max(c[1]) + unpack_f16x2(u).v[0] + unpack_bf16x2(u).v[1];
  v += e4m3_to_f32(f32_to_e4m3(v)) + exp2_approx(v) + rsqrt_approx(v) + rcp_approx(v);
  v = fma_f32(v, v, static_cast<float>(round_to_int(v) + ci[0]));
  v += static_cast<float>(x.load_nc<u32x4>(0).v[0] ^ x.load_once<u32x4>(8).v[1]);
  v += static_cast<float>(x.load_cg<u32x2>(0).v[0] ^ x.load_nc<uint32_t>(2) ^ x.load16(16).v[3]);
  v += static_cast<float>(x.as<const uint8_t>().load(3)) + static_cast<float>((x + 5).load(1));
  v += x.load_as<f32x2>(4).v[1] + f16_to_f32(x.load(7)) + bf16_to_f32(x.load(9)) +
       bits_float(float_bits(v) + f32_to_e4m3_bits(v)) +
       f16_to_f32(e4m3_to_f16_bits(static_cast<uint8_t>(n))) + shfl_xor(v, 2);
  v += shfl(v, 3) + shfl_up(v, 1) + shfl_down(v, 2) + (any_sync(v > 0) ? 1.0F : 0.0F);
  if (all_sync(v > 1)) v += static_cast<float>(ballot_sync(v > 2));
  atomic_max(words, 3, u);
  atomic_add(words, 4, u);
  thread_fence();
  wait_equal(flags, 0, 0);
  release_add(flags, 1, atomic_cas(flags, 2, 0, 1) + atomic_exch(flags, 3, 1));
  release_store(flags, 4, atomic_max(flags, 5, 7));
  atomic_max(y, 1, v);
  atomic_add(y, 0, v);
  if (n < 0) device_trap("n is negative");
  y.store16(t * 4, u32x4{{u, u, u, u}});
  y.store_as<f32x2>(2 * t, f32x2{{v, v}});
  y.store(t + static_cast<int>(block_idx().x * block_dim().x * grid_dim().y), v);
}

template <int N, class Sum>
PLUQ_DEVICE float wgmma_sum(const Sum *d) {
  float sum = 0;
  PLUQ_UNROLL
  for (int i = 0; i < N / 2; ++i) sum += static_cast<float>(d[i]);
  return sum;
}

template <int N>
PLUQ_KERNEL(128, 1)
void hopper_kernel(gmem<const uint16_t> x, gmem<float> y) {
  PLUQ_DYNAMIC_SMEM(raw);
  PLUQ_STATIC_SMEM(uint64_t, bars, 2);
  set_max_registers_down<232>();
  set_max_registers_up<240>();
  const auto a = raw.view<uint16_t>(0, 64 * 64), b = raw.view<uint16_t>(8192, N * 64);
  if (thread_idx().x == 0) {
    mbar_init(bars, 0, 1);
    fence_mbar_init();
    mbar_arrive_expect(bars, 0, 8192);
    bulk_copy(a, 0, x, 0, 8192, bars, 0);
    mbar_init(bars, 1, 1);
    mbar_arrive(bars, 1);
  }
  sync_threads();
  mbar_wait(bars, 0, 0);
  fence_async_proxy();
  float d[N / 2] = {};
  int32_t di[N / 2] = {};
  const uint32_t ra[4] = {1, 2, 3, 4};
  const auto da = matrix_desc(a, 0, Swizzle::k128B, 0, 1024);
  const auto db = matrix_desc(b, 0, Swizzle::kNone, 128, 256);
  wgmma_fence_registers<N / 2>(d);
  wgmma_fence();
  wgmma_f16<N>(d, da, db, false);
  wgmma_bf16<N>(d, advance(da, 32), db);
  wgmma_e4m3<N>(d, da, db);
  wgmma_s8<N>(di, da, db);
  wgmma_f16_rs<N>(d, ra, db);
  wgmma_bf16_rs<N>(d, ra, db);
  wgmma_e4m3_rs<N>(d, ra, db);
  wgmma_s8_rs<N>(di, ra, db);
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_fence_registers<N / 2>(d);
  y.store(thread_idx().x,
          wgmma_sum<N>(d) + wgmma_sum<N>(di) + static_cast<float>(a.load(swizzled_128b(lane_id(), 3))));
}
template PLUQ_KERNEL(128, 1) void hopper_kernel<8>(gmem<const uint16_t>, gmem<float>);
template PLUQ_KERNEL(128, 1) void hopper_kernel<16>(gmem<const uint16_t>, gmem<float>);
template PLUQ_KERNEL(128, 1) void hopper_kernel<32>(gmem<const uint16_t>, gmem<float>);
template PLUQ_KERNEL(128, 1) void hopper_kernel<64>(gmem<const uint16_t>, gmem<float>);
template PLUQ_KERNEL(128, 1) void hopper_kernel<128>(gmem<const uint16_t>, gmem<float>);

LaunchError all_primitives(const pluq_exec *exec, const uint16_t *x, float *y, int32_t *flags) {
  return launch(&all_primitives_kernel, LaunchShape{{1, 1, 1}, 128, 65536, "all_primitives"},
                Stream(exec), gmem<const uint16_t>(x), gmem<float>(y, 512), gmem<int32_t>(flags, 8),
                16);
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace pluq
