// SPDX-License-Identifier: Apache-2.0
// Rounding of activations to int8 or e4m3 before a product, a block per row (round_row.cuh), and
// their copy as 16-bit rows of the pitch that the products want.
#pragma once

#include "pluq/cuda/quantized/round_row.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

constexpr int kRoundThreads = 256;

template <bool kInt8>
PLUQ_KERNEL(kRoundThreads, 1)
void round_rows_kernel(gmem<const uint8_t> x, int64_t ldx, int32_t x_type, gmem<uint8_t> codes,
                       gmem<float> scales, gmem<int32_t> zeros, gmem<int32_t> sums, RoundShape s) {
  PLUQ_STATIC_SMEM(float, slots, kRoundThreads / 32);
  const int64_t m = block_idx().x;
  const auto load = [&](int64_t k) { return load_real(x, x_type, m * ldx + k); };
  round_row<kInt8, kRoundThreads>(load, m, RoundOutput{codes, scales, zeros, sums}, slots, s);
}

template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void cast_rows_kernel(gmem<const uint8_t> x, gmem<uint8_t> out, int64_t m, int64_t k, int64_t ldx,
                      int64_t pitch, int32_t x_type, int32_t out_type) {
  const int64_t i = static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x;
  if (i >= m * pitch) return;
  const int64_t row = i / pitch, column = i % pitch;
  store_real(out, out_type, i, column < k ? load_real(x, x_type, row * ldx + column) : 0.0F);
}

inline OpError launch_round(const pluq_exec *exec, const RoundActivations &r) {
  if (r.m == 0 || r.k == 0) return {};
  if (r.mode == RoundMode::kFp8Group && r.group < 1)
    return {PLUQ_STATUS_INVALID, "round: groups of " + std::to_string(r.group) + " columns"};
  RoundShape s{};
  s.k = r.k, s.pitch = byte_pitch(r.k), s.group = r.group;
  s.sum_group = r.sum_group >= r.k ? 0 : r.sum_group;
  s.mode = static_cast<int32_t>(r.mode), s.as_f16 = r.as_f16 ? 1 : 0;
  s.static_scale = r.static_scale, s.bound = r.bound, s.static_zero = r.static_zero;
  const int64_t groups = r.mode == RoundMode::kFp8Group ? (r.k + r.group - 1) / r.group : 1;
  const int64_t sum_groups = s.sum_group == 0 ? 1 : (r.k + s.sum_group - 1) / s.sum_group;
  LaunchShape shape;
  shape.grid = {static_cast<uint32_t>(r.m), 1, 1};
  shape.threads = kRoundThreads;
  shape.name = "round_rows_kernel";
  const gmem<const uint8_t> x(static_cast<const uint8_t *>(r.x),
                              extent(r.m, r.k, r.ldx) * real_bytes(r.x_type));
  const gmem<uint8_t> codes(static_cast<uint8_t *>(r.codes), r.m * s.pitch * (r.as_f16 ? 2 : 1));
  const gmem<float> scales(r.scales, r.m * groups);
  const gmem<int32_t> zeros(r.zeros, r.m), sums(r.sums, r.m * sum_groups);
  const Stream stream(exec);
  const auto type = static_cast<int32_t>(r.x_type);
  const auto start = [&](auto kernel) {
    return to_op_error(
        launch(kernel, shape, stream, x, r.ldx, type, codes, scales, zeros, sums, s));
  };
  return rounds_to_int8(r.mode) ? start(&round_rows_kernel<true>)
                                : start(&round_rows_kernel<false>);
}

// x to rows of byte_pitch(K) elements of out_type in r.codes.
inline OpError launch_cast(const pluq_exec *exec, const RoundActivations &r, Real out_type) {
  if (r.m == 0 || r.k == 0) return {};
  const int64_t pitch = byte_pitch(r.k);
  LaunchShape shape;
  shape.grid = {static_cast<uint32_t>((r.m * pitch + kRoundThreads - 1) / kRoundThreads), 1, 1};
  shape.threads = kRoundThreads;
  shape.name = "cast_rows_kernel";
  return to_op_error(launch(
      &cast_rows_kernel<kRoundThreads>, shape, Stream(exec),
      gmem<const uint8_t>(static_cast<const uint8_t *>(r.x),
                          extent(r.m, r.k, r.ldx) * real_bytes(r.x_type)),
      gmem<uint8_t>(static_cast<uint8_t *>(r.codes), r.m * pitch * real_bytes(out_type)), r.m, r.k,
      r.ldx, pitch, static_cast<int32_t>(r.x_type), static_cast<int32_t>(out_type)));
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
