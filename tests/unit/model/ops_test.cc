// SPDX-License-Identifier: Apache-2.0
// Every operator of core/model/cpu/ops.h against the formula in double, for each instruction set
// this machine has. A level it lacks is skipped and counted.
#include "model/cpu/ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "device/isa.h"

namespace pluq {
namespace {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

class Ops : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (best_isa(cpu_info().features) < GetParam())
      GTEST_SKIP() << "this machine has no " << isa_name(GetParam());
  }
  const CpuOps& ops() const { return cpu_ops(GetParam()); }

  std::vector<float> normal(int64_t n, float scale = 1) {
    std::normal_distribution<float> d(0, scale);
    std::vector<float> out(static_cast<size_t>(n));
    for (float& x : out) x = d(random_);
    return out;
  }
  std::mt19937 random_{7};
};

// Arguments at which activations are hard: zeros, tiny, the bends, saturation on both sides, and a
// fine grid.
std::vector<float> hard_arguments() {
  std::vector<float> out{0.0F,  -0.0F,  1e-38F, -1e-38F, 1e-6F, -1e-6F,
                         87.5F, -87.5F, 200.0F, -200.0F, 3e4F,  -3e4F};
  for (int i = -600; i <= 600; ++i) out.push_back(static_cast<float>(i) * 0.0217F);
  return out;
}

TEST_P(Ops, NameOfTheTable) { EXPECT_EQ(ops().isa, isa_name(GetParam())); }

TEST_P(Ops, RmsNorm) {
  for (const int64_t k : {1, 7, 16, 64, 100, 1031}) {
    const std::vector<float> x = normal(3 * k, 5), weight = normal(k);
    for (const float eps : {0.0F, 1e-6F, 3.0F}) {
      std::vector<float> y(x.size(), kPoison), in_place = x;
      ops().rms_norm(x.data(), weight.data(), y.data(), 3, k, eps);
      ops().rms_norm(in_place.data(), weight.data(), in_place.data(), 3, k, eps);
      EXPECT_EQ(std::memcmp(y.data(), in_place.data(), y.size() * 4), 0) << "k " << k;
      for (int64_t r = 0; r < 3; ++r) {
        double sum = 0;
        for (int64_t i = 0; i < k; ++i)
          sum += std::pow(static_cast<double>(x[static_cast<size_t>(r * k + i)]), 2);
        const double scale = 1 / std::sqrt(sum / static_cast<double>(k) + static_cast<double>(eps));
        for (int64_t i = 0; i < k; ++i) {
          const auto at = static_cast<size_t>(r * k + i);
          const double want = x[at] * scale * weight[static_cast<size_t>(i)];
          ASSERT_NEAR(y[at], want, 1e-6 * std::abs(want))
              << "k " << k << " eps " << eps << " row " << r << " at " << i;
        }
      }
    }
  }
  // A row of zeros stays finite through eps.
  std::vector<float> zero(33, 0.0F), ones(33, 1.0F), y(33, kPoison);
  ops().rms_norm(zero.data(), ones.data(), y.data(), 1, 33, 1e-6F);
  for (const float v : y) EXPECT_EQ(v, 0.0F);
}

TEST_P(Ops, AddAndScale) {
  for (const int64_t n : {0, 1, 15, 16, 17, 257}) {
    const std::vector<float> x = normal(n + 1), y = normal(n + 1);
    std::vector<float> sum = x, scaled_sum = x, scaled = x;
    ops().add(sum.data(), y.data(), n);
    ops().add_scaled(scaled_sum.data(), y.data(), -0.3F, n);
    ops().scale(scaled.data(), 1.7F, n);
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      EXPECT_EQ(sum[i], x[i] + y[i]);
      EXPECT_EQ(scaled[i], x[i] * 1.7F);
      EXPECT_NEAR(scaled_sum[i], static_cast<double>(x[i]) - 0.3 * static_cast<double>(y[i]),
                  2e-7 * (1 + std::abs(y[i])));
    }
    const auto end = static_cast<size_t>(n);  // nothing behind the end is touched
    EXPECT_EQ(sum[end], x[end]);
    EXPECT_EQ(scaled_sum[end], x[end]);
    EXPECT_EQ(scaled[end], x[end]);
  }
}

TEST_P(Ops, Softcap) {
  for (const float cap : {0.5F, 30.0F, 50.0F}) {
    const std::vector<float> x = hard_arguments();
    std::vector<float> y = x;
    ops().softcap(y.data(), cap, static_cast<int64_t>(y.size()));
    for (size_t i = 0; i < x.size(); ++i) {
      // Absolute at the scale of the cap, as scores are: tanh by e^-2|x| loses relative accuracy
      // near 0 only.
      const double want = cap * std::tanh(static_cast<double>(x[i]) / static_cast<double>(cap));
      ASSERT_NEAR(y[i], want, 2e-7 * static_cast<double>(cap)) << "cap " << cap << " at " << x[i];
      ASSERT_LE(std::abs(y[i]), cap);
    }
  }
}

using Activate = void (*CpuOps::*)(float*, const float*, int64_t);

void expect_activation(const CpuOps& ops, Activate activate, double (*formula)(double)) {
  const std::vector<float> gate = hard_arguments();
  std::vector<float> up(gate.size()), got = gate;
  for (size_t i = 0; i < up.size(); ++i) up[i] = 0.25F + static_cast<float>(i % 7) - 3;
  (ops.*activate)(got.data(), up.data(), static_cast<int64_t>(got.size()));
  for (size_t i = 0; i < gate.size(); ++i) {
    const double x = gate[i], want = formula(x) * up[i];
    ASSERT_NEAR(got[i], want, 5e-7 * std::abs(x * up[i]) + 1e-37) << "at " << x;
  }
}

TEST_P(Ops, SiluMul) {
  expect_activation(ops(), &CpuOps::silu_mul, [](double x) { return x / (1 + std::exp(-x)); });
}

TEST_P(Ops, GeluTanhMul) {
  expect_activation(ops(), &CpuOps::gelu_tanh_mul, [](double x) {
    return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  });
}

TEST_P(Ops, GeluMul) {
  expect_activation(ops(), &CpuOps::gelu_mul,
                    [](double x) { return x / 2 * std::erfc(-x / std::sqrt(2.0)); });
}

TEST_P(Ops, RopeRotatesPairsAndLeavesTheRest) {
  struct Case {
    int64_t heads, head_dim, half;
  };
  for (const Case& c :
       {Case{3, 64, 32}, Case{2, 64, 24}, Case{1, 16, 6}, Case{2, 10, 1}, Case{1, 128, 64}}) {
    const std::vector<float> x = normal(c.heads * c.head_dim), angle = normal(c.half, 3);
    std::vector<float> cos, sin, y = x;
    for (const float a : angle) {
      cos.push_back(1.2F * std::cos(a));  // scaled, as yarn does
      sin.push_back(1.2F * std::sin(a));
    }
    ops().rope(y.data(), c.heads, c.head_dim, c.half, cos.data(), sin.data());
    for (int64_t h = 0; h < c.heads; ++h) {
      for (int64_t i = 0; i < c.head_dim; ++i) {
        const auto at = static_cast<size_t>(h * c.head_dim + i),
                   pair = static_cast<size_t>(i % c.half);
        const auto half = static_cast<size_t>(c.half);
        double want = x[at];
        if (i < c.half) {
          want = static_cast<double>(x[at]) * cos[pair] -
                 static_cast<double>(x[at + half]) * sin[pair];
        } else if (i < 2 * c.half) {
          want = static_cast<double>(x[at]) * cos[pair] +
                 static_cast<double>(x[at - half]) * sin[pair];
        }
        ASSERT_NEAR(y[at], want, i < 2 * c.half ? 1e-6 : 0)
            << "head_dim " << c.head_dim << " half " << c.half << " at " << i;
      }
    }
  }
}

// A number as a binary format of `mantissa` stored bits and smallest normal exponent `low` has it:
// nearest, ties to even, infinity from half a step beyond `largest` on.
double rounded(double x, int mantissa, int low, double largest) {
  if (!std::isfinite(x) || x == 0) return x;
  const double step = std::ldexp(1.0, std::max(std::ilogb(x), low) - mantissa);
  const double r = std::nearbyint(x / step) * step;
  return std::abs(r) > largest ? std::copysign(std::numeric_limits<double>::infinity(), x) : r;
}

double rounded_to(uint32_t dtype, float x) {
  if (dtype == PLUQ_DTYPE_F16) return rounded(x, 10, -14, 65504);
  if (dtype == PLUQ_DTYPE_BF16) return rounded(x, 7, -126, 3.3895313892515355e38);
  return x;
}

double decoded(uint32_t dtype, const std::byte* base, int64_t at) {
  if (dtype == PLUQ_DTYPE_F32) {
    float value;
    std::memcpy(&value, base + at * 4, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, base + at * 2, 2);
  const int mantissa = dtype == PLUQ_DTYPE_F16 ? 10 : 7, bias = dtype == PLUQ_DTYPE_F16 ? 15 : 127;
  const int exponent = (bits & 0x7fff) >> mantissa, special = dtype == PLUQ_DTYPE_F16 ? 31 : 255;
  const double fraction = std::ldexp(static_cast<double>(bits & ((1 << mantissa) - 1)), -mantissa);
  double value =
      exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
  if (exponent == special)
    value = fraction == 0 ? std::numeric_limits<double>::infinity() : std::nan("");
  return (bits & 0x8000) != 0 ? -value : value;
}

// The value of an 8-bit code.
double decoded8(uint32_t dtype, uint8_t code) {
  if (dtype == PLUQ_DTYPE_I8) return static_cast<int8_t>(code);
  const int mantissa = dtype == PLUQ_DTYPE_F8_E4M3 ? 3 : 2, bias = mantissa == 3 ? 7 : 15;
  const int exponent = (code & 0x7f) >> mantissa;
  const double fraction = std::ldexp(static_cast<double>(code & ((1 << mantissa) - 1)), -mantissa);
  if (mantissa == 3 ? (code & 0x7f) == 0x7f : exponent == 31) {
    return mantissa == 2 && fraction == 0 ? std::numeric_limits<double>::infinity() : std::nan("");
  }
  const double value =
      exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
  return (code & 0x80) != 0 ? -value : value;
}

// The value of the finite code nearest to x, the even one of two; what is beyond them all clamps.
double rounded8(uint32_t dtype, double x) {
  const double limit = dtype == PLUQ_DTYPE_F8_E4M3   ? 448
                       : dtype == PLUQ_DTYPE_F8_E5M2 ? 57344
                                                     : 128;
  x = std::clamp(x, -limit, std::min(limit, dtype == PLUQ_DTYPE_I8 ? 127.0 : limit));
  double best = 0, distance = std::numeric_limits<double>::infinity();
  bool even = false;
  for (int code = 0; code < 256; ++code) {
    const double value = decoded8(dtype, static_cast<uint8_t>(code));
    if (!std::isfinite(value)) continue;
    const double d = std::abs(value - x);
    if (d < distance || (d == distance && !even)) {
      best = value;
      distance = d;
      even = code % 2 == 0;
    }
  }
  return best;
}

bool is_byte(uint32_t dtype) {
  return dtype == PLUQ_DTYPE_F8_E4M3 || dtype == PLUQ_DTYPE_F8_E5M2 || dtype == PLUQ_DTYPE_I8;
}

// A cache of two layers whose blocks lie in another order than their tokens.
struct Cache {
  KvView view;
  std::vector<int32_t> table;
  std::vector<std::byte> k, v;
  std::vector<float> k_scale, v_scale;

  Cache(uint32_t dtype, int64_t tokens, int64_t kv_heads, int64_t head_dim,
        bool token_scales = false) {
    const int64_t used = (tokens + kKvBlock - 1) / kKvBlock;
    view.dtype = dtype;
    view.num_blocks = used + 2;
    view.kv_heads = kv_heads;
    view.head_dim = head_dim;
    for (int64_t b = 0; b < used; ++b) table.push_back(static_cast<int32_t>(used - b));
    const int64_t element = dtype == PLUQ_DTYPE_F32 ? 4 : is_byte(dtype) ? 1 : 2;
    k.assign(static_cast<size_t>(2 * view.num_blocks * kv_heads * kKvBlock * head_dim * element),
             std::byte{0xff});  // NaN
    v = k;
    view.table = table.data();
    view.k = k.data();
    view.v = v.data();
    if (!is_byte(dtype)) return;
    view.token_scales = token_scales;
    k_scale.assign(static_cast<size_t>(2 * view.num_blocks * kv_heads * kKvBlock), kPoison);
    v_scale = k_scale;
    for (size_t i = 0; !token_scales && i < static_cast<size_t>(2 * kv_heads); ++i) {
      const float unit = dtype == PLUQ_DTYPE_I8 ? 0.03F : 0.011F;
      k_scale[i] = unit * static_cast<float>(i + 1);
      v_scale[i] = unit * static_cast<float>(2 * i + 1);
    }
    view.k_scale = k_scale.data();
    view.v_scale = v_scale.data();
  }
  double scale(bool value, int64_t layer, int64_t token, int64_t head) const {
    if (!is_byte(view.dtype)) return 1;
    return (value ? v_scale : k_scale)[static_cast<size_t>(view.scale(layer, token, head))];
  }
  double element(bool value, int64_t at) const {
    const std::byte* base = value ? v.data() : k.data();
    return is_byte(view.dtype) ? decoded8(view.dtype, static_cast<uint8_t>(base[at]))
                               : decoded(view.dtype, base, at);
  }
  double key(int64_t layer, int64_t token, int64_t head, int64_t d) const {
    return scale(false, layer, token, head) *
           element(false, view.block(layer, token, head) + d * kKvBlock + token % kKvBlock);
  }
  double value(int64_t layer, int64_t token, int64_t head, int64_t d) const {
    return scale(true, layer, token, head) *
           element(true, view.block(layer, token, head) + token % kKvBlock * view.head_dim + d);
  }
};

constexpr uint32_t kDtypes[] = {PLUQ_DTYPE_F32, PLUQ_DTYPE_F16, PLUQ_DTYPE_BF16};

TEST_P(Ops, StoreKvRoundsToNearestEven) {
  std::vector<float> special{0.0F,
                             -0.0F,
                             1.0F,
                             65504.0F,
                             65519.9F,
                             65520.0F,
                             -1e6F,
                             3.4e38F,
                             6e-8F,
                             2.9e-8F,
                             3e-8F,
                             6.1e-5F,
                             -6.0e-5F,
                             1e-40F,
                             1.0F + 0x1p-11F,
                             1.0F + 0x3p-11F,
                             1.0F + 0x1p-8F,
                             1.0F + 0x3p-8F,
                             std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity()};
  for (const uint32_t dtype : kDtypes) {
    const int64_t heads = 3, d = 40, tokens = 21;
    Cache cache(dtype, tokens, heads, d);
    std::vector<float> x = normal(heads * d);
    std::copy(special.begin(), special.end(), x.begin());
    for (const int64_t token : {0, 15, 16, 20}) {
      for (const bool value : {false, true}) {
        ops().store_kv(cache.view, value, 1, token, x.data());
        for (int64_t h = 0; h < heads; ++h) {
          for (int64_t i = 0; i < d; ++i) {
            const float given = x[static_cast<size_t>(h * d + i)];
            const double got = value ? cache.value(1, token, h, i) : cache.key(1, token, h, i);
            ASSERT_EQ(got, rounded_to(dtype, given)) << "dtype " << dtype << " value " << given;
            ASSERT_EQ(std::signbit(got), std::signbit(given));
          }
        }
      }
    }
    // Only these tokens of layer 1 were written.
    EXPECT_TRUE(std::isnan(cache.key(0, 0, 0, 0)) && std::isnan(cache.key(1, 1, 0, 0)) &&
                std::isnan(cache.value(1, 14, 2, d - 1)));
    x.assign(x.size(), kPoison);
    ops().store_kv(cache.view, false, 1, 3, x.data());
    EXPECT_TRUE(std::isnan(cache.key(1, 3, 0, 0)));
  }
}

constexpr uint32_t kByteTypes[] = {PLUQ_DTYPE_F8_E4M3, PLUQ_DTYPE_F8_E5M2, PLUQ_DTYPE_I8};

// Every code, every border between two codes and its neighbours, and values of all sizes.
std::vector<float> byte_arguments(uint32_t dtype) {
  std::vector<float> out{0.0F, -0.0F, 1e-30F, -1e-30F, 1e9F, -1e9F, 3e38F, -3e38F};
  std::vector<double> values;
  for (int code = 0; code < 256; ++code) {
    const double value = decoded8(dtype, static_cast<uint8_t>(code));
    if (std::isfinite(value)) values.push_back(value);
  }
  std::sort(values.begin(), values.end());
  for (size_t i = 0; i < values.size(); ++i) {
    const double border = i + 1 < values.size() ? (values[i] + values[i + 1]) / 2 : values[i] * 1.1;
    for (const double x : {values[i], border}) {
      const auto f = static_cast<float>(x);
      for (const float y : {f, std::nextafter(f, 1e30F), std::nextafter(f, -1e30F)})
        out.push_back(y);
    }
  }
  return out;
}

// Codes with given scales are those of the nearest value, for every code and border.
TEST_P(Ops, StoreKvOfBytesRoundsToNearestEvenAndClamps) {
  for (const uint32_t dtype : kByteTypes) {
    std::vector<float> x = byte_arguments(dtype);
    const int64_t heads = 2, d = static_cast<int64_t>((x.size() + 1) / 2), tokens = 35;
    x.resize(static_cast<size_t>(heads * d), 1.0F);
    for (const bool unit : {true, false}) {
      Cache cache(dtype, tokens, heads, d);
      if (unit) {
        cache.k_scale.assign(cache.k_scale.size(), 1.0F);
        cache.v_scale.assign(cache.v_scale.size(), 1.0F);
      }
      for (const int64_t token : {0, 15, 16, 34}) {
        for (const bool value : {false, true}) {
          ops().store_kv(cache.view, value, 1, token, x.data());
          for (int64_t h = 0; h < heads; ++h) {
            const double scale = cache.scale(value, 1, token, h);
            for (int64_t i = 0; i < d; ++i) {
              const float given = x[static_cast<size_t>(h * d + i)];
              const float scaled = given / static_cast<float>(scale);
              const double got = value ? cache.value(1, token, h, i) : cache.key(1, token, h, i);
              ASSERT_EQ(got, rounded8(dtype, static_cast<double>(scaled)) * scale)
                  << "dtype " << dtype << " value " << given << " scale " << scale;
            }
          }
        }
      }
    }
  }
}

// Scales of tokens put the largest of each head on the last code, and a head of zeros stays zero.
TEST_P(Ops, StoreKvScalesEachHeadOfEachToken) {
  for (const uint32_t dtype : kByteTypes) {
    const int64_t heads = 3, d = 20, tokens = 33;
    Cache cache(dtype, tokens, heads, d, true);
    const double limit = dtype == PLUQ_DTYPE_I8 ? 127 : dtype == PLUQ_DTYPE_F8_E4M3 ? 448 : 57344;
    for (const int64_t token : {0, 15, 16, 32}) {
      std::vector<float> x = normal(heads * d, static_cast<float>(token + 1));
      std::fill(x.begin() + d, x.begin() + 2 * d, 0.0F);
      for (const bool value : {false, true}) {
        ops().store_kv(cache.view, value, 1, token, x.data());
        for (int64_t h = 0; h < heads; ++h) {
          const double scale = cache.scale(value, 1, token, h);
          double largest = 0;
          for (int64_t i = 0; i < d; ++i)
            largest =
                std::max(largest, std::abs(static_cast<double>(x[static_cast<size_t>(h * d + i)])));
          ASSERT_NEAR(scale, h == 1 ? 1.0 : largest / limit, 1e-6 * scale);
          for (int64_t i = 0; i < d; ++i) {
            const float scaled = x[static_cast<size_t>(h * d + i)] / static_cast<float>(scale);
            const double got = value ? cache.value(1, token, h, i) : cache.key(1, token, h, i);
            ASSERT_EQ(got, rounded8(dtype, static_cast<double>(scaled)) * scale);
          }
        }
      }
    }
    EXPECT_TRUE(std::isnan(cache.scale(false, 1, 1, 0)) && std::isnan(cache.scale(true, 0, 0, 0)));
  }
}

struct Shape {
  int64_t heads, kv_heads, head_dim, start, count, window;
  float scale, softcap;
};

// out [count, heads * head_dim] of the formula, from what the cache holds.
std::vector<double> attention_oracle(const AttentionArgs& a, const Cache& cache) {
  const int64_t d = a.kv.head_dim, group = a.heads / a.kv.kv_heads;
  std::vector<double> out;
  for (int64_t t = 0; t < a.count; ++t) {
    for (int64_t h = 0; h < a.heads; ++h) {
      const int64_t last = a.start + t,
                    first = a.window > 0 ? std::max<int64_t>(0, last - a.window + 1) : 0;
      std::vector<double> s;
      for (int64_t key = first; key <= last; ++key) {
        double dot = 0;
        for (int64_t i = 0; i < d; ++i)
          dot += a.q[t * a.ldq + h * d + i] * cache.key(a.layer, key, h / group, i);
        dot *= static_cast<double>(a.scale);
        s.push_back(a.softcap > 0 ? a.softcap * std::tanh(dot / static_cast<double>(a.softcap))
                                  : dot);
      }
      const double largest = *std::max_element(s.begin(), s.end());
      for (double& x : s) x = std::exp(x - largest);
      const double sum = std::accumulate(s.begin(), s.end(), 0.0);
      for (int64_t i = 0; i < d; ++i) {
        double o = 0;
        for (int64_t key = first; key <= last; ++key)
          o += s[static_cast<size_t>(key - first)] / sum * cache.value(a.layer, key, h / group, i);
        out.push_back(o);
      }
    }
  }
  return out;
}

class Attention : public Ops {
 protected:
  // Fills the cache, with poison before the earliest token that any query may see.
  void fill(const Shape& s, Cache* cache) {
    const int64_t unseen = s.window > 0 ? std::max<int64_t>(0, s.start - s.window + 1) : 0;
    for (int64_t t = 0; t < s.start + s.count; ++t) {
      const int64_t n = s.kv_heads * s.head_dim;
      std::vector<float> k = normal(n), v = normal(n);
      if (t < unseen) k.assign(k.size(), kPoison);
      if (t < unseen) v.assign(v.size(), kPoison);
      ops().store_kv(cache->view, false, 1, t, k.data());
      ops().store_kv(cache->view, true, 1, t, v.data());
    }
  }

  void expect_oracle(uint32_t dtype, const Shape& s, bool token_scales = false) {
    Cache cache(dtype, s.start + s.count, s.kv_heads, s.head_dim, token_scales);
    fill(s, &cache);
    AttentionArgs a;
    a.ldq = s.heads * s.head_dim + 2 * s.kv_heads * s.head_dim;  // q lies beside k and v
    const std::vector<float> q = normal(s.count * a.ldq);
    const int64_t width = s.heads * s.head_dim, context = s.start + s.count,
                  group = s.heads / s.kv_heads;
    std::vector<float> out(static_cast<size_t>(s.count * width), kPoison), again = out;
    a.q = q.data();
    a.out = out.data();
    a.count = s.count;
    a.start = s.start;
    a.heads = s.heads;
    a.layer = 1;
    a.window = s.window;
    a.scale = s.scale;
    a.softcap = s.softcap;
    a.kv = cache.view;
    a.tile = attention_tile(context, group);
    std::vector<float> scratch(
        static_cast<size_t>(attention_scratch(context, group, s.head_dim)) + 1, kPoison);
    scratch.back() = 7;
    a.scratch = scratch.data();
    ops().attention(a, 0, 1);
    const std::vector<double> want = attention_oracle(a, cache);
    // A score is as exact as f32 holds it, and its error is one of the exponent.
    const double bound = 3e-6 * std::max(1.0, std::abs(static_cast<double>(s.scale)));
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(out[i], want[i], bound) << "dtype " << dtype << " at " << i;
    EXPECT_EQ(scratch.back(), 7) << "attention_scratch is too small";

    // The same bits for any number of workers in any order, for any tile, and when each token is a
    // decode step of its own.
    for (const int workers : {2, 3, 50}) {
      std::fill(again.begin(), again.end(), kPoison);
      a.out = again.data();
      for (int worker = workers - 1; worker >= 0; --worker) ops().attention(a, worker, workers);
      EXPECT_EQ(std::memcmp(out.data(), again.data(), out.size() * 4), 0) << workers << " workers";
    }
    for (int64_t tile = 1; tile < a.tile; ++tile) {
      std::fill(again.begin(), again.end(), kPoison);
      AttentionArgs other = a;
      other.tile = tile;
      ops().attention(other, 0, 1);
      EXPECT_EQ(std::memcmp(out.data(), again.data(), out.size() * 4), 0) << "tile " << tile;
    }
    std::fill(again.begin(), again.end(), kPoison);
    for (int64_t t = 0; t < s.count; ++t) {
      AttentionArgs one = a;
      one.q = q.data() + t * a.ldq;
      one.out = again.data() + t * width;
      one.count = 1;
      one.start = s.start + t;
      ops().attention(one, 0, 1);
    }
    EXPECT_EQ(std::memcmp(out.data(), again.data(), out.size() * 4), 0) << "token by token";
  }
};

TEST_P(Attention, CausalGroupedQueries) {
  for (const uint32_t dtype : kDtypes) {
    expect_oracle(dtype, {4, 2, 16, 0, 37, 0, 0.25F, 0});
    expect_oracle(dtype, {3, 3, 10, 5, 12, 0, 0.5F, 0});
    expect_oracle(dtype, {8, 1, 64, 100, 3, 0, 0.125F, 0});
    expect_oracle(dtype, {1, 1, 128, 0, 1, 0, 0.1F, 0});
    expect_oracle(dtype, {71, 1, 8, 14, 9, 0, 0.35F, 0});  // more heads than a tile holds rows
  }
}

TEST_P(Attention, Window) {
  for (const uint32_t dtype : kDtypes) {
    for (const int64_t window : {1, 5, 8, 16, 17, 40, 1000}) {
      expect_oracle(dtype, {4, 2, 16, 0, 37, window, 0.25F, 0});
      expect_oracle(dtype, {4, 2, 24, 63, 3, window, 0.25F, 0});
    }
  }
}

TEST_P(Attention, Softcap) {
  for (const uint32_t dtype : kDtypes) {
    expect_oracle(dtype, {4, 2, 16, 0, 21, 0, 1.0F, 2.0F});
    expect_oracle(dtype, {4, 2, 16, 30, 5, 9, 1.0F, 50.0F});
  }
}

TEST_P(Attention, ScaledBytes) {
  for (const uint32_t dtype : kByteTypes) {
    for (const bool token_scales : {false, true}) {
      expect_oracle(dtype, {4, 2, 16, 0, 37, 0, 0.25F, 0}, token_scales);
      expect_oracle(dtype, {3, 3, 10, 5, 12, 0, 0.5F, 0}, token_scales);
      expect_oracle(dtype, {8, 1, 64, 100, 3, 0, 0.125F, 0}, token_scales);
      for (const int64_t window : {1, 16, 17, 40}) {
        expect_oracle(dtype, {4, 2, 16, 0, 37, window, 0.25F, 0}, token_scales);
        expect_oracle(dtype, {4, 2, 24, 63, 3, window, 0.25F, 0}, token_scales);
      }
      expect_oracle(dtype, {4, 2, 16, 30, 5, 9, 1.0F, 50.0F}, token_scales);
    }
  }
}

// Scores far apart: the largest wins, nothing overflows.
TEST_P(Attention, LargeScores) {
  expect_oracle(PLUQ_DTYPE_F32, {2, 1, 16, 0, 20, 0, 40.0F, 0});
  expect_oracle(PLUQ_DTYPE_F32, {2, 1, 16, 0, 20, 0, -40.0F, 0});
}

std::string level_name(const ::testing::TestParamInfo<Isa>& info) {
  return std::string(isa_name(info.param));
}
INSTANTIATE_TEST_SUITE_P(Isa, Ops, ::testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         level_name);
INSTANTIATE_TEST_SUITE_P(Isa, Attention,
                         ::testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512), level_name);

}  // namespace
}  // namespace pluq
