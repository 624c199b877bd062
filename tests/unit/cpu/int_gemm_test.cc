// SPDX-License-Identifier: Apache-2.0
// The integer GEMM of every ISA against a scalar oracle in double that sees the same rounded
// activations. Bound per output: gamma * sum |a| |w| with gamma = (2 G + 16) * 2^-24 (G groups;
// integer sums must be exact), plus, in exact mode, half a step of the 24-bit fixed point. Every
// buffer ends at a page that may not be touched.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "pluq/cpu/int_gemm.h"

const pluq::cpu::IntKernels* int_test_kernels_portable();
const pluq::cpu::IntKernels* int_test_kernels_avx2();
const pluq::cpu::IntKernels* int_test_kernels_avx512();
const pluq::cpu::IntKernels* int_test_kernels_emulated();

namespace pluq {
namespace cpu {
namespace {

// Memory that ends at a PROT_NONE page, aligned to 64 bytes where its size is a multiple of that.
class Guarded {
 public:
  explicit Guarded(int64_t bytes) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    const int64_t body = (bytes + page - 1) / page * page;
    total_ = static_cast<size_t>(body + page);
    void* map = mmap(nullptr, total_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) throw std::bad_alloc();
    base_ = static_cast<uint8_t*>(map);
    mprotect(base_ + body, static_cast<size_t>(page), PROT_NONE);
    data_ = base_ + body - bytes;
  }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;
  ~Guarded() { munmap(base_, total_); }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  uint8_t* base_ = nullptr;
  uint8_t* data_ = nullptr;
  size_t total_ = 0;
};

struct Matrix {
  IntSpec spec;
  std::vector<uint8_t> codes;  // [N, K] original order
  std::vector<float> scales;   // [N, G]
  std::vector<float> zeros;    // [N, G]
  std::vector<int32_t> perm, begins;
  int64_t groups = 0;
};

float round_to(IntScaleType type, float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  if (type == IntScaleType::kF16) bits &= ~0x1fffu;
  if (type == IntScaleType::kBf16) bits &= ~0xffffu;
  std::memcpy(&v, &bits, 4);
  return v;
}

Matrix make_matrix(int64_t n, int64_t k, int bits, int group_size, IntZeroKind zero,
                   IntScaleType scale, bool permuted, bool sums, unsigned seed) {
  std::mt19937 rng(seed);
  Matrix a;
  a.spec.n = n;
  a.spec.k = k;
  a.spec.bits = bits;
  a.spec.group_size = group_size;
  a.spec.zero_kind = zero;
  a.spec.zero_constant = 1 << (bits - 1);
  a.spec.scale_type = scale;
  a.spec.sums = sums;
  if (group_size == 0) {  // odd begins with an empty group
    a.begins = {0, static_cast<int32_t>(k / 3), static_cast<int32_t>(k / 3),
                static_cast<int32_t>(k / 2), static_cast<int32_t>(k)};
    a.spec.group_begin = a.begins.data();
    a.spec.num_groups = 4;
  }
  a.groups = int_detail::num_groups(a.spec);
  if (permuted) {
    a.perm.resize(k);
    std::iota(a.perm.begin(), a.perm.end(), 0);
    std::shuffle(a.perm.begin(), a.perm.end(), rng);
    a.spec.perm = a.perm.data();
  }
  a.codes.resize(n * k);
  for (auto& c : a.codes) c = static_cast<uint8_t>(rng() % (1u << bits));
  for (int64_t i = 0; i < n * a.groups; ++i) {
    const float s = 0.001f + static_cast<float>(rng() % 1000) * 1e-5f;
    a.scales.push_back(round_to(scale, rng() % 7 == 0 ? -s : s));
    a.zeros.push_back(zero == IntZeroKind::kInteger ? static_cast<float>(rng() % ((1u << bits) + 1))
                                                    : -static_cast<float>(rng() % 999) * 1e-4f);
  }
  return a;
}

IntPackSource source_of(const Matrix& a) {
  IntPackSource s;
  s.user = const_cast<Matrix*>(&a);
  s.codes = [](void* user, int64_t n, uint8_t* out) {
    const Matrix& m = *static_cast<Matrix*>(user);
    std::memcpy(out, m.codes.data() + n * m.spec.k, m.spec.k);
  };
  s.scales = [](void* user, int64_t n, float* out) {
    const Matrix& m = *static_cast<Matrix*>(user);
    std::memcpy(out, m.scales.data() + n * m.groups, m.groups * 4);
  };
  s.zeros = [](void* user, int64_t n, float* out) {
    const Matrix& m = *static_cast<Matrix*>(user);
    std::memcpy(out, m.zeros.data() + n * m.groups, m.groups * 4);
  };
  return s;
}

struct Packed {
  Guarded memory;
  IntWeights w;
  explicit Packed(const Matrix& a) : memory(int_packed_bytes(a.spec)) {
    EXPECT_EQ(int_check(a.spec), nullptr);
    w = int_pack_init(a.spec, memory.as<void>());
    Guarded scratch(int_pack_scratch_bytes(a.spec));
    const int64_t middle = w.num_panels / 2;  // two shares, the later one first
    int_pack_panels(w, source_of(a), middle, w.num_panels, memory.as<void>(), scratch.as<void>());
    int_pack_panels(w, source_of(a), 0, middle, memory.as<void>(), scratch.as<void>());
  }
};

// One row's activations as the kernels must round them, in permuted order: value = (q - zero) *
// scale.
struct OracleRow {
  std::vector<double> value;
  std::vector<double> step;  // half the resolution, exact mode only
};

OracleRow round_row(const Matrix& a, const IntInput& in, int64_t m) {
  const int64_t k = a.spec.k;
  OracleRow row;
  row.value.assign(k, 0.0);
  row.step.assign(k, 0.0);
  auto column = [&](int64_t i) { return a.spec.perm ? a.perm[i] : i; };
  if (in.mode == IntActivation::kCodes) {
    for (int64_t i = 0; i < k; ++i) {
      const int zero = in.code_zeros ? in.code_zeros[in.one_scale ? 0 : m] : 0;
      row.value[i] = (in.codes[m * in.ld_codes + column(i)] - zero) *
                     static_cast<double>(in.code_scales[in.one_scale ? 0 : m]);
    }
    return row;
  }
  const float* x = in.x + m * in.ldx;
  float low = 0, high = 0;
  for (int64_t i = 0; i < k; ++i) low = std::min(low, x[i]), high = std::max(high, x[i]);
  const float amax = std::max(high, -low);
  if (in.mode == IntActivation::kGroup || in.mode == IntActivation::kExact) {
    for (int64_t g = 0; g < a.groups; ++g) {
      const int64_t begin = int_detail::group_begin(a.spec, g),
                    end = int_detail::group_begin(a.spec, g + 1);
      float peak = 0;
      const float factor = amax < 0x1p-60f ? 0x1p80f : 1.0f;
      for (int64_t i = begin; i < end; ++i) peak = std::max(peak, std::fabs(x[column(i)] * factor));
      for (int64_t i = begin; i < end; ++i) {
        if (in.mode == IntActivation::kExact) {
          row.value[i] = x[column(i)];
          row.step[i] = peak / factor * 1.2e-7;
        } else if (peak > 0) {
          row.value[i] = std::nearbyint(x[column(i)] * factor * (127.0f / peak)) *
                         static_cast<double>(peak / 127.0f) / factor;
        }
      }
    }
    return row;
  }
  float scale = 0;
  float zero = 0;
  if (in.mode == IntActivation::kToken) scale = amax / in.divisor;
  if (in.mode == IntActivation::kTokenAsym) {
    scale = (high - low) / 255.0f;
    if (scale > 0) zero = std::clamp(std::nearbyint(-128.0f - low / scale), -128.0f, 127.0f);
  }
  if (in.mode == IntActivation::kStatic)
    scale = in.static_scale, zero = static_cast<float>(in.static_zero);
  if (scale == 0) return row;
  for (int64_t i = 0; i < k; ++i) {
    const float q = std::clamp(std::nearbyint(x[column(i)] / scale) + zero, -128.0f, 127.0f);
    row.value[i] = (static_cast<double>(q) - zero) * scale;
  }
  return row;
}

std::vector<float> run(const IntKernels& kernels, const IntWeights& w, const IntInput& in,
                       int workers, const float* bias = nullptr, int64_t ldy = 0) {
  if (ldy == 0) ldy = w.n;
  Guarded y((in.m > 0 ? (in.m - 1) * ldy + w.n : 0) * 4);
  Guarded workspace(int_workspace_bytes(w, in.m, in.mode, workers));
  const float untouched = 12345.0f;
  for (int64_t i = 0; in.m > 0 && i < (in.m - 1) * ldy + w.n; ++i) y.as<float>()[i] = untouched;
  IntOutput out;
  out.y = y.as<float>();
  out.ldy = ldy;
  out.bias = bias;
  for (int i = 0; i < workers; ++i) kernels.quantize(&w, &in, workspace.as<void>(), i, workers);
  for (int i = 0; i < workers; ++i) kernels.gemm(&w, &in, &out, workspace.as<void>(), i, workers);
  std::vector<float> result(in.m * w.n);
  for (int64_t m = 0; m < in.m; ++m) {
    std::memcpy(result.data() + m * w.n, y.as<float>() + m * ldy, w.n * 4);
    for (int64_t i = w.n; m + 1 < in.m && i < ldy; ++i)
      EXPECT_EQ(y.as<float>()[m * ldy + i], untouched);
  }
  return result;
}

void check(const Matrix& a, const IntInput& in, const std::vector<float>& y,
           const std::string& what) {
  const double gamma = (2.0 * static_cast<double>(a.groups) + 16.0) * 0x1p-24 *
                       (in.mode == IntActivation::kExact ? 2 : 1);
  std::vector<int> group_of(a.spec.k);
  for (int64_t g = 0; g < a.groups; ++g) {
    for (int64_t i = int_detail::group_begin(a.spec, g); i < int_detail::group_begin(a.spec, g + 1);
         ++i) {
      group_of[i] = static_cast<int>(g);
    }
  }
  for (int64_t m = 0; m < in.m; ++m) {
    const OracleRow row = round_row(a, in, m);
    for (int64_t n = 0; n < a.spec.n; ++n) {
      double sum = 0, size = 0, steps = 0;
      for (int64_t i = 0; i < a.spec.k; ++i) {
        const int64_t at = n * a.groups + group_of[i];
        const double code = a.codes[n * a.spec.k + (a.spec.perm ? a.perm[i] : i)],
                     scale = a.scales[at];
        double w, magnitude;
        if (a.spec.zero_kind == IntZeroKind::kOffset) {
          w = scale * code + a.zeros[at];
          magnitude = std::fabs(scale * code) + std::fabs(a.zeros[at]);
        } else {
          w = scale * (code - (a.spec.zero_kind == IntZeroKind::kInteger ? a.zeros[at]
                                                                         : a.spec.zero_constant));
          magnitude = std::fabs(w);
        }
        sum += row.value[i] * w;
        size += std::fabs(row.value[i]) * magnitude;
        steps += row.step[i] * magnitude;
      }
      const double bound = gamma * size + steps + 1e-44;
      ASSERT_LE(std::fabs(y[m * a.spec.n + n] - sum), bound)
          << what << " row " << m << " column " << n;
    }
  }
}

struct Isa {
  const char* name;
  const IntKernels* (*kernels)();
  bool (*present)();
};

const Isa kIsas[] = {
    {"portable", &int_test_kernels_portable, [] { return true; }},
    {"avx2", &int_test_kernels_avx2,
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") != 0; }},
    {"avx512", &int_test_kernels_avx512,
     [] {
       return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
              __builtin_cpu_supports("avx512vnni") != 0;
     }},
    {"avx512-emulated", &int_test_kernels_emulated, [] { return true; }},
};

class IntGemm : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!GetParam().present()) GTEST_SKIP() << "this machine has no " << GetParam().name;
    kernels_ = GetParam().kernels();
    ASSERT_STREQ(kernels_->isa, GetParam().name);
  }
  const IntKernels* kernels_ = nullptr;
};

std::vector<float> make_x(int64_t m, int64_t k, unsigned seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(m * k);
  for (auto& v : x) v = normal(rng);
  if (k > 3) {
    for (int64_t r = 0; r < m; ++r) x[r * k + 3] *= 40.0f;  // an outlier channel
  }
  return x;
}

Guarded* guarded_copy(const std::vector<float>& x) {
  auto* g = new Guarded(static_cast<int64_t>(x.size()) * 4);
  if (!x.empty()) std::memcpy(g->as<void>(), x.data(), x.size() * 4);
  return g;
}

void sweep(const IntKernels& kernels, const Matrix& a, IntActivation mode, int64_t m, int workers) {
  Packed packed(a);
  const auto x = make_x(m, a.spec.k, 7);
  const std::unique_ptr<Guarded> held(guarded_copy(x));
  IntInput in;
  in.mode = mode;
  in.m = m;
  in.x = held->as<float>();
  in.ldx = a.spec.k;
  in.static_scale = 0.05f;
  in.static_zero = mode == IntActivation::kStatic && a.spec.sums ? -17 : 0;
  std::mt19937 rng(3);
  std::vector<int8_t> codes(m * a.spec.k);
  for (auto& c : codes) c = static_cast<int8_t>(rng() % 256 - 128);
  std::vector<float> scales(m, 0.02f);
  std::vector<int32_t> zeros(m, 11);
  in.codes = codes.data();
  in.ld_codes = a.spec.k;
  in.code_scales = scales.data();
  in.code_zeros = a.spec.sums ? zeros.data() : nullptr;
  const std::string what = "N " + std::to_string(a.spec.n) + " K " + std::to_string(a.spec.k) +
                           " bits " + std::to_string(a.spec.bits) + " groups " +
                           std::to_string(a.groups) + " mode " +
                           std::to_string(static_cast<int>(mode)) + " M " + std::to_string(m);
  check(a, in, run(kernels, packed.w, in, workers), what);
}

TEST_P(IntGemm, AgreesWithOracleForEveryRowCount) {
  for (int bits : {4, 8}) {
    const Matrix a =
        make_matrix(70, 200, bits, 64, IntZeroKind::kConstant, IntScaleType::kF16, false, true, 1);
    for (int64_t m : {0, 1, 2, 3, 4, 5, 7, 8, 12, 13, 16, 17, 33, 64}) {
      for (int mode = 0; mode <= 5; ++mode)
        sweep(*kernels_, a, static_cast<IntActivation>(mode), m, 2);
    }
  }
}

TEST_P(IntGemm, AgreesWithOracleForOddShapesAndGroups) {
  unsigned seed = 10;
  for (int64_t k : {1, 2, 3, 7, 8, 9, 31, 33, 129, 515, 1100}) {
    for (int group : {-1, 0, 32, 64, 128, 5, 37}) {
      const int64_t n = 1 + seed % 67;
      const int bits = 2 + static_cast<int>(seed % 7);
      const auto zero = static_cast<IntZeroKind>(seed % 3);
      const auto scale = static_cast<IntScaleType>(seed / 3 % 3);
      const Matrix a =
          make_matrix(n, k, bits, group, zero, scale, seed % 2 == 0, seed % 5 == 0, seed);
      for (int mode : {0, 1, 3, 4, 5})
        sweep(*kernels_, a, static_cast<IntActivation>(mode), 1 + seed % 5 * 4, 3);
      ++seed;
    }
  }
}

TEST_P(IntGemm, AgreesWithOracleForEveryZeroAndScaleKind) {
  for (int bits : {3, 4, 5, 8}) {
    for (int zero = 0; zero < 3; ++zero) {
      for (int scale = 0; scale < 3; ++scale) {
        const Matrix a = make_matrix(33, 160, bits, 32, static_cast<IntZeroKind>(zero),
                                     static_cast<IntScaleType>(scale), true, true, 5);
        for (int mode = 0; mode <= 5; ++mode)
          sweep(*kernels_, a, static_cast<IntActivation>(mode), 3, 1);
      }
    }
  }
}

TEST_P(IntGemm, LongGroupsAndManyRowsAgree) {
  // More rows than one run holds, a group too long to unpack, three digits.
  const Matrix a =
      make_matrix(3, 700, 4, -1, IntZeroKind::kInteger, IntScaleType::kF32, true, false, 21);
  sweep(*kernels_, a, IntActivation::kExact, 300, 2);
  sweep(*kernels_, a, IntActivation::kGroup, 900, 2);
}

// Extreme codes: int16 and int32 sums must not saturate or wrap. All terms 1 x 127, so the answer
// is exact.
TEST_P(IntGemm, ExtremeCodesAreExact) {
  for (int bits : {4, 8}) {
    const int64_t k = 32768;
    Matrix a =
        make_matrix(33, k, bits, -1, IntZeroKind::kConstant, IntScaleType::kF32, false, true, 1);
    a.spec.zero_constant = 0;
    std::fill(a.codes.begin(), a.codes.end(), static_cast<uint8_t>((1 << bits) - 1));
    std::fill(a.scales.begin(), a.scales.end(), 1.0f);
    Packed packed(a);
    for (int code : {-128, 127}) {
      for (int64_t m : {1, 4, 13}) {
        std::vector<int8_t> codes(m * k, static_cast<int8_t>(code));
        const float one = 1.0f;
        IntInput in;
        in.mode = IntActivation::kCodes;
        in.m = m;
        in.codes = codes.data();
        in.ld_codes = k;
        in.code_scales = &one;
        in.one_scale = 1;
        const auto y = run(*kernels_, packed.w, in, 2);
        for (float v : y) ASSERT_EQ(v, static_cast<float>(k * code * ((1 << bits) - 1)));
      }
    }
  }
}

// 0/1 protocol: one activation and one weight are 1, all others 0: y shows exactly where each code
// is read.
TEST_P(IntGemm, EveryCodeIsReadFromItsPlace) {
  for (int bits : {4, 8}) {
    const int64_t n = 37, k = 45;
    Matrix a =
        make_matrix(n, k, bits, 16, IntZeroKind::kConstant, IntScaleType::kF16, true, false, 9);
    a.spec.zero_constant = 0;
    std::fill(a.codes.begin(), a.codes.end(), uint8_t{0});
    std::fill(a.scales.begin(), a.scales.end(), 1.0f);
    for (int64_t i = 0; i < n * k; i += 1)
      a.codes[i] = static_cast<uint8_t>((i * 7 + i / k) % (1 << bits));
    Packed packed(a);
    std::vector<int8_t> eye(k * k, 0);
    for (int64_t i = 0; i < k; ++i) eye[i * k + i] = 1;
    const float one = 1.0f;
    IntInput in;
    in.mode = IntActivation::kCodes;
    in.m = k;
    in.codes = eye.data();
    in.ld_codes = k;
    in.code_scales = &one;
    in.one_scale = 1;
    const auto y = run(*kernels_, packed.w, in, 3);
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = 0; j < n; ++j)
        ASSERT_EQ(y[i * n + j], static_cast<float>(a.codes[j * k + i])) << i << " " << j;
    }
  }
}

TEST_P(IntGemm, BitsDependOnTheRowAlone) {
  for (int bits : {4, 8}) {
    const Matrix a =
        make_matrix(130, 300, bits, 128, IntZeroKind::kInteger, IntScaleType::kBf16, true, true, 4);
    Packed packed(a);
    const auto x = make_x(23, 300, 5);
    for (int mode : {0, 1, 2, 3, 5}) {
      IntInput in;
      in.mode = static_cast<IntActivation>(mode);
      in.m = 23;
      in.x = x.data();
      in.ldx = 300;
      in.static_scale = 0.1f;
      const auto whole = run(*kernels_, packed.w, in, 1);
      for (int workers : {2, 3, 7, 40}) {
        EXPECT_EQ(0, std::memcmp(whole.data(), run(*kernels_, packed.w, in, workers).data(),
                                 whole.size() * 4));
      }
      for (int64_t begin : {0, 1, 5, 22}) {
        for (int64_t m : {1, 4, 9}) {
          if (begin + m > 23) continue;
          in.x = x.data() + begin * 300;
          in.m = m;
          const auto part = run(*kernels_, packed.w, in, 2);
          EXPECT_EQ(0, std::memcmp(whole.data() + begin * 130, part.data(), part.size() * 4))
              << begin << " " << m;
        }
      }
    }
  }
}

TEST_P(IntGemm, ZeroTinyHugeAndNonFiniteRows) {
  const int64_t k = 96;
  const Matrix a =
      make_matrix(40, k, 4, 32, IntZeroKind::kConstant, IntScaleType::kF16, false, true, 6);
  Packed packed(a);
  auto x = make_x(7, k, 8);
  for (int64_t i = 0; i < k; ++i) {
    x[0 * k + i] = 0.0f;
    x[1 * k + i] *= 1e-30f;
    x[2 * k + i] *= 1e33f;
    x[5 * k + i] *= 1e-38f;
  }
  x[3 * k + 50] = std::numeric_limits<float>::quiet_NaN();
  x[4 * k + 95] = -std::numeric_limits<float>::infinity();
  for (int mode : {0, 1, 2, 3, 5}) {
    IntInput in;
    in.mode = static_cast<IntActivation>(mode);
    in.m = 7;
    in.x = x.data();
    in.ldx = k;
    const auto y = run(*kernels_, packed.w, in, 2);
    for (int64_t n = 0; n < 40; ++n) {
      EXPECT_EQ(y[0 * 40 + n], 0.0f);
      EXPECT_TRUE(std::isnan(y[3 * 40 + n]));
      EXPECT_TRUE(std::isnan(y[4 * 40 + n]));
      EXPECT_TRUE(std::isfinite(y[2 * 40 + n])) << "mode " << mode;
    }
    if (mode == 0 || mode == 5) {
      for (int64_t row : {1, 2, 5, 6}) {
        IntInput one = in;
        one.m = 1;
        one.x = x.data() + row * k;
        const std::vector<float> part(y.begin() + row * 40, y.begin() + (row + 1) * 40);
        check(a, one, part, "row " + std::to_string(row) + " mode " + std::to_string(mode));
      }
    }
  }
}

TEST_P(IntGemm, BiasAndLeadingDimension) {
  const Matrix a =
      make_matrix(45, 64, 4, 32, IntZeroKind::kConstant, IntScaleType::kF16, false, false, 6);
  Packed packed(a);
  const auto x = make_x(9, 70, 8);
  std::vector<float> bias(45);
  for (int i = 0; i < 45; ++i) bias[i] = static_cast<float>(i) - 20.0f;
  IntInput in;
  in.m = 9;
  in.x = x.data();
  in.ldx = 70;
  const auto plain = run(*kernels_, packed.w, in, 2);
  const auto biased = run(*kernels_, packed.w, in, 2, bias.data(), 51);
  for (int64_t i = 0; i < 9 * 45; ++i) EXPECT_EQ(biased[i], plain[i] + bias[i % 45]);
}

TEST_P(IntGemm, ZeroPointsWithoutSumsAreNeverSilentlyWrong) {
  const Matrix a =
      make_matrix(5, 16, 8, -1, IntZeroKind::kConstant, IntScaleType::kF32, false, false, 6);
  Packed packed(a);
  const auto x = make_x(2, 16, 8);
  IntInput in;
  in.mode = IntActivation::kTokenAsym;
  in.m = 2;
  in.x = x.data();
  in.ldx = 16;
  for (float v : run(*kernels_, packed.w, in, 1)) EXPECT_TRUE(std::isnan(v));
}

TEST_P(IntGemm, RealThreadsGiveTheSameBits) {
  const Matrix a =
      make_matrix(200, 256, 4, 128, IntZeroKind::kConstant, IntScaleType::kF16, false, false, 6);
  Packed packed(a);
  const auto x = make_x(3, 256, 8);
  IntInput in;
  in.m = 3;
  in.x = x.data();
  in.ldx = 256;
  const auto expected = run(*kernels_, packed.w, in, 1);
  Guarded workspace(int_workspace_bytes(packed.w, 3, in.mode, 4));
  std::vector<float> y(3 * 200);
  IntOutput out;
  out.y = y.data();
  out.ldy = 200;
  for (int phase = 0; phase < 2; ++phase) {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        if (phase == 0) kernels_->quantize(&packed.w, &in, workspace.as<void>(), i, 4);
        if (phase == 1) kernels_->gemm(&packed.w, &in, &out, workspace.as<void>(), i, 4);
      });
    }
    for (auto& t : threads) t.join();
  }
  EXPECT_EQ(0, std::memcmp(expected.data(), y.data(), y.size() * 4));
}

// f16 scales through the kernels: every pattern, subnormals included (w = scale * 1, x = 127
// exactly representable).
TEST_P(IntGemm, EveryHalfScaleIsDecodedExactly) {
  const int64_t n = 63488;  // all finite patterns: 2 * 31 * 1024
  Matrix a = make_matrix(n, 1, 4, -1, IntZeroKind::kConstant, IntScaleType::kF16, false, false, 6);
  a.spec.zero_constant = 0;
  std::fill(a.codes.begin(), a.codes.end(), uint8_t{1});
  for (int64_t i = 0; i < n; ++i) {
    const int64_t magnitude = i % 31744;
    const double value = magnitude < 1024 ? std::ldexp(static_cast<double>(magnitude), -24)
                                          : std::ldexp(static_cast<double>(1024 + magnitude % 1024),
                                                       static_cast<int>(magnitude / 1024) - 25);
    a.scales[i] = static_cast<float>(i < 31744 ? value : -value);
  }
  EXPECT_EQ(int_scale_type(a.scales.data(), n), IntScaleType::kF16);
  Packed packed(a);
  const int8_t code = 1;
  const float one = 1.0f;
  IntInput in;
  in.mode = IntActivation::kCodes;
  in.m = 1;
  in.codes = &code;
  in.ld_codes = 1;
  in.code_scales = &one;
  const auto y = run(*kernels_, packed.w, in, 1);
  for (int64_t i = 0; i < n; ++i) ASSERT_EQ(y[i], a.scales[i]) << i;
}

INSTANTIATE_TEST_SUITE_P(AllIsas, IntGemm, ::testing::ValuesIn(kIsas), [](const auto& isa) {
  std::string name = isa.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(IntPack, RefusesWhatItCannotHold) {
  IntSpec s;
  s.n = 8;
  s.k = 40000;
  EXPECT_STREQ(int_check(s), "a group has more than 32768 columns: split it and repeat its scales");
  s.group_size = 128;
  EXPECT_EQ(int_check(s), nullptr);
  s.bits = 9;
  EXPECT_NE(int_check(s), nullptr);
  s.bits = 4;
  const int32_t falling[] = {0, 100, 50, 40000};
  s.group_begin = falling;
  s.num_groups = 3;
  EXPECT_STREQ(int_check(s), "group begins must not fall");
}

TEST(IntPack, ScaleTypeIsTheNarrowestExactOne) {
  const float f16[] = {0.5f, 0x1p-24f, 65504.0f}, bf16[] = {0x1p-60f, 1.5f}, f32[] = {0.1f};
  EXPECT_EQ(int_scale_type(f16, 3), IntScaleType::kF16);
  EXPECT_EQ(int_scale_type(bf16, 2), IntScaleType::kBf16);
  EXPECT_EQ(int_scale_type(f32, 1), IntScaleType::kF32);
}

TEST(IntPack, WorkspaceNeverShrinks) {
  const Matrix a =
      make_matrix(70, 200, 8, 64, IntZeroKind::kConstant, IntScaleType::kF16, false, true, 1);
  Packed packed(a);
  int64_t last = 0;
  for (int64_t m = 0; m < 2000; m += 7) {
    const int64_t bytes = int_workspace_bytes(packed.w, m, IntActivation::kExact, 2);
    EXPECT_GE(bytes, last);
    EXPECT_EQ(bytes % 64, 0);
    last = bytes;
  }
}

}  // namespace
}  // namespace cpu
}  // namespace pluq
