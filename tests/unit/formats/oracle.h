// SPDX-License-Identifier: Apache-2.0
// What the tests of formats know on their own: packing bit by bit, rounding one value at a time,
// products in double. Nothing here uses the SDK's packers or kernels.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "support/fake_host.h"

namespace pluq::test {

// A deterministic source of random numbers for one test.
class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int64_t below(int64_t end) {
    return static_cast<int64_t>(engine_() % static_cast<uint64_t>(end));
  }
  float real(float lo, float hi) {
    return lo + (hi - lo) * static_cast<float>(engine_() >> 8) / 16777216.0F;
  }
  std::vector<int> codes(int64_t count, int below_end) {
    std::vector<int> out;
    for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<int>(below(below_end)));
    return out;
  }
  // Powers of two and small multiples, so that every 16-bit type holds them exactly.
  std::vector<float> scales(int64_t count) {
    std::vector<float> out;
    for (int64_t i = 0; i < count; ++i)
      out.push_back(static_cast<float>(64 + below(64)) / 16384.0F);
    return out;
  }
  std::vector<float> reals(int64_t count, float lo, float hi) {
    std::vector<float> out;
    for (int64_t i = 0; i < count; ++i) out.push_back(real(lo, hi));
    return out;
  }

 private:
  std::mt19937 engine_;
};

// Codes of `bits` bits one after the other, lowest bit first, in 32-bit words.
inline std::vector<uint32_t> pack_stream(const std::vector<int>& codes, int bits) {
  std::vector<uint32_t> words((codes.size() * static_cast<size_t>(bits) + 31) / 32);
  size_t at = 0;
  for (const int code : codes) {
    for (int b = 0; b < bits; ++b, ++at)
      words[at / 32] |= static_cast<uint32_t>(code >> b & 1) << (at % 32);
  }
  return words;
}

// floor(32 / bits) codes in each word, the highest bits of the word unused.
inline std::vector<uint32_t> pack_sparse(const std::vector<int>& codes, int bits) {
  const auto per_word = static_cast<size_t>(32 / bits);
  std::vector<uint32_t> words((codes.size() + per_word - 1) / per_word);
  for (size_t i = 0; i < codes.size(); ++i)
    words[i / per_word] |= static_cast<uint32_t>(codes[i])
                           << (i % per_word * static_cast<size_t>(bits));
  return words;
}

// Every 32 codes are `bits` words: the planes of 4, 2 and 1 bits that make up the width, low plane
// first (8: one plane).
inline std::vector<uint32_t> pack_planar(const std::vector<int>& codes, int bits) {
  const std::vector<std::vector<int>> planes{{},     {1},    {2},       {2, 1}, {4},
                                             {4, 1}, {4, 2}, {4, 2, 1}, {8}};
  std::vector<uint32_t> words;
  for (size_t base = 0; base < codes.size(); base += 32) {
    int shift = 0;
    for (const int width : planes[static_cast<size_t>(bits)]) {
      std::vector<int> plane;
      for (size_t i = base; i < base + 32; ++i)
        plane.push_back(i < codes.size() ? codes[i] >> shift & ((1 << width) - 1) : 0);
      for (const uint32_t w : pack_stream(plane, width)) words.push_back(w);
      shift += width;
    }
  }
  return words;
}

template <class T>
FileTensor tensor(std::string name, uint32_t dtype_id, std::vector<int64_t> shape,
                  const std::vector<T>& values) {
  FileTensor t{std::move(name), dtype_id, std::move(shape),
               std::vector<uint8_t>(values.size() * sizeof(T))};
  if (!values.empty()) std::memcpy(t.bytes.data(), values.data(), t.bytes.size());
  return t;
}

// Values as F32, F16 or BF16; they must be numbers that the type holds.
FileTensor reals(std::string name, uint32_t dtype_id, std::vector<int64_t> shape,
                 const std::vector<float>& values);

// Value of an e4m3fn or e5m2 code, from the fields.
double e4m3(uint8_t code);
double e5m2(uint8_t code);

// One layer of a checkpoint, and what it must be.
struct Case {
  std::string format, config;
  LayerAsk ask;
  std::vector<FileTensor> file;
  std::vector<float> w;  // [n, k]
  std::string scheme;    // expected in describe; empty: not checked
  std::vector<int64_t> k_splits{2, 4}, n_splits{2, 4};
  // Static or bounded activations, for the reference.
  float input_scale = 0, bound = 0;
  int input_zero = 0;
  // False: CUDA kernels do not fit the layer, which is left to the host there.
  bool on_device = true;
};

// What the method's activation scheme makes of x [m, k].
std::vector<double> rounded(const Case& c, const pluq_method_info& info,
                            const std::vector<float>& x, int64_t m, int64_t k);
// y[m, n] in double.
std::vector<double> product(const std::vector<double>& x, const std::vector<float>& w, int64_t m,
                            int64_t n, int64_t k, const float* bias);
// The largest relative L2 error of a row.
double row_error(const std::vector<float>& y, const std::vector<double>& want, int64_t m,
                 int64_t n);
// Inputs as models have them: an outlier channel, a tiny row, a row of zeros.
std::vector<float> inputs(int64_t m, int64_t k);

// On emulated CUDA devices, with and without fp8 units: apply equals the product of rounded inputs
// within the method's error bound, whole and in shards. Part of check_case.
void check_on_devices(const Case& c, const FakeConfig& config);

// All of it: dequantize equals w; apply equals the product of rounded inputs within the method's
// error bound, exact and fast, for every instruction set, one thread and two; shards hold their
// slices and add up to the whole; the same on emulated CUDA devices.
void check_case(const Case& c);

// Only asks for the method; for what comes of it.
FakeChoice choose(const Case& c);

// choose (or load) must be refused with this code, and the text has all the parts. A verdict
// UNSUPPORTED counts as code PLUQ_STATUS_UNSUPPORTED.
void expect_refusal(const Case& c, int32_t code, std::initializer_list<std::string> parts);

}  // namespace pluq::test
