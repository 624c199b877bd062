// SPDX-License-Identifier: Apache-2.0
// The choice of the next token from logits on the emulated device, all detectors on, against the
// same sampler on logits in host memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "base/error.h"
#include "device/cuda/emulated_runtime.h"
#include "engine/sampler.h"
#include "model/device_logits.h"

namespace pluq {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity(),
                kNan = std::numeric_limits<float>::quiet_NaN();

// Counts how often everything is copied.
class Counted : public DeviceLogits {
 public:
  using DeviceLogits::DeviceLogits;
  std::span<const float> all() override {
    ++copies;
    return DeviceLogits::all();
  }
  int copies = 0;
};

class SamplingTest : public ::testing::Test {
 protected:
  // The emulated device, or a GPU when tests/gpu/run.sh asks for it.
  static std::shared_ptr<DeviceRuntime> open() {
    const char* wanted = std::getenv("PLUQ_TEST_DEVICE");
    if (wanted != nullptr && std::string_view(wanted) == "cuda")
      return open_device(parse_device("cuda"));
    return std::make_shared<EmulatedRuntime>(80, PLUQ_EMU_CHECK_ALL);
  }
  void place(const std::vector<float>& logits) {
    values_ = logits;
    buffer_ = DeviceBuffer(runtime_, logits.size() * sizeof(float), "test");
    runtime_->upload(buffer_.data(), logits.data(), buffer_.bytes());
  }
  Counted on_device() {
    return {*runtime_, runtime_->ops(PLUQ_DTYPE_F16), buffer_.as<float>(),
            static_cast<int64_t>(values_.size()), scratch_};
  }
  std::vector<float> random(size_t n, float spread) {
    std::normal_distribution<float> d(0, spread);
    std::vector<float> out(n);
    for (float& v : out) v = d(rng_);
    return out;
  }
  // What top() must list.
  std::vector<std::pair<int32_t, float>> largest(int32_t k) const {
    std::vector<std::pair<int32_t, float>> all;
    for (size_t i = 0; i < values_.size(); ++i) {
      if (std::isfinite(values_[i])) all.emplace_back(static_cast<int32_t>(i), values_[i]);
    }
    std::sort(all.begin(), all.end(), [](const auto& x, const auto& y) {
      return x.second != y.second ? x.second > y.second : x.first < y.first;
    });
    all.resize(std::min(all.size(), static_cast<size_t>(k)));
    std::sort(all.begin(), all.end());
    return all;
  }
  void expect_top(int32_t k) {
    SCOPED_TRACE(fmt::format("k {} of {}", k, values_.size()));
    Counted logits = on_device();
    constexpr double kTemperature = 0.7;
    auto top = logits.top(k, kTemperature);
    ASSERT_TRUE(top.has_value());
    std::sort(top->listed.begin(), top->listed.end());
    const auto want = largest(k);
    EXPECT_EQ(top->listed, want);
    const auto finite = static_cast<size_t>(
        std::count_if(values_.begin(), values_.end(), [](float v) { return std::isfinite(v); }));
    EXPECT_EQ(top->complete, finite == want.size());
    double rest = 0, best = -std::numeric_limits<double>::infinity();
    for (const auto& [id, v] : want) best = std::max(best, static_cast<double>(v));
    for (size_t i = 0; i < values_.size(); ++i) {
      const bool listed = std::any_of(want.begin(), want.end(), [&](const auto& c) {
        return c.first == static_cast<int32_t>(i);
      });
      if (std::isfinite(values_[i]) && !listed)
        rest += std::exp((values_[i] - best) / kTemperature);
    }
    EXPECT_NEAR(top->rest, rest, rest * 1e-5);
    EXPECT_EQ(logits.best(), argmax(values_));
  }

  std::shared_ptr<DeviceRuntime> runtime_ = open();
  DeviceBuffer scratch_{runtime_, DeviceLogits::kScratchBytes, "test"};
  DeviceBuffer buffer_;
  std::vector<float> values_;
  std::mt19937 rng_{11};
};

TEST_F(SamplingTest, ListsTheLargestOfAnySize) {
  for (const size_t n : {1, 2, 31, 32, 33, 1023, 1025, 4099}) {
    place(random(n, 3));
    for (const int32_t k : {1, 2, 40, kMostListed}) expect_top(k);
  }
}

TEST_F(SamplingTest, EqualLogitsCountByTheirIds) {
  std::vector<float> v(2500, 1.5F);
  place(v);
  for (const int32_t k : {1, 300, kMostListed}) expect_top(k);
  for (size_t i = 0; i < v.size(); i += 3) v[i] = i % 2 == 0 ? 0.0F : -0.0F;
  for (size_t i = 1; i < v.size(); i += 3) v[i] = -2;
  place(v);
  for (const int32_t k : {7, 833, 834, 1000}) expect_top(k);
}

TEST_F(SamplingTest, WhatIsNotFiniteIsLeftOut) {
  std::vector<float> v = random(300, 2);
  for (size_t i = 0; i < v.size(); i += 7) v[i] = i % 2 == 0 ? -kInf : kNan;
  place(v);
  for (const int32_t k : {1, 5, 256, 257, 258, 400}) expect_top(k);
  v[33] = std::numeric_limits<float>::lowest();
  v[34] = std::numeric_limits<float>::max();
  place(v);
  expect_top(259);
  for (const std::vector<float>& bad : {std::vector<float>(40, kNan), std::vector<float>(40, -kInf),
                                        std::vector<float>{1, 2, kInf, 3}}) {
    place(bad);
    Counted logits = on_device();
    EXPECT_EQ(logits.best(), -1);
    EXPECT_FALSE(logits.top(2, 1)->usable);
    SamplingOptions o;
    for (const double temperature : {0.0, 1.0}) {
      o.temperature = temperature;
      Sampler s(o);
      EXPECT_THROW(s.sample(logits), Error);
    }
    EXPECT_EQ(logits.copies, 0);
  }
}

TEST_F(SamplingTest, ChoosesWhatTheHostDoes) {
  struct Case {
    SamplingOptions options;
    float spread;
    bool copies;  // the listed ones do not always decide
  };
  const auto with = [](double temperature, int32_t top_k, double top_p, double min_p,
                       double penalty) {
    SamplingOptions o;
    o.temperature = temperature, o.top_k = top_k, o.top_p = top_p, o.min_p = min_p;
    o.repeat_penalty = penalty, o.seed = 5;
    return o;
  };
  const std::vector<Case> cases{
      {with(0, 0, 1, 0, 1), 3, false},         {with(0.8, 40, 1, 0, 1), 3, false},
      {with(1, 1024, 0.9, 0.01, 1), 3, false}, {with(1, 1, 1, 0, 1), 3, false},
      {with(0.7, 0, 0.9, 0, 1), 5, false},     {with(0.7, 0, 1, 0.05, 1), 5, false},
      {with(1, 0, 0.95, 0.02, 1), 5, false},   {with(1, 0, 1, 0, 1), 5, false},
      {with(1, 0, 1, 0, 1), 0.5, true},        {with(1, 0, 0.99, 0, 1), 0.5, true},
      {with(1, 0, 1, 0.001, 1), 0.5, true},    {with(2, 3000, 0.9, 0, 1), 1, true},
      {with(0.8, 40, 0.9, 0, 1.2), 3, true},   {with(0, 0, 1, 0, 1.3), 3, true}};
  for (size_t c = 0; c < cases.size(); ++c) {
    Sampler host(cases[c].options), device(cases[c].options);
    int copies = 0;
    for (int step = 0; step < 12; ++step) {
      place(random(4099, cases[c].spread));
      Counted logits = on_device();
      const int32_t want = host.sample(values_);
      ASSERT_EQ(device.sample(logits), want) << "case " << c << ", step " << step;
      host.accept(want), device.accept(want);
      copies += logits.copies;
    }
    EXPECT_EQ(copies > 0, cases[c].copies) << "case " << c;
  }
}

}  // namespace
}  // namespace pluq
