// SPDX-License-Identifier: Apache-2.0
// The float GEMM against a scalar oracle in double, for every ISA; AVX-512 also over its emulated
// vocabulary. Bound per element: (K + blocks + 4) * 2^-24 * sum |x w| (twice that where multiply
// and add round apart).
#include "pluq/cpu/float_gemm.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cmath>
#include <random>

#include "device/isa.h"
#include "pluq/float8.hpp"

const pluq::cpu::FloatKernels* float_test_kernels_portable();
const pluq::cpu::FloatKernels* float_test_kernels_avx2();
const pluq::cpu::FloatKernels* float_test_kernels_avx512();
const pluq::cpu::FloatKernels* float_test_kernels_emulated();

namespace pluq::cpu {
namespace {

// Memory that ends at a page nobody may touch, filled with NaN patterns.
class Guarded {
 public:
  explicit Guarded(int64_t bytes) {
    const auto body = static_cast<size_t>((bytes + 4095) / 4096 * 4096);
    size_ = body + 4096;
    base_ = static_cast<uint8_t*>(
        ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ::mprotect(base_ + body, 4096, PROT_NONE);
    data_ = base_ + body - bytes;
    std::memset(data_, 0xff, static_cast<size_t>(bytes));
  }
  ~Guarded() { ::munmap(base_, size_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  uint8_t* data() const { return data_; }
  float* floats() const { return reinterpret_cast<float*>(data_); }

 private:
  uint8_t *base_, *data_;
  size_t size_;
};

double ieee(uint32_t code, int e, int m) {
  const uint32_t magnitude = code & ((1U << (e + m)) - 1), exponent = magnitude >> m,
                 fraction = magnitude & ((1U << m) - 1);
  const double sign = (code >> (e + m) & 1) != 0 ? -1 : 1;
  const int bias = (1 << (e - 1)) - 1;
  if (exponent == (1U << e) - 1) return fraction != 0 ? NAN : sign * INFINITY;
  return sign * (exponent != 0
                     ? std::ldexp(1.0 + std::ldexp(fraction, -m), static_cast<int>(exponent) - bias)
                     : std::ldexp(fraction, 1 - bias - m));
}

double value_of(FloatType type, uint32_t code) {
  switch (type) {
    case FloatType::kF32: {
      float f;
      std::memcpy(&f, &code, 4);
      return f;
    }
    case FloatType::kF16:
      return ieee(code, 5, 10);
    case FloatType::kBf16:
      return ieee(code, 8, 7);
    case FloatType::kE4m3:
      return static_cast<double>(float8::from_e4m3(static_cast<uint8_t>(code)));
    case FloatType::kE5m2:
      return ieee(code, 5, 2);
  }
  return 0;
}

class FloatGemm : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string isa = GetParam();
    const Isa best = best_isa(cpu_info().features);
    if (isa == "avx2" && best < Isa::kAvx2) GTEST_SKIP() << "this CPU has no AVX2";
    if (isa == "avx512" && best < Isa::kAvx512) GTEST_SKIP() << "this CPU has no AVX-512";
    kernels_ = isa == "portable" ? float_test_kernels_portable()
               : isa == "avx2"   ? float_test_kernels_avx2()
               : isa == "avx512" ? float_test_kernels_avx512()
                                 : float_test_kernels_emulated();
  }

  // y [m, N] densely, computed with exact-size buffers, workers one after the other.
  std::vector<float> run(const FloatWeights& w, FloatInput in, int workers, int64_t ldy) const {
    const Guarded workspace(float_workspace_bytes(w, in.m, in.round, workers));
    const Guarded y(in.m > 0 ? ((in.m - 1) * ldy + w.n) * 4 : 4);
    FloatOutput out;
    out.y = y.floats();
    out.ldy = ldy;
    for (int i = 0; i < workers; ++i) kernels_->round(&w, &in, workspace.data(), i, workers);
    for (int i = workers - 1; i >= 0; --i)
      kernels_->gemm(&w, &in, &out, workspace.data(), i, workers);
    std::vector<float> dense(static_cast<size_t>(in.m * w.n));
    for (int64_t m = 0; m < in.m; ++m)
      std::memcpy(dense.data() + m * w.n, y.floats() + m * ldy, static_cast<size_t>(w.n) * 4);
    return dense;
  }

  const FloatKernels* kernels_ = nullptr;
};

// Every code of every narrow type, through small and large tiles.
TEST_P(FloatGemm, DecodesEveryCodeExactly) {
  for (const FloatType type :
       {FloatType::kF16, FloatType::kBf16, FloatType::kE4m3, FloatType::kE5m2}) {
    FloatWeights w;
    w.type = type;
    w.n = float_type_bytes(type) == 2 ? 65536 : 256;
    w.k = 1;
    std::vector<uint8_t> source(static_cast<size_t>(w.n * float_type_bytes(type)));
    for (int64_t i = 0; i < w.n; ++i)
      std::memcpy(source.data() + i * float_type_bytes(type), &i,
                  static_cast<size_t>(float_type_bytes(type)));
    const Guarded packed(float_packed_bytes(w));
    float_pack_init(&w, nullptr, packed.data());
    float_pack_panels(w, source.data(), 0, w.num_panels, packed.data());
    for (const int64_t m : {1, 3, 7, 13}) {
      const std::vector<float> ones(static_cast<size_t>(m), 1.0F);
      FloatInput in;
      in.m = m;
      in.x = ones.data();
      in.ldx = 1;
      const std::vector<float> y = run(w, in, 1, w.n);
      for (int64_t i = 0; i < w.n * m; ++i) {
        const auto code = static_cast<uint32_t>(i % w.n);
        const double want = value_of(type, code);
        if (type == FloatType::kE4m3 && std::isnan(want))
          continue;  // refused at load, see float_types.h
        const float got = y[static_cast<size_t>(i)];
        if (std::isnan(want) ? !std::isnan(got) : static_cast<double>(got) != want) {
          FAIL() << "type " << static_cast<int>(type) << " code " << code << " M " << m << ": "
                 << got << ", want " << want;
        }
      }
    }
  }
}

TEST_P(FloatGemm, AgreesWithTheOracleAndItsBitsDoNotDependOnTheBatch) {
  std::mt19937 random(1);
  const auto unit = [&] {
    return static_cast<float>(static_cast<int>(random() % 2001) - 1000) * 1e-3F;
  };
  for (int t = 0; t < 5; ++t) {
    for (int kind = 0; kind < 3; ++kind) {
      for (const int64_t k : {1, 7, 31, 64, 128, 129, 257, 600}) {
        for (const int64_t n : {1, 31, 33, 70}) {
          FloatWeights w;
          w.n = n;
          w.k = k;
          w.type = static_cast<FloatType>(t);
          w.scale = static_cast<FloatScale>(kind);
          w.block_n = n % 2 != 0 ? 32 : 5;
          w.block_k = k % 2 != 0 ? 100 : 128;
          const int64_t size = float_type_bytes(w.type);
          std::vector<uint8_t> source(static_cast<size_t>(n * k * size) +
                                      1);  // misaligned on purpose
          std::vector<double> values(static_cast<size_t>(n * k));
          for (int64_t i = 0; i < n * k; ++i) {
            uint32_t code = 0;
            do {
              code = static_cast<uint32_t>(random());
              if (t == 0) {
                const float f = unit();
                std::memcpy(&code, &f, 4);
              } else if (t == 1) {
                code = (code & 0x83ff) | static_cast<uint32_t>(random() % 16) << 10;
              } else if (t == 2) {
                code = (code & 0x807f) | static_cast<uint32_t>(110 + random() % 20) << 7;
              } else {
                code &= 0xff;
              }
            } while (!std::isfinite(value_of(w.type, code)));
            std::memcpy(source.data() + 1 + i * size, &code, static_cast<size_t>(size));
            values[static_cast<size_t>(i)] = value_of(w.type, code);
          }
          std::vector<float> scales(
              static_cast<size_t>(std::max<int64_t>(1, float_scale_count(w))));
          for (float& s : scales) s = static_cast<float>(random() % 1000 + 1) * 1e-4F;
          const Guarded packed(float_packed_bytes(w));
          float_pack_init(&w, scales.data(), packed.data());
          float_pack_panels(w, source.data() + 1, w.num_panels / 2, w.num_panels, packed.data());
          float_pack_panels(w, source.data() + 1, 0, w.num_panels / 2, packed.data());

          const int64_t rows = 17, ldx = k + 3, blocks = (k + w.block_k - 1) / w.block_k;
          const Guarded x(((rows - 1) * ldx + k) * 4);
          for (int64_t i = 0; i < (rows - 1) * ldx + k; ++i) x.floats()[i] = unit();
          FloatInput in;
          in.x = x.floats();
          in.ldx = ldx;
          in.m = rows;
          const std::vector<float> full = run(w, in, 1, n);
          for (int64_t m = 0; m < rows; ++m) {
            for (int64_t j = 0; j < n; ++j) {
              double want = 0, sum = 0;
              for (int64_t i = 0; i < k; ++i) {
                const double scale =
                    kind == 0 ? 1
                    : kind == 1
                        ? scales[static_cast<size_t>(j)]
                        : scales[static_cast<size_t>(j / w.block_n * blocks + i / w.block_k)];
                const double product = static_cast<double>(in.x[m * ldx + i]) *
                                       values[static_cast<size_t>(j * k + i)] * scale;
                want += product;
                sum += std::fabs(product);
              }
              const double bound = static_cast<double>(k + blocks + 4) * 0x1p-24 * 2 * sum + 1e-37;
              ASSERT_NEAR(full[static_cast<size_t>(m * n + j)], want, bound)
                  << "type " << t << " scale " << kind << " K " << k << " N " << n;
            }
          }
          for (const int64_t m : {0, 1, 2, 3, 4, 5, 6, 7, 8, 13, 16}) {
            for (const int workers : {1, 2, 5}) {
              in.m = m;
              const std::vector<float> y = run(w, in, workers, n + 5);
              ASSERT_TRUE(m == 0 || std::memcmp(y.data(), full.data(), y.size() * 4) == 0)
                  << "type " << t << " K " << k << " M " << m << " workers " << workers;
            }
          }
        }
      }
    }
  }
}

// Rounding of activations, seen through an identity matrix, against float8.hpp.
TEST_P(FloatGemm, RoundsActivationsAsTheCheckpointSays) {
  const int64_t k = 96, rows = 40;
  FloatWeights w;
  w.n = w.k = k;
  std::vector<float> identity(static_cast<size_t>(k * k));
  for (int64_t i = 0; i < k; ++i) identity[static_cast<size_t>(i * k + i)] = 1;
  const Guarded packed(float_packed_bytes(w));
  float_pack_init(&w, nullptr, packed.data());
  float_pack_panels(w, identity.data(), 0, w.num_panels, packed.data());
  std::mt19937 random(3);
  std::vector<float> x(static_cast<size_t>(rows * k));
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t row = i / static_cast<size_t>(k);
    x[i] = std::ldexp(static_cast<float>(static_cast<int>(random() % 20001) - 10000),
                      -static_cast<int>(random() % 24));
    if (row == 5) x[i] = 0;
    if (row == 6) x[i] *= 1e-30F;
    if (row == 7 && i % static_cast<size_t>(k) == 3) x[i] *= 1000;
  }
  for (const FloatRound mode : {FloatRound::kToken, FloatRound::kGroup, FloatRound::kStatic}) {
    FloatInput in;
    in.round = mode;
    in.m = rows;
    in.x = x.data();
    in.ldx = k;
    in.group_size = 40;
    in.static_scale = 0.37F;
    const std::vector<float> y = run(w, in, 3, k);
    for (int64_t m = 0; m < rows; ++m) {
      for (int64_t i = 0; i < k; ++i) {
        const int64_t from = mode == FloatRound::kGroup ? i / 40 * 40 : 0,
                      to = mode == FloatRound::kGroup ? std::min(k, from + 40) : k;
        float largest = 0;
        for (int64_t j = from; j < to; ++j)
          largest = std::max(largest, std::fabs(x[static_cast<size_t>(m * k + j)]));
        const float s = mode == FloatRound::kStatic ? 0.37F : largest / 448.0F;
        const float v =
            s > 0 ? std::fmin(std::fmax(x[static_cast<size_t>(m * k + i)] / s, -448.0F), 448.0F)
                  : 0;
        const float want = s > 0 ? float8::from_e4m3(float8::to_e4m3(v)) * s : 0;
        ASSERT_EQ(y[static_cast<size_t>(m * k + i)], want)
            << "mode " << static_cast<int>(mode) << " row " << m << " column " << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, FloatGemm, testing::Values("portable", "avx2", "avx512", "emulated"),
                         [](const testing::TestParamInfo<const char*>& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace pluq::cpu
