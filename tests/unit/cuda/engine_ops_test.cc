// SPDX-License-Identifier: Apache-2.0
// The engine's operators on the emulated device, all detectors on, against double precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "checkpoint/convert.h"
#include "device/cuda/emulated_runtime.h"
#include "pluq/float8.hpp"
#include "rounding_oracle.h"

namespace pluq {
namespace {

// One rounding of a result to f16 or bf16, plus a little f32 arithmetic before it.
double bound(uint32_t dtype) { return dtype == PLUQ_DTYPE_BF16 ? 4.5e-3 : 6e-4; }

class EngineOpsTest : public ::testing::TestWithParam<uint32_t> {
 protected:
  uint32_t dtype() const { return GetParam(); }
  EngineOps& ops() { return runtime_->ops(dtype()); }

  std::vector<float> random(size_t n, float low = -1, float high = 1) {
    std::uniform_real_distribution<float> d(low, high);
    std::vector<float> out(n);
    for (float& v : out) v = d(rng_);
    return out;
  }
  // Values that the 16-bit type holds.
  std::vector<float> random16(size_t n, float low = -1, float high = 1) {
    return widen(narrow(random(n, low, high)));
  }
  std::vector<uint16_t> narrow(const std::vector<float>& v) const {
    std::vector<uint16_t> out(v.size());
    from_f32(dtype(), v, reinterpret_cast<std::byte*>(out.data()));
    return out;
  }
  std::vector<float> widen(const std::vector<uint16_t>& v) const {
    return to_f32(dtype(), std::as_bytes(std::span(v)));
  }
  template <class T>
  DeviceBuffer upload(const std::vector<T>& v) {
    DeviceBuffer out(runtime_, v.size() * sizeof(T), "test");
    runtime_->upload(out.data(), v.data(), out.bytes());
    return out;
  }
  template <class T>
  std::vector<T> download(const DeviceBuffer& b) {
    std::vector<T> out(b.bytes() / sizeof(T));
    runtime_->download(out.data(), b.data(), b.bytes());
    return out;
  }
  std::vector<float> download16(const DeviceBuffer& b) { return widen(download<uint16_t>(b)); }
  // Outputs and workspaces: nobody has written them.
  DeviceBuffer fresh(size_t bytes) { return DeviceBuffer(runtime_, bytes, "test"); }
  DeviceBuffer empty(size_t bytes) {
    DeviceBuffer out(runtime_, bytes, "test");
    runtime_->zero(out.data(), bytes);
    return out;
  }
  void near(const std::vector<float>& got, const std::vector<double>& want, double relative,
            double absolute) {
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(static_cast<double>(got[i]), want[i], std::abs(want[i]) * relative + absolute)
          << "element " << i;
    }
  }

  // The emulated device, or a GPU when tests/gpu/run.sh asks for it.
  static std::shared_ptr<DeviceRuntime> open() {
    const char* wanted = std::getenv("PLUQ_TEST_DEVICE");
    if (wanted != nullptr && std::string_view(wanted) == "cuda")
      return open_device(parse_device("cuda"));
    return std::make_shared<EmulatedRuntime>(80, PLUQ_EMU_CHECK_ALL);
  }
  std::shared_ptr<DeviceRuntime> runtime_ = open();
  std::mt19937 rng_{7};
};

std::vector<double> normed(const std::vector<float>& x, size_t from, size_t n,
                           const std::vector<float>& weight, double eps) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += static_cast<double>(x[from + i]) * x[from + i];
  const double factor = 1 / std::sqrt(sum / static_cast<double>(n) + eps);
  std::vector<double> out(n);
  for (size_t i = 0; i < n; ++i) {
    out[i] = weight.empty() ? x[from + i] : x[from + i] * factor * weight[i];
  }
  return out;
}

TEST_P(EngineOpsTest, NormsTakeRowsByListAndCopyWithoutAWeight) {
  for (const size_t hidden : {64, 130, 257}) {
    const std::vector<float> x = random(5 * hidden, -3, 3), weight = random(hidden, 0.5, 1.5);
    const std::vector<int32_t> list{4, 0, 2};
    const DeviceBuffer dx = upload(x), dw = upload(weight), dl = upload(list),
                       dy = fresh(3 * hidden * 2);
    for (const bool with_weight : {true, false}) {
      ops().rms_norm(dx.as<float>(), with_weight ? dw.as<float>() : nullptr, dl.as<int32_t>(),
                     dy.as<uint16_t>(), 3, static_cast<int64_t>(hidden), 1e-5F, nullptr);
      std::vector<double> want;
      for (const int32_t row : list) {
        const auto r = normed(x, static_cast<size_t>(row) * hidden, hidden,
                              with_weight ? weight : std::vector<float>{}, 1e-5);
        want.insert(want.end(), r.begin(), r.end());
      }
      near(download16(dy), want, bound(dtype()), 1e-6);
    }
  }
}

TEST_P(EngineOpsTest, BlocksAreAddedToTheResidual) {
  constexpr size_t kHidden = 100, kRows = 3;
  const std::vector<float> x = random(kRows * kHidden), y = random16(kRows * kHidden),
                           weight = random(kHidden);
  const std::vector<float> next = random(kHidden);
  const DeviceBuffer dy32 = upload(y), dw = upload(weight), dnext = upload(next);
  for (const bool with_weight : {true, false}) {
    for (const bool wide : {true, false}) {
      const DeviceBuffer dx = upload(x);
      const float* w = with_weight ? dw.as<float>() : nullptr;
      if (wide) {
        ops().add_block(dx.as<float>(), dy32.as<const float>(), w, kRows, kHidden, 1e-6F, 0.25F,
                        nullptr, nullptr, nullptr);
      } else {
        // With the norm of the sum, over y itself.
        const DeviceBuffer dh = upload(narrow(y));
        ops().add_block(dx.as<float>(), dh.as<const uint16_t>(), w, kRows, kHidden, 1e-6F, 0.25F,
                        with_weight ? dnext.as<float>() : nullptr, dh.as<uint16_t>(), nullptr);
        const std::vector<float> sum = download<float>(dx);
        std::vector<double> want_h;
        for (size_t r = 0; r < kRows; ++r) {
          const auto n =
              normed(sum, r * kHidden, kHidden, with_weight ? next : std::vector<float>{}, 1e-6);
          want_h.insert(want_h.end(), n.begin(), n.end());
        }
        near(download16(dh), want_h, bound(dtype()), 1e-6);
      }
      std::vector<double> want;
      for (size_t r = 0; r < kRows; ++r) {
        const auto n =
            normed(y, r * kHidden, kHidden, with_weight ? weight : std::vector<float>{}, 1e-6);
        for (size_t i = 0; i < kHidden; ++i) want.push_back(x[r * kHidden + i] + 0.25 * n[i]);
      }
      near(download<float>(dx), want, 1e-5, 1e-6);
    }
  }
}

struct AttentionCase {
  const char* name;
  uint32_t kv;
  int64_t heads, kv_heads, head_dim, half, start, count, window;
  float softcap;
  bool token_scales;
};

// K or V of a layer as the cache holds it.
class Cached {
 public:
  Cached(const AttentionCase& c, std::vector<std::byte> bytes, std::vector<float> scales,
         std::vector<int32_t> table, int64_t blocks, int64_t layer, bool is_v)
      : c_(c),
        bytes_(std::move(bytes)),
        scales_(std::move(scales)),
        table_(std::move(table)),
        blocks_(blocks),
        layer_(layer),
        is_v_(is_v) {}

  double at(int64_t token, int64_t head, int64_t column) const {
    return value(table_[static_cast<size_t>(token / 16)], token % 16, head, column);
  }
  // The first token of a physical block.
  double of_block(int64_t physical, int64_t head, int64_t column) const {
    return value(physical, 0, head, column);
  }

 private:
  double value(int64_t physical, int64_t slot, int64_t head, int64_t column) const {
    const int64_t block = (layer_ * blocks_ + physical) * c_.kv_heads + head;
    const auto i = static_cast<size_t>(block * 16 * c_.head_dim +
                                       (is_v_ ? slot * c_.head_dim + column : column * 16 + slot));
    const size_t scale_at =
        static_cast<size_t>(c_.token_scales ? block * 16 + slot : layer_ * c_.kv_heads + head);
    switch (c_.kv) {
      case PLUQ_DTYPE_F8_E4M3:
        return static_cast<double>(float8::from_e4m3(code(i))) * scales_[scale_at];
      case PLUQ_DTYPE_F8_E5M2:
        return static_cast<double>(float8::from_e5m2(code(i))) * scales_[scale_at];
      case PLUQ_DTYPE_I8:
        return static_cast<double>(static_cast<int8_t>(code(i))) * scales_[scale_at];
      default:
        break;
    }
    const size_t width = c_.kv == PLUQ_DTYPE_F32 ? 4 : 2;
    return to_f32(c_.kv, std::span(bytes_).subspan(i * width, width))[0];
  }
  uint8_t code(size_t i) const { return static_cast<uint8_t>(bytes_[i]); }

  const AttentionCase& c_;
  std::vector<std::byte> bytes_;
  std::vector<float> scales_;
  std::vector<int32_t> table_;
  int64_t blocks_, layer_;
  bool is_v_;
};

// A cache filled token by token from position 0, then queries from `start` on.
TEST_P(EngineOpsTest, AttentionOverThePagedCache) {
  const AttentionCase cases[] = {
      {"f32", PLUQ_DTYPE_F32, 4, 2, 32, 16, 19, 5, 0, 0, false},
      {"f16", PLUQ_DTYPE_F16, 4, 4, 16, 6, 40, 3, 0, 0, false},
      {"bf16", PLUQ_DTYPE_BF16, 6, 2, 80, 40, 0, 37, 0, 0, false},
      {"window", PLUQ_DTYPE_F32, 4, 1, 32, 16, 30, 20, 9, 0, false},
      {"softcap", PLUQ_DTYPE_F32, 2, 1, 256, 128, 3, 2, 0, 5, false},
      {"no rotation", PLUQ_DTYPE_F32, 2, 2, 48, 0, 10, 2, 0, 0, false},
      {"e4m3 per head", PLUQ_DTYPE_F8_E4M3, 4, 2, 32, 16, 17, 4, 0, 0, false},
      {"e5m2 per token", PLUQ_DTYPE_F8_E5M2, 4, 2, 32, 16, 17, 4, 0, 0, true},
      {"int8 per token", PLUQ_DTYPE_I8, 4, 2, 32, 16, 17, 4, 0, 0, true},
      // Many rows per head of K: blocks of 64 rows
      {"f16 prompt", PLUQ_DTYPE_F16, 4, 1, 64, 32, 50, 35, 0, 0, false},
      {"bf16 prompt, window", PLUQ_DTYPE_BF16, 2, 1, 128, 32, 40, 70, 33, 0, false},
      {"e4m3 prompt per token", PLUQ_DTYPE_F8_E4M3, 4, 1, 80, 40, 3, 30, 0, 0, true},
      {"int8 prompt of 256 columns", PLUQ_DTYPE_I8, 4, 1, 256, 16, 3, 20, 0, 20, false},
      // One token after many: parts of the keys by several blocks
      {"f16 long", PLUQ_DTYPE_F16, 4, 2, 32, 16, 600, 1, 0, 0, false},
      {"f16 of 256 columns", PLUQ_DTYPE_F16, 2, 1, 256, 16, 290, 1, 0, 0, false},
      {"e5m2 long per token", PLUQ_DTYPE_F8_E5M2, 4, 2, 32, 16, 530, 1, 0, 0, true},
      {"bf16 long, window", PLUQ_DTYPE_BF16, 4, 2, 48, 16, 600, 1, 300, 0, false},
      {"odd heads", PLUQ_DTYPE_F16, 2, 1, 40, 16, 20, 2, 0, 0, false},
  };
  for (const AttentionCase& c : cases) {
    SCOPED_TRACE(c.name);
    const int64_t context = c.start + c.count, layers = 2, layer = 1;
    const int64_t blocks = (context + 15) / 16 + 2, width = (c.heads + 2 * c.kv_heads) * c.head_dim;
    const auto d = static_cast<size_t>(c.head_dim);
    std::vector<int32_t> table;
    for (int64_t b = 0; b < (context + 15) / 16; ++b)
      table.push_back(static_cast<int32_t>(blocks - 1 - b));
    table.push_back(0);  // of a second sequence
    std::vector<float> cos, sin;
    for (int64_t i = 0; i < context * c.half; ++i) {
      cos.push_back(std::cos(0.01F * static_cast<float>(i)));
      sin.push_back(std::sin(0.01F * static_cast<float>(i)));
    }
    const std::vector<float> qkv = random16(static_cast<size_t>(context * width), -2, 2);
    DeviceBuffer device_qkv = upload(narrow(qkv)), dt = upload(table), dc = upload(cos),
                 ds = upload(sin);
    const uint64_t element = c.kv == PLUQ_DTYPE_F32                              ? 4
                             : c.kv == PLUQ_DTYPE_F16 || c.kv == PLUQ_DTYPE_BF16 ? 2
                                                                                 : 1;
    const auto elements = static_cast<uint64_t>(layers * blocks * c.kv_heads * 16 * c.head_dim);
    const DeviceBuffer dk = empty(elements * element), dv = empty(elements * element);
    const std::vector<float> given(static_cast<size_t>(layers * c.kv_heads),
                                   c.kv == PLUQ_DTYPE_I8 ? 3.0F / 127 : 3.0F / 400);
    const bool scaled = element == 1;
    const DeviceBuffer ks = c.token_scales
                                ? empty(static_cast<uint64_t>(layers * blocks * c.kv_heads) * 64)
                                : upload(given);
    const DeviceBuffer vs = c.token_scales
                                ? empty(static_cast<uint64_t>(layers * blocks * c.kv_heads) * 64)
                                : upload(given);
    AttentionShape shape;
    shape.ld = width;
    shape.heads = c.heads;
    shape.kv_heads = c.kv_heads;
    shape.head_dim = c.head_dim;
    shape.layer = layer;
    shape.window = c.window;
    shape.scale = 0.3F;
    shape.softcap = c.softcap;
    // The tokens before start, then the queries behind a first chunk of another sequence (one token
    // at position 0, in the last block).
    const DeviceBuffer partial = fresh(static_cast<uint64_t>(attention_partial_floats(
                                           runtime_->description().sm_count, c.head_dim)) *
                                       4);
    auto* rows = device_qkv.as<uint16_t>();
    const auto chunk = [&](int64_t first_row, int64_t count, int64_t start, int64_t at) {
      DeviceChunk d;
      d.k = dk.data(), d.v = dv.data();
      d.k_scale = scaled ? ks.as<float>() : nullptr;
      d.v_scale = scaled ? vs.as<float>() : nullptr;
      d.num_blocks = blocks;
      d.first_row = static_cast<int32_t>(first_row), d.count = static_cast<int32_t>(count);
      d.start = static_cast<int32_t>(start), d.table = static_cast<int32_t>(at);
      return d;
    };
    const auto run = [&](const std::vector<DeviceChunk>& chunks, uint16_t* x, uint16_t* y) {
      AttentionBatch batch;
      std::vector<int32_t> row_chunk;
      for (const DeviceChunk& d : chunks) {
        row_chunk.insert(row_chunk.end(), static_cast<size_t>(d.count),
                         static_cast<int32_t>(&d - chunks.data()));
        batch.longest = std::max<int64_t>(batch.longest, d.count);
        batch.keys = std::max<int64_t>(batch.keys, d.start + d.count);
      }
      const DeviceBuffer list = upload(chunks), of_rows = upload(row_chunk);
      batch.chunks = list.as<DeviceChunk>();
      batch.row_chunk = of_rows.as<int32_t>();
      batch.tables = dt.as<int32_t>();
      batch.rows = static_cast<int64_t>(row_chunk.size());
      batch.num_chunks = static_cast<int64_t>(chunks.size());
      batch.kv_dtype = c.kv;
      batch.token_scales = c.token_scales;
      ops().rotate_and_store(x, shape, batch, dc.as<float>(), ds.as<float>(), c.half);
      if (y != nullptr) ops().attention(x, shape, batch, partial.as<float>(), y);
    };
    if (c.start > 0) run({chunk(0, c.start, 0, 0)}, rows, nullptr);
    const DeviceBuffer both = fresh(static_cast<uint64_t>((c.count + 1) * c.heads) * d * 2);
    const std::vector<float> extra = random16(static_cast<size_t>(width), -2, 2);
    DeviceBuffer x = fresh(static_cast<uint64_t>((c.count + 1) * width) * 2);
    runtime_->upload(x.data(), narrow(extra).data(), static_cast<uint64_t>(width) * 2);
    runtime_->upload(x.as<uint16_t>() + width, rows + c.start * width,
                     static_cast<uint64_t>(c.count * width) * 2);
    run({chunk(0, 1, 0, static_cast<int64_t>(table.size()) - 1), chunk(1, c.count, c.start, 0)},
        x.as<uint16_t>(), both.as<uint16_t>());
    const std::vector<uint16_t> all = download<uint16_t>(both);
    const auto rotated = [&](int64_t token, int64_t head, bool is_v) {
      std::vector<double> v(d);
      const float* x = qkv.data() + token * width + head * c.head_dim;
      for (int64_t i = 0; i < c.head_dim; ++i) {
        const auto at = static_cast<size_t>(i);
        v[at] = x[i];
        if (is_v || i >= 2 * c.half) continue;
        const bool low = i < c.half;
        const int64_t angle = token * c.half + (low ? i : i - c.half);
        v[at] =
            x[i] * static_cast<double>(cos[static_cast<size_t>(angle)]) +
            (low ? -1.0 : 1.0) * x[low ? i + c.half : i - c.half] * sin[static_cast<size_t>(angle)];
      }
      return v;
    };
    // What the caches hold, which is near what went in.
    const Cached k(c, download<std::byte>(dk), download<float>(ks), table, blocks, layer, false),
        v(c, download<std::byte>(dv), download<float>(vs), table, blocks, layer, true);
    const double type = c.kv == PLUQ_DTYPE_F8_E4M3   ? 1.0 / 16
                        : c.kv == PLUQ_DTYPE_F8_E5M2 ? 1.0 / 8
                        : c.kv == PLUQ_DTYPE_I8      ? 3.0 / 127
                        : c.kv == PLUQ_DTYPE_BF16    ? 1.0 / 256
                                                     : 1.0 / 1024;
    for (int64_t t = 0; t < context; ++t) {
      for (int64_t h = 0; h < c.kv_heads; ++h) {
        const auto true_k = rotated(t, c.heads + h, false),
                   true_v = rotated(t, c.heads + c.kv_heads + h, true);
        for (int64_t i = 0; i < c.head_dim; ++i) {
          const auto at = static_cast<size_t>(i);
          ASSERT_NEAR(k.at(t, h, i), true_k[at], std::abs(true_k[at]) * type + 0.02) << t;
          ASSERT_NEAR(v.at(t, h, i), true_v[at], std::abs(true_v[at]) * type + 0.02) << t;
        }
      }
    }
    // From the rotated q that the kernel read and from those K and V. Weights are rounded to f16,
    // for a bf16 cache to bf16, and so is q then.
    const std::vector<float> q_rows = download16(x);
    std::vector<double> want;
    for (int64_t h = 0; h < c.heads; ++h) {  // of the other sequence: its one value
      for (int64_t i = 0; i < c.head_dim; ++i) {
        want.push_back(v.of_block(0, h / (c.heads / c.kv_heads), i));
      }
    }
    for (int64_t t = c.start; t < context; ++t) {
      for (int64_t h = 0; h < c.heads; ++h) {
        const int64_t kv_head = h / (c.heads / c.kv_heads);
        const float* q = q_rows.data() + (t - c.start + 1) * width + h * c.head_dim;
        std::vector<double> scores;
        const int64_t first = c.window > 0 ? std::max<int64_t>(0, t + 1 - c.window) : 0;
        for (int64_t key = first; key <= t; ++key) {
          double score = 0;
          for (int64_t i = 0; i < c.head_dim; ++i) score += q[i] * k.at(key, kv_head, i);
          score *= 0.3F;
          scores.push_back(c.softcap > 0 ? c.softcap * std::tanh(score / c.softcap) : score);
        }
        double largest = scores[0], total = 0;
        for (const double score : scores) largest = std::max(largest, score);
        for (double& score : scores) total += score = std::exp(score - largest);
        for (int64_t i = 0; i < c.head_dim; ++i) {
          double sum = 0;
          for (int64_t key = first; key <= t; ++key) {
            sum += scores[static_cast<size_t>(key - first)] / total * v.at(key, kv_head, i);
          }
          want.push_back(sum);
        }
      }
    }
    const bool rounds_q = c.kv == PLUQ_DTYPE_BF16 && dtype() == PLUQ_DTYPE_F16;
    near(widen(all), want, bound(dtype()), rounds_q ? 0.03 : c.kv == PLUQ_DTYPE_BF16 ? 8e-3 : 2e-3);
  }
}

TEST_P(EngineOpsTest, NormsOfHeads) {
  constexpr int64_t kRows = 3, kLd = 200, kFirst = 40, kSegments = 3, kSize = 24;
  const std::vector<float> x = random16(kRows * kLd), weight = random(kSize);
  const DeviceBuffer dx = upload(narrow(x)), dw = upload(weight);
  ops().norm_segments(dx.as<uint16_t>(), kRows, kLd, kFirst, kSegments, kSize, dw.as<float>(),
                      1e-6F);
  std::vector<double> want(x.begin(), x.end());
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t s = 0; s < kSegments; ++s) {
      const auto at = static_cast<size_t>(r * kLd + kFirst + s * kSize);
      const auto n = normed(x, at, kSize, weight, 1e-6);
      std::copy(n.begin(), n.end(), want.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }
  near(download16(dx), want, bound(dtype()), 1e-6);
}

TEST_P(EngineOpsTest, ActivationsAndLogits) {
  constexpr int64_t kRows = 3, kWidth = 37, kLd = 80;
  const std::vector<float> x = random16(kRows * kLd, -6, 6);
  const std::function<double(double)> acts[] = {
      [](double g) { return g / (1 + std::exp(-g)); },
      [](double g) {
        return 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
      },
      [](double g) { return 0.5 * g * (1 + std::erf(g / std::sqrt(2.0))); }};
  for (int kind = 0; kind < 3; ++kind) {
    const DeviceBuffer dx = upload(narrow(x));
    ops().activate(dx.as<uint16_t>(), kRows, kWidth, kLd, static_cast<DeviceActivation>(kind),
                   nullptr);
    std::vector<double> want(x.begin(), x.end());
    for (size_t r = 0; r < kRows; ++r) {
      for (size_t i = 0; i < kWidth; ++i)
        want[r * kLd + i] = acts[kind](x[r * kLd + i]) * x[r * kLd + kWidth + i];
    }
    near(download16(dx), want, bound(dtype()), 2e-6);
  }
  const std::vector<float> logits = random(333, -50, 50);
  for (const float cap : {0.0F, 30.0F}) {
    const DeviceBuffer dl = upload(logits);
    ops().finish_logits(dl.as<float>(), 333, 0.5F, cap);
    std::vector<double> want;
    for (const float v : logits) want.push_back(cap > 0 ? cap * std::tanh(v * 0.5 / cap) : v * 0.5);
    near(download<float>(dl), want, 1e-5, 1e-5);
  }
}

TEST_P(EngineOpsTest, ClampsToBothSidesAndKeepsWhatIsNoNumber) {
  std::vector<float> x = random16(333, -2, 2);
  x[5] = std::numeric_limits<float>::quiet_NaN(), x[6] = std::numeric_limits<float>::infinity(),
  x[7] = -x[6], x[8] = 0.5F, x[9] = -0.5F;
  const DeviceBuffer dx = upload(narrow(x));
  ops().clamp(dx.as<uint16_t>(), 332, 0.5F);
  const std::vector<float> got = download16(dx);
  for (size_t i = 0; i < x.size(); ++i) {
    if (i == 5) {
      EXPECT_TRUE(std::isnan(got[i]));
    } else {
      EXPECT_EQ(got[i], i == 332 ? x[i] : std::clamp(x[i], -0.5F, 0.5F)) << i;
    }
  }
}

// ---------------------------------------------------------------- rows rounded as they are made

// Rows for an operator to round into, with guards behind them.
struct RoundedPlace {
  DeviceBuffer codes, scales, zeros;
  RoundedRows rows;
};

class RoundingTest : public EngineOpsTest {
 protected:
  static constexpr size_t kGuard = 64;
  static constexpr uint8_t kUntouched = 0xee;

  RoundedPlace place(const RoundScheme& scheme, size_t rows, size_t columns) {
    RoundedPlace p;
    const auto pitch = static_cast<size_t>(cuda::byte_pitch(static_cast<int64_t>(columns)));
    const auto groups = static_cast<size_t>(scheme.groups(static_cast<int64_t>(columns)));
    p.codes = upload(std::vector<uint8_t>(rows * pitch + kGuard, kUntouched));
    p.scales = upload(std::vector<float>(rows * groups + 1, -1.0F));
    p.zeros = upload(std::vector<int32_t>(rows + 1, -999));
    p.rows = {scheme, p.codes.as<uint8_t>(), p.scales.as<float>(), p.zeros.as<int32_t>()};
    return p;
  }
  // What scalar code makes of the 16-bit rows `want` [rows, columns].
  void equal(const RoundedPlace& p, const std::vector<float>& want, size_t rows, size_t columns) {
    const RoundScheme& scheme = p.rows.scheme;
    cuda::RoundActivations r;
    r.mode = scheme.mode, r.group = scheme.group, r.static_scale = scheme.static_scale;
    const Rounded oracle =
        round_on_host(want, static_cast<int64_t>(rows), static_cast<int64_t>(columns), r);
    const auto pitch = static_cast<size_t>(cuda::byte_pitch(static_cast<int64_t>(columns)));
    std::vector<int> codes(rows * pitch + kGuard, kUntouched);
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < pitch; ++j)
        codes[i * pitch + j] = j < columns ? oracle.codes[i * columns + j] : 0;
    }
    const std::vector<uint8_t> got = download<uint8_t>(p.codes);
    EXPECT_EQ(std::vector<int>(got.begin(), got.end()), codes);
    std::vector<float> scales = oracle.scales;
    scales.push_back(-1.0F);
    const std::vector<float> got_scales = download<float>(p.scales);
    ASSERT_EQ(got_scales.size(), scales.size());
    for (size_t i = 0; i < scales.size(); ++i) {
      EXPECT_TRUE(got_scales[i] == scales[i] ||
                  (std::isnan(got_scales[i]) && std::isnan(scales[i])))
          << "scale " << i << ": " << got_scales[i] << ", expected " << scales[i];
    }
    std::vector<int32_t> zeros(rows + 1, -999);
    if (scheme.has_zeros()) std::copy(oracle.zeros.begin(), oracle.zeros.end(), zeros.begin());
    EXPECT_EQ(download<int32_t>(p.zeros), zeros);
  }
  // f for every scheme that the engine knows.
  static void for_schemes(const std::function<void(const RoundScheme&)>& f) {
    using cuda::RoundMode;
    for (const RoundScheme& s :
         {RoundScheme{RoundMode::kInt8Token, 0, 1}, RoundScheme{RoundMode::kInt8TokenAsym, 0, 1},
          RoundScheme{RoundMode::kInt8Static, 0, 0.0131F}, RoundScheme{RoundMode::kFp8Token, 0, 1},
          RoundScheme{RoundMode::kFp8Group, 128, 1}, RoundScheme{RoundMode::kFp8Group, 32, 1},
          RoundScheme{RoundMode::kFp8Static, 0, 0.0077F}}) {
      SCOPED_TRACE("mode " + std::to_string(static_cast<int>(s.mode)) + " group " +
                   std::to_string(s.group));
      f(s);
    }
  }
  // The second row is zero, the third and fourth hold an infinity and a NaN, the fifth a NaN alone.
  static void spoil(std::vector<float>* x, size_t columns) {
    std::fill_n(x->begin() + static_cast<std::ptrdiff_t>(columns), columns, 0.0F);
    (*x)[2 * columns + columns / 2] = -std::numeric_limits<float>::infinity();
    (*x)[3 * columns + columns / 3] = std::numeric_limits<float>::quiet_NaN();
    std::fill_n(x->begin() + static_cast<std::ptrdiff_t>(4 * columns), columns, 0.0F);
    (*x)[4 * columns + columns / 2] = std::numeric_limits<float>::quiet_NaN();
  }
};

TEST_P(RoundingTest, NormsRoundTheirRowsByList) {
  for (const size_t hidden : {64, 130, 257}) {
    std::vector<float> x = random(6 * hidden, -3, 3);
    const std::vector<float> weight = random(hidden, 0.5, 1.5);
    spoil(&x, hidden);
    const std::vector<int32_t> list{4, 0, 2, 3, 1, 5, 5};
    const DeviceBuffer dx = upload(x), dw = upload(weight), dl = upload(list);
    const auto norm = [&](const float* w, uint16_t* y, const RoundedRows* rounded) {
      ops().rms_norm(dx.as<float>(), w, dl.as<int32_t>(), y, 7, static_cast<int64_t>(hidden), 1e-5F,
                     rounded);
    };
    for (const bool with_weight : {true, false}) {
      const float* w = with_weight ? dw.as<float>() : nullptr;
      const DeviceBuffer plain = empty(7 * hidden * 2);
      norm(w, plain.as<uint16_t>(), nullptr);
      const std::vector<uint16_t> want = download<uint16_t>(plain);
      for_schemes([&](const RoundScheme& scheme) {
        RoundedPlace p = place(scheme, 7, hidden);
        norm(w, nullptr, &p.rows);
        equal(p, widen(want), 7, hidden);
        RoundedPlace both = place(scheme, 7, hidden);
        const DeviceBuffer dy = empty(7 * hidden * 2);
        norm(w, dy.as<uint16_t>(), &both.rows);
        equal(both, widen(want), 7, hidden);
        EXPECT_EQ(download<uint16_t>(dy), want);
      });
    }
  }
}

TEST_P(RoundingTest, SumsAreNormedAndRounded) {
  constexpr size_t kRows = 5;
  for (const size_t hidden : {128, 330}) {
    std::vector<float> x = random(kRows * hidden), y = random16(kRows * hidden);
    spoil(&x, hidden);
    std::fill_n(y.begin() + static_cast<std::ptrdiff_t>(hidden), hidden, 0.0F);
    const std::vector<float> weight = random(hidden), next = random(hidden);
    const DeviceBuffer dw = upload(weight), dn = upload(next), dy16 = upload(narrow(y)),
                       dy32 = upload(y);
    // x is added to in place; answers it.
    const auto add = [&](bool wide, bool normed, uint16_t* h, const RoundedRows* rounded) {
      const DeviceBuffer dx = upload(x);
      const float* w = normed ? dw.as<float>() : nullptr;
      const float* n = normed ? dn.as<float>() : nullptr;
      const auto width = static_cast<int64_t>(hidden);
      if (wide) {
        ops().add_block(dx.as<float>(), dy32.as<const float>(), w, kRows, width, 1e-6F, 0.25F, n, h,
                        rounded);
      } else {
        ops().add_block(dx.as<float>(), dy16.as<const uint16_t>(), w, kRows, width, 1e-6F, 0.25F, n,
                        h, rounded);
      }
      return download<uint32_t>(dx);
    };
    for (const bool wide : {true, false}) {
      for (const bool normed : {true, false}) {
        const DeviceBuffer h = empty(kRows * hidden * 2);
        const std::vector<uint32_t> sum = add(wide, normed, h.as<uint16_t>(), nullptr);
        const std::vector<float> want = download16(h);
        for_schemes([&](const RoundScheme& scheme) {
          RoundedPlace p = place(scheme, kRows, hidden);
          EXPECT_EQ(add(wide, normed, nullptr, &p.rows), sum);
          equal(p, want, kRows, hidden);
        });
      }
    }
  }
}

TEST_P(RoundingTest, ActivationsAreRoundedWithoutTouchingGate) {
  constexpr size_t kRows = 3, kWidth = 333, kLd = 2 * kWidth + 4;
  std::vector<float> x = random16(kRows * kLd, -6, 6);
  x[kLd + 7] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<uint16_t> gate = narrow(x);
  for (int kind = 0; kind < 3; ++kind) {
    const auto act = static_cast<DeviceActivation>(kind);
    const DeviceBuffer plain = upload(gate);
    ops().activate(plain.as<uint16_t>(), kRows, kWidth, kLd, act, nullptr);
    const std::vector<float> all = download16(plain);
    std::vector<float> want;
    for (size_t r = 0; r < kRows; ++r) {
      const auto row = all.begin() + static_cast<std::ptrdiff_t>(r * kLd);
      want.insert(want.end(), row, row + kWidth);
    }
    for_schemes([&](const RoundScheme& scheme) {
      const DeviceBuffer dx = upload(gate);
      RoundedPlace p = place(scheme, kRows, kWidth);
      ops().activate(dx.as<uint16_t>(), kRows, kWidth, kLd, act, &p.rows);
      equal(p, want, kRows, kWidth);
      EXPECT_EQ(download<uint16_t>(dx), gate);
    });
  }
}

TEST_P(RoundingTest, RowsAreRoundedInOrderAndByList) {
  for (const size_t columns : {1, 63, 256, 300}) {
    std::vector<float> x = random16(6 * columns, -2, 3);
    spoil(&x, columns);
    const DeviceBuffer dx = upload(narrow(x));
    const std::vector<int32_t> list{11, 0, 5, 8, 9};  // two choices per row
    const DeviceBuffer dl = upload(list);
    for_schemes([&](const RoundScheme& scheme) {
      RoundedPlace p = place(scheme, 6, columns);
      ops().round_rows(dx.as<uint16_t>(), nullptr, 1, 6, static_cast<int64_t>(columns), p.rows);
      equal(p, widen(narrow(x)), 6, columns);
      RoundedPlace chosen = place(scheme, list.size(), columns);
      ops().round_rows(dx.as<uint16_t>(), dl.as<int32_t>(), 2, static_cast<int64_t>(list.size()),
                       static_cast<int64_t>(columns), chosen.rows);
      std::vector<float> want;
      for (const int32_t choice : list) {
        const auto row = x.begin() + static_cast<std::ptrdiff_t>(columns) * (choice / 2);
        want.insert(want.end(), row, row + static_cast<std::ptrdiff_t>(columns));
      }
      equal(chosen, widen(narrow(want)), list.size(), columns);
    });
  }
}

TEST_P(EngineOpsTest, ProductsOfAnyShape) {
  for (const auto& [m, n, k] :
       {std::array<int64_t, 3>{1, 8, 16}, {5, 33, 40}, {17, 70, 31}, {33, 9, 1}}) {
    const int64_t ldx = k + 3, ldy = n + 2;
    const std::vector<float> x = random16(static_cast<size_t>(m * ldx)),
                             w = random16(static_cast<size_t>(n * k)),
                             bias = random(static_cast<size_t>(n));
    const DeviceBuffer dx = upload(narrow(x)), dw = upload(narrow(w)), db = upload(bias);
    for (const bool wide : {true, false}) {
      const DeviceBuffer dy = empty(static_cast<uint64_t>(m * ldy) * (wide ? 4 : 2));
      pluq_gemm_args g{};
      g.struct_size = sizeof g;
      g.x_type = g.w_type = dtype();
      g.y_type = wide ? PLUQ_DTYPE_F32 : dtype();
      g.m = m, g.n = n, g.k = k;
      g.x = dx.data(), g.ldx = ldx;
      g.w = dw.data(), g.ldw = k;
      g.bias = wide ? db.as<float>() : nullptr;
      g.y = dy.data(), g.ldy = ldy;
      ASSERT_TRUE(ops().gemm(g));
      std::vector<double> want(static_cast<size_t>(m * ldy));
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          double sum = wide ? bias[static_cast<size_t>(j)] : 0;
          for (int64_t a = 0; a < k; ++a)
            sum += static_cast<double>(x[static_cast<size_t>(i * ldx + a)]) *
                   w[static_cast<size_t>(j * k + a)];
          want[static_cast<size_t>(i * ldy + j)] = sum;
        }
      }
      near(wide ? download<float>(dy) : download16(dy), want, wide ? 1e-5 : bound(dtype()), 1e-5);
    }
  }
}

TEST_P(EngineOpsTest, RowsOfExperts) {
  constexpr int64_t kHidden = 70, kPerRow = 2;
  const std::vector<float> x = random16(3 * kHidden), share = random(6), y = random16(3 * kHidden),
                           sum = random(3 * kHidden);
  const std::vector<int32_t> list{5, 0, 3};
  const DeviceBuffer dx = upload(narrow(x)), dl = upload(list), ds = upload(share),
                     dy = upload(narrow(y)), dsum = upload(sum), gathered = fresh(3 * kHidden * 2);
  ops().gather_rows(dx.as<uint16_t>(), dl.as<int32_t>(), kPerRow, gathered.as<uint16_t>(), 3,
                    kHidden);
  ops().add_rows(dsum.as<float>(), dl.as<int32_t>(), kPerRow, ds.as<float>(), dy.as<uint16_t>(), 3,
                 kHidden);
  std::vector<double> want, total(sum.begin(), sum.end());
  for (size_t i = 0; i < 3; ++i) {
    const auto row = static_cast<size_t>(list[i] / kPerRow);
    for (size_t j = 0; j < kHidden; ++j) {
      want.push_back(x[row * kHidden + j]);
      total[row * kHidden + j] +=
          static_cast<double>(share[static_cast<size_t>(list[i])]) * y[i * kHidden + j];
    }
  }
  near(download16(gathered), want, 0, 0);
  near(download<float>(dsum), total, 1e-6, 1e-6);
}

std::string type_name(const ::testing::TestParamInfo<uint32_t>& p) {
  return p.param == PLUQ_DTYPE_F16 ? "f16" : "bf16";
}
INSTANTIATE_TEST_SUITE_P(Types, EngineOpsTest, ::testing::Values(PLUQ_DTYPE_F16, PLUQ_DTYPE_BF16),
                         type_name);
INSTANTIATE_TEST_SUITE_P(Types, RoundingTest, ::testing::Values(PLUQ_DTYPE_F16, PLUQ_DTYPE_BF16),
                         type_name);

TEST(Devices, AreParsed) {
  EXPECT_EQ(parse_device("").kind, PLUQ_DEVICE_CPU);
  EXPECT_EQ(parse_device("cuda:2").index, 2);
  EXPECT_EQ(parse_device("cuda-emulated").capability, 80u);
  EXPECT_EQ(parse_device("cuda-emulated:sm90").capability, 90u);
  for (const char* wrong :
       {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda-emulated:80", "cuda-emulated:sm70", "cpu:0"}) {
    try {
      parse_device(wrong);
      FAIL() << wrong;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_NE(std::string(error.what()).find("cuda-emulated[:sm80|sm89|sm90]"),
                std::string::npos);
    }
  }
}

}  // namespace
}  // namespace pluq
