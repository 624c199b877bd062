// SPDX-License-Identifier: Apache-2.0
// Kernels that run once while a layer is loaded: rows of bytes are padded, integer codes of any
// checkpoint layout become a stream per row, sums for zero points are formed, and small tables made
// on the host are carried over in kernel arguments (a plugin has no other way to copy).
#pragma once

#include "pluq/cuda/quantized/byte_gemm.cuh"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

constexpr int kLoadThreads = 256;

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

// Code `index` of a stream of b-bit codes whose words lie `stride` apart from word `first` on.
PLUQ_DEVICE uint32_t stream_code_at(gmem<const uint32_t> w, int64_t first, int64_t stride, int bits,
                                    int64_t index) {
  const int64_t bit = index * bits, word = bit / 32;
  const int shift = static_cast<int>(bit % 32);
  uint32_t value = w.load(first + word * stride) >> shift;
  if (shift + bits > 32) value |= w.load(first + (word + 1) * stride) << (32 - shift);
  return value & ((1U << bits) - 1);
}

PLUQ_DEVICE uint32_t code_at(gmem<const uint32_t> w, CodeLayout layout, int64_t pitch, int bits,
                             int64_t n, int64_t k) {
  switch (layout) {
    case CodeLayout::kStreamDown:
      return stream_code_at(w, n, pitch, bits, k);
    case CodeLayout::kStreamRow:
      return stream_code_at(w, n * pitch, 1, bits, k);
    case CodeLayout::kPlanarDown: {
      uint32_t code = 0;
      int64_t first = n + k / 32 * bits * pitch;
      int placed = 0;
      for (int width = 8; width > 0; width /= 2) {
        if (bits - placed < width) continue;
        code |= stream_code_at(w, first, pitch, width, k % 32) << placed;
        placed += width;
        first += width * pitch;
      }
      return code;
    }
    case CodeLayout::kSparseRow: {
      const int per_word = 32 / bits;
      return w.load(n * pitch + k / per_word) >> (k % per_word * bits) & ((1U << bits) - 1);
    }
    case CodeLayout::kSparseDown: {
      const int per_word = 32 / bits;
      return w.load(n + k / per_word * pitch) >> (k % per_word * bits) & ((1U << bits) - 1);
    }
    case CodeLayout::kAwq:
      break;
  }
  // Column j of eight is in nibble 4 (j % 2) + j / 2.
  const int j = static_cast<int>(n % 8);
  return w.load(k * pitch + n / 8) >> (4 * (4 * (j % 2) + j / 2)) & 15U;
}

// A thread packs 32 codes of a row; neighbours have neighbouring rows, along which most layouts
// lie.
template <int kThreads>
PLUQ_KERNEL(kThreads, 1)
void pack_codes_kernel(gmem<const uint32_t> source, gmem<uint32_t> packed, int64_t n, int64_t k,
                       int64_t source_pitch, int32_t layout, int32_t bits) {
  const int64_t i = static_cast<int64_t>(block_idx().x) * kThreads + thread_idx().x;
  const int64_t runs = (k + 31) / 32;
  if (i >= n * runs) return;
  const int64_t row = i % n, run = i / n;
  const int64_t out = (row * runs + run) * bits;
  uint64_t held = 0;  // bits not written yet
  int count = 0, word = 0;
  for (int64_t j = run * 32; j < run * 32 + 32; ++j) {
    const uint64_t code =
        j < k ? code_at(source, static_cast<CodeLayout>(layout), source_pitch, bits, row, j) : 0;
    held |= code << count;
    count += bits;
    if (count >= 32) {
      packed.store(out + word++, static_cast<uint32_t>(held));
      held >>= 32;
      count -= 32;
    }
  }
}

inline OpError launch_pack_codes(const pluq_exec *exec, const PackCodes &p) {
  if (p.bits < 2 || p.bits > 8)
    return {PLUQ_STATUS_INVALID, "pack_codes: codes of " + std::to_string(p.bits) + " bits"};
  const int64_t runs = (p.k + 31) / 32;
  LaunchShape shape;
  shape.grid = {static_cast<uint32_t>((p.n * runs + kLoadThreads - 1) / kLoadThreads), 1, 1};
  shape.threads = kLoadThreads;
  shape.name = "pack_codes_kernel";
  return to_op_error(launch(&pack_codes_kernel<kLoadThreads>, shape, Stream(exec),
                            gmem<const uint32_t>(p.source, p.source_words),
                            gmem<uint32_t>(p.packed, p.n * runs * p.bits), p.n, p.k, p.source_pitch,
                            static_cast<int32_t>(p.layout), p.bits));
}

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
