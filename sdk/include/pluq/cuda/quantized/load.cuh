// SPDX-License-Identifier: Apache-2.0
// Kernels that run once while a layer is loaded: rows of bytes are padded, integer codes of any
// checkpoint layout become a stream per row, scales and zero points become tables, columns are
// sorted by group, sums for zero points are formed, and small tables made on the host are carried
// over in kernel arguments (a plugin has no other way to copy).
#pragma once

#include "pluq/cuda/quantized/stored.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

struct UploadPiece {
  uint32_t words[768];  // 3 KiB: kernel arguments hold 4 KiB
};

template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void upload_kernel(UploadPiece piece, gmem<uint8_t> out, int32_t bytes) {
  for (int i = static_cast<int>(thread_idx().x); i < bytes; i += kThreads)
    out.store(i, static_cast<uint8_t>(piece.words[i / 4] >> (i % 4 * 8)));
}

inline OpError launch_upload(const pluq_exec *exec, const void *source, int64_t bytes, void *out) {
  const Stream stream(exec);
  for (int64_t at = 0; at < bytes;) {
    UploadPiece piece{};
    const int64_t count =
        bytes - at < static_cast<int64_t>(sizeof piece) ? bytes - at : sizeof piece;
    __builtin_memcpy(piece.words, static_cast<const uint8_t *>(source) + at,
                     static_cast<size_t>(count));
    LaunchShape shape;
    shape.threads = kLoadThreads;
    shape.name = "upload_kernel";
    const gmem<uint8_t> to(static_cast<uint8_t *>(out) + at, count);
    if (LaunchError e = launch(&upload_kernel<kLoadThreads>, shape, stream, piece, to,
                               static_cast<int32_t>(count))) {
      return to_op_error(std::move(e));
    }
    at += count;
  }
  return {};
}

// Source byte of byte j of a packed row.
PLUQ_DEVICE int64_t interleaved_source(int64_t j) {
  const int64_t t = j % 16 / 4, i = j % 4;
  return j / 16 * 16 + 2 * t + (i & 1) + (i >= 2 ? 8 : 0);
}

template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void pack_bytes_kernel(gmem<const uint8_t> source, gmem<uint8_t> packed, int64_t rows,
                       int64_t row_bytes, int64_t pitch, int32_t interleave) {
  const int64_t i = static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x;
  if (i >= rows * pitch / 4) return;
  const int64_t row = i * 4 / pitch, column = i * 4 % pitch;
  uint32_t word = 0;
  PLUQ_UNROLL
  for (int j = 0; j < 4; ++j) {
    const int64_t from = interleave != 0 ? interleaved_source(column + j) : column + j;
    if (from < row_bytes)
      word |= static_cast<uint32_t>(source.load(row * row_bytes + from)) << (8 * j);
  }
  packed.as<uint32_t>().store(i, word);
}

inline OpError launch_pack_bytes(const pluq_exec *exec, const PackBytes &p) {
  LaunchShape shape;
  shape.grid = {static_cast<uint32_t>((p.rows * p.pitch / 4 + kLoadThreads - 1) / kLoadThreads), 1,
                1};
  shape.threads = kLoadThreads;
  shape.name = "pack_bytes_kernel";
  return to_op_error(launch(&pack_bytes_kernel<kLoadThreads>, shape, Stream(exec),
                            gmem<const uint8_t>(p.source, p.rows * p.row_bytes),
                            gmem<uint8_t>(p.packed, p.rows * p.pitch), p.rows, p.row_bytes, p.pitch,
                            p.interleave ? 1 : 0));
}

// A warp per row and group.
template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void sum_bytes_kernel(gmem<const uint8_t> w, gmem<const int32_t> zero, gmem<int32_t> out, int64_t n,
                      int64_t k, int64_t pitch, int64_t group, int64_t groups) {
  const int64_t i = (static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x) / 32;
  if (i >= n * groups) return;  // whole warps leave
  const int64_t row = i / groups, begin = i % groups * group;
  const int64_t end = begin + group < k ? begin + group : k;
  int32_t sum = 0;
  for (int64_t j = begin + lane_id(); j < end; j += 32)
    sum += static_cast<int8_t>(w.load(row * pitch + j));
  sum = warp_sum(sum);
  if (lane_id() == 0)
    out.store(i, sum - (zero ? zero.load(i) : 0) * static_cast<int32_t>(end - begin));
}

inline OpError launch_sum_bytes(const pluq_exec *exec, const SumBytes &s) {
  const int64_t group = s.group == 0 || s.group > s.k ? s.k : s.group;
  const int64_t groups = (s.k + group - 1) / group;
  LaunchShape shape;
  shape.grid = {static_cast<uint32_t>((s.n * groups * 32 + kLoadThreads - 1) / kLoadThreads), 1, 1};
  shape.threads = kLoadThreads;
  shape.name = "sum_bytes_kernel";
  return to_op_error(launch(&sum_bytes_kernel<kLoadThreads>, shape, Stream(exec),
                            gmem<const uint8_t>(s.w, s.n * s.pitch),
                            gmem<const int32_t>(s.zero, s.n * groups),
                            gmem<int32_t>(s.out, s.n * groups), s.n, s.k, s.pitch, group, groups));
}

// A thread packs 32 codes of a row; neighbours have neighbouring rows, along which most layouts
// lie.
template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void pack_codes_kernel(IntSource source, gmem<uint32_t> packed, int64_t n, int64_t k) {
  const int64_t i = static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x;
  const int64_t runs = (k + 31) / 32;
  if (i >= n * runs) return;
  const int64_t row = i % n, run = i / n;
  const int64_t out = (row * runs + run) * source.bits;
  uint64_t held = 0;  // bits not written yet
  int count = 0, word = 0;
  PLUQ_UNROLL_N(1)  // a code at a time: four at once take 80 registers
  for (int64_t j = run * 32; j < run * 32 + 32; ++j) {
    const uint64_t code = j < k ? source.at(row, j) : 0;
    held |= code << count;
    count += source.bits;
    if (count >= 32) {
      packed.store(out + word++, static_cast<uint32_t>(held));
      held >>= 32;
      count -= 32;
    }
  }
}

inline OpError launch_pack_codes(const pluq_exec *exec, const PackCodes &p) {
  if (OpError e = check_stored(p.stored, "pack_codes")) return e;
  const int64_t runs = (p.k + 31) / 32;
  return to_op_error(launch(&pack_codes_kernel<kLoadThreads>,
                            load_shape(p.n * runs, "pack_codes_kernel"), Stream(exec),
                            IntSource::make(p.stored, p.source, p.source_bytes),
                            gmem<uint32_t>(p.packed, p.n * runs * p.stored.bits), p.n, p.k));
}

template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void load_reals_kernel(gmem<const uint8_t> source, gmem<uint8_t> out, int64_t n, int64_t groups,
                       int64_t row_stride, int64_t group_stride, int64_t out_pitch, int32_t type,
                       int32_t out_type) {
  const int64_t i = static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x;
  if (i >= n * groups) return;
  const int64_t row = i % n, group = i / n;
  store_real(out, out_type, group * out_pitch + row,
             load_real(source, type, row * row_stride + group * group_stride));
}

// The table's elements, up to the last group's last one.
inline gmem<uint8_t> table_out(const LoadTable &t) {
  return gmem<uint8_t>(static_cast<uint8_t *>(t.out),
                       extent(t.groups, t.n, t.out_pitch) * real_bytes(t.out_type));
}

inline OpError launch_load_reals(const pluq_exec *exec, const LoadReals &r) {
  return to_op_error(launch(
      &load_reals_kernel<kLoadThreads>, load_shape(r.n * r.groups, "load_reals_kernel"),
      Stream(exec), gmem<const uint8_t>(static_cast<const uint8_t *>(r.source), r.source_bytes),
      table_out(r), r.n, r.groups, r.stored.row_stride, r.stored.group_stride, r.out_pitch,
      static_cast<int32_t>(r.type), static_cast<int32_t>(r.out_type)));
}

template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void load_ints_kernel(IntSource source, gmem<uint8_t> out, int64_t n, int64_t groups,
                      int64_t out_pitch, int32_t less, int32_t out_type) {
  const int64_t i = static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x;
  if (i >= n * groups) return;
  const int64_t row = i % n, group = i / n;
  store_real(out, out_type, group * out_pitch + row,
             static_cast<float>(static_cast<int32_t>(source.at(row, group)) - less));
}

inline OpError launch_load_ints(const pluq_exec *exec, const LoadInts &p) {
  if (OpError e = check_stored(p.stored, "load_ints")) return e;
  return to_op_error(launch(&load_ints_kernel<kLoadThreads>,
                            load_shape(p.n * p.groups, "load_ints_kernel"), Stream(exec),
                            IntSource::make(p.stored, p.source, p.source_bytes), table_out(p), p.n,
                            p.groups, p.out_pitch, p.less, static_cast<int32_t>(p.out_type)));
}

PLUQ_DEVICE int32_t count_bits(uint32_t v) {
  v -= v >> 1 & 0x55555555U;
  v = (v & 0x33333333U) + (v >> 2 & 0x33333333U);
  return static_cast<int32_t>(((v + (v >> 4)) & 0x0f0f0f0fU) * 0x01010101U >> 24);
}

// A warp finds the columns of one group.
template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void sort_columns_kernel(gmem<const int32_t> groups, gmem<int32_t> order, int64_t k, int64_t size) {
  const int64_t group = (static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x) / 32;
  if (group * size >= k) return;  // whole warps leave
  const int lane = lane_id();
  int64_t next = group * size;
  for (int64_t first = 0; first < k; first += 32) {
    const bool mine = first + lane < k && groups.load(first + lane) == group;
    const uint32_t votes = ballot_sync(mine);
    if (mine)
      order.store(next + count_bits(votes & ((1U << lane) - 1)),
                  static_cast<int32_t>(first + lane));
    next += count_bits(votes);
  }
}

inline OpError launch_sort_columns(const pluq_exec *exec, const SortColumns &s) {
  if (s.size < 1) return {PLUQ_STATUS_INVALID, "sort_columns: groups of no columns"};
  return to_op_error(launch(&sort_columns_kernel<kLoadThreads>,
                            load_shape((s.k + s.size - 1) / s.size * 32, "sort_columns_kernel"),
                            Stream(exec), gmem<const int32_t>(s.groups, s.k),
                            gmem<int32_t>(s.order, s.k), s.k, s.size));
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
