// SPDX-License-Identifier: Apache-2.0
// The kernels that repack integer weights while a layer is loaded, all detectors on: random words
// in every layout, against the scalar functions of pack.hpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "kernel_device.h"
#include "pluq/pack.hpp"
#include "random_values.h"

namespace pluq {
namespace {

using cuda::LoadInts;
using cuda::LoadReals;
using cuda::OpError;
using cuda::Real;

const cuda::QuantizedOps& ops() { return kernel_ops(); }
size_t size(int64_t n) { return static_cast<size_t>(n); }

// A matrix of integers [n, k] in random bytes, and what its elements are.
struct Stored {
  std::string name;
  StoredInts ints;
  int64_t n = 0, k = 0;
  std::vector<uint8_t> bytes;
  std::function<uint32_t(const uint8_t*, int64_t, int64_t)> read;  // of bytes, row, column
};

std::vector<Stored> layouts(int bits, int64_t n, int64_t k) {
  std::vector<Stored> out;
  const auto add = [&](const char* name, StoredInts ints, int64_t bytes, auto read) {
    Random random(static_cast<uint64_t>(bits) * 31 + out.size());
    Stored s{std::string(name) + " of " + std::to_string(bits) + " bits", ints, n, k, {}, read};
    for (int64_t i = 0; i < bytes; ++i) s.bytes.push_back(static_cast<uint8_t>(random.bits()));
    out.push_back(std::move(s));
  };
  using Bytes = const uint8_t*;
  const int64_t kw = pack::stream_words(k, bits), nw = pack::stream_words(n, bits);
  const int64_t per_word = 32 / bits, ks = (k + per_word - 1) / per_word,
                ns = (n + per_word - 1) / per_word;
  const int64_t kp = (k + 31) / 32 * bits, np = (n + 31) / 32 * bits;
  const IntOrder stream = IntOrder::kStream, sparse = IntOrder::kSparse, planar = IntOrder::kPlanar;
  add("stream down", {stream, false, bits, 1, n}, kw * n * 4,
      [=](Bytes w, int64_t i, int64_t j) { return pack::stream_code(w + i * 4, n, bits, j); });
  add("stream along", {stream, false, bits, kw}, kw * n * 4,
      [=](Bytes w, int64_t i, int64_t j) { return pack::stream_code(w + i * kw * 4, 1, bits, j); });
  add("sparse down", {sparse, false, bits, 1, n}, ks * n * 4,
      [=](Bytes w, int64_t i, int64_t j) { return pack::sparse_code(w + i * 4, n, bits, j); });
  add("sparse along", {sparse, false, bits, ks}, ks * n * 4,
      [=](Bytes w, int64_t i, int64_t j) { return pack::sparse_code(w + i * ks * 4, 1, bits, j); });
  add("planar down", {planar, false, bits, 1, n}, kp * n * 4,
      [=](Bytes w, int64_t i, int64_t j) { return pack::planar_code(w + i * 4, n, bits, j); });
  add("stream across, down", {stream, true, bits, 1, k}, nw * k * 4,
      [=](Bytes w, int64_t i, int64_t j) { return pack::stream_code(w + j * 4, k, bits, i); });
  add("sparse across, down", {sparse, true, bits, 1, k}, ns * k * 4,
      [=](Bytes w, int64_t i, int64_t j) { return pack::sparse_code(w + j * 4, k, bits, i); });
  const StoredInts across{stream, true, bits, nw};
  const auto zero = [=](int64_t words, bool v1, bool planes) {
    return [=](Bytes w, int64_t i, int64_t j) {
      return static_cast<uint32_t>(pack::gptq_zero(w, words, j, i, bits, v1, planes));
    };
  };
  add("qzeros, version 1", add_one(across), nw * k * 4, zero(nw, true, false));
  add("qzeros, version 2", across, nw * k * 4, zero(nw, false, false));
  add("qzeros, planar", {planar, true, bits, np}, np * k * 4, zero(np, true, true));
  if (bits == 4) {
    const int64_t words = (n + 7) / 8, first = 5, more = pack::stream_words(first + k, 4);
    add("awq", {IntOrder::kAwq, true, 4, words}, words * k * 4,
        [=](Bytes w, int64_t i, int64_t j) { return pack::awq_code(w, words, j, i); });
    add("stream from the sixth on", {stream, false, 4, more, 1, first}, more * n * 4,
        [=](Bytes w, int64_t i, int64_t j) {
          return pack::stream_code(w + i * more * 4, 1, 4, first + j);
        });
    const int64_t pitch = (k + 63) / 64 * 64;
    add("awq tiles", {IntOrder::kAwqTiles, false, 4, pitch}, (n + 3) / 4 * pitch * 2,
        [=](Bytes w, int64_t i, int64_t j) { return pack::awq_tile_code(w, pitch, i, j); });
  }
  if (bits == 8) {
    StoredInts bytes{IntOrder::kBytes, false, 8, k};
    bytes.add = 128;
    add("signed bytes", bytes, n * k,
        [=](Bytes w, int64_t i, int64_t j) { return w[i * k + j] ^ 0x80U; });
  }
  return out;
}

TEST(CudaLoad, CodesOfEveryLayoutBecomeAStreamPerRow) {
  for (int bits = 2; bits <= 8; ++bits) {
    for (const Stored& s : layouts(bits, 27, 75)) {
      SCOPED_TRACE(s.name);
      KernelDevice device;
      const int64_t pitch = cuda::code_pitch(s.k, bits);
      auto* out = device.array<uint32_t>(size(s.n * pitch), 0xeeeeeeeeU);
      const OpError e = ops().pack_codes(
          device.exec(),
          {s.ints, device.upload(s.bytes), static_cast<int64_t>(s.bytes.size()), s.n, s.k, out});
      ASSERT_FALSE(e) << e.text;
      std::vector<uint32_t> want(size(s.n * pitch), 0);
      for (int64_t i = 0; i < s.n; ++i) {
        for (int64_t j = 0; j < s.k; ++j) {
          pack::put_stream_code(want.data() + i * pitch, 1, bits, j, s.read(s.bytes.data(), i, j));
        }
      }
      EXPECT_TRUE(std::equal(want.begin(), want.end(), out));
    }
  }
}

TEST(CudaLoad, ZeroPointsOfEveryLayoutBecomeATable) {
  for (int bits = 2; bits <= 8; ++bits) {
    for (const Stored& s : layouts(bits, 45, 7)) {
      for (const Real type : {Real::kF32, Real::kF16, Real::kBf16}) {
        SCOPED_TRACE(s.name);
        KernelDevice device;
        LoadInts l;
        l.stored = s.ints;
        l.source = device.upload(s.bytes), l.source_bytes = static_cast<int64_t>(s.bytes.size());
        l.n = s.n, l.groups = s.k;
        l.out_type = type, l.out_pitch = s.n + 3, l.less = type == Real::kF32 ? 0 : 1 << (bits - 1);
        const int64_t width = type == Real::kF32 ? 4 : 2;
        l.out = device.raw(size(((s.k - 1) * l.out_pitch + s.n) * width));
        const OpError e = ops().load_ints(device.exec(), l);
        ASSERT_FALSE(e) << e.text;
        for (int64_t i = 0; i < s.n; ++i) {
          for (int64_t j = 0; j < s.k; ++j) {
            ASSERT_EQ(read_y(l.out, type, j * l.out_pitch + i),
                      static_cast<int>(s.read(s.bytes.data(), i, j)) - l.less)
                << i << " " << j;
          }
        }
      }
    }
  }
}

TEST(CudaLoad, ScalesOfEveryTypeAndDirectionBecomeATable) {
  constexpr int64_t kN = 37, kG = 5;
  const StoredReals strides[] = {{1, kN}, {kG, 1}, {1, 0}, {0, 0}};
  for (const StoredReals stored : strides) {
    for (const Real type : {Real::kF32, Real::kF16, Real::kBf16}) {
      Random random(7);
      std::vector<float> values;
      std::vector<uint16_t> halves;
      for (int64_t i = 0; i < kN * kG; ++i) {
        const uint16_t half = to_half(type, random.real(-1, 1));
        halves.push_back(half);
        values.push_back(type == Real::kF32 ? random.real(-1, 1) : from_half(type, half));
      }
      for (const Real out_type : {Real::kF32, type}) {
        KernelDevice device;
        LoadReals l;
        l.stored = stored, l.type = type;
        l.source = type == Real::kF32 ? static_cast<const void*>(device.upload(values))
                                      : device.upload(halves);
        l.source_bytes = kN * kG * (type == Real::kF32 ? 4 : 2);
        l.n = kN, l.groups = kG;
        l.out_type = out_type, l.out_pitch = 2 * kN;
        l.out = device.raw(size(((kG - 1) * 2 + 1) * kN * (out_type == Real::kF32 ? 4 : 2)));
        const OpError e = ops().load_reals(device.exec(), l);
        ASSERT_FALSE(e) << e.text;
        for (int64_t i = 0; i < kN; ++i) {
          for (int64_t g = 0; g < kG; ++g) {
            ASSERT_EQ(read_y(l.out, out_type, g * l.out_pitch + i),
                      values[size(i * stored.row_stride + g * stored.group_stride)]);
          }
        }
      }
    }
  }
}

TEST(CudaLoad, ColumnsAreSortedByGroup) {
  for (const int64_t k : {1, 31, 64, 300}) {
    for (const int64_t group : {1, 24, 32, 400}) {
      SCOPED_TRACE(std::to_string(k) + " columns in groups of " + std::to_string(group));
      std::vector<int32_t> of, want(size(k));
      for (int64_t i = 0; i < k; ++i) of.push_back(static_cast<int32_t>(i / group));
      Random random(static_cast<uint64_t>(k + group));
      for (int64_t i = k - 1; i > 0; --i)
        std::swap(of[size(i)], of[size(random.below(static_cast<int>(i + 1)))]);
      std::iota(want.begin(), want.end(), 0);
      std::sort(want.begin(), want.end(), [&](int32_t a, int32_t b) {
        return of[size(a)] != of[size(b)] ? of[size(a)] < of[size(b)] : a < b;
      });
      KernelDevice device;
      auto* order = device.array<int32_t>(size(k), -1);
      const OpError e = ops().sort_columns(device.exec(), {device.upload(of), k, group, order});
      ASSERT_FALSE(e) << e.text;
      EXPECT_TRUE(std::equal(want.begin(), want.end(), order));
    }
  }
}

TEST(CudaLoad, RefusesWhatNoLayoutHolds) {
  KernelDevice device;
  cuda::PackCodes p;
  p.n = p.k = 32;
  p.stored.bits = 9;
  EXPECT_EQ(ops().pack_codes(device.exec(), p).text, "pack_codes: integers of 9 bits in order 0");
  LoadInts l;
  l.n = l.groups = 1;
  l.stored.bits = 8, l.stored.order = IntOrder::kAwq;
  EXPECT_EQ(ops().load_ints(device.exec(), l).text, "load_ints: integers of 8 bits in order 3");
  l.stored.bits = 4, l.stored.order = IntOrder::kBytes;
  EXPECT_EQ(ops().load_ints(device.exec(), l).status, PLUQ_STATUS_INVALID);
  EXPECT_EQ(ops().sort_columns(device.exec(), {nullptr, 8, 0, nullptr}).status,
            PLUQ_STATUS_INVALID);
}

}  // namespace
}  // namespace pluq
