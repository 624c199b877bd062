// SPDX-License-Identifier: Apache-2.0
#include "config/rope.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"

namespace pluq {
namespace {

constexpr double kTwoPi = 6.283185307179586476925286766559;

struct RopeName {
  std::string_view name;
  RopeType type;
};
constexpr RopeName kRopeNames[] = {
    {"default", RopeType::kDefault}, {"linear", RopeType::kLinear},
    {"dynamic", RopeType::kDynamic}, {"llama3", RopeType::kLlama3},
    {"yarn", RopeType::kYarn},       {"longrope", RopeType::kLongRope},
    {"su", RopeType::kLongRope}};

RopeType parse_type(const JsonReader& in) {
  const std::string name = in.string("rope_type", in.string("type", "default"));
  for (const RopeName& r : kRopeNames) {
    if (r.name == name) return r.type;
  }
  fail_input(
      "{}: rope type '{}' is not supported; supported are default, linear, dynamic, llama3, yarn, "
      "longrope",
      in.where(), printable(name));
}

std::vector<float> base_frequencies(double theta, int64_t dim) {
  std::vector<float> out;
  for (int64_t i = 0; i < dim / 2; ++i) {
    const auto exponent = static_cast<float>(static_cast<double>(2 * i) / static_cast<double>(dim));
    out.push_back(1.0F / static_cast<float>(std::pow(theta, static_cast<double>(exponent))));
  }
  return out;
}

void scale_llama3(const RopeConfig& rope, std::vector<float>* inverse) {
  const double low = rope.original_max_position / rope.low_freq_factor;
  const double high = rope.original_max_position / rope.high_freq_factor;
  for (float& f : *inverse) {
    const double wavelength = kTwoPi / f;
    if (wavelength < high) continue;
    const double scaled = f / rope.factor;
    if (wavelength > low) {
      f = static_cast<float>(scaled);
      continue;
    }
    const double smooth = (rope.original_max_position / wavelength - rope.low_freq_factor) /
                          (rope.high_freq_factor - rope.low_freq_factor);
    f = static_cast<float>((1 - smooth) * scaled + smooth * f);
  }
}

void scale_yarn(const RopeConfig& rope, int64_t rotary, int64_t max_position,
                RopeFrequencies* out) {
  const auto dim = static_cast<double>(rotary);
  // Without an explicit factor, the original length implies it.
  const double original = rope.original_max_position;
  const double factor =
      rope.factor != 1 ? rope.factor : std::max(1.0, static_cast<double>(max_position) / original);
  const auto mscale = [](double scale, double m) {
    return scale <= 1 ? 1.0 : 0.1 * m * std::log(scale) + 1.0;
  };
  if (rope.attention_factor != 0) {
    out->attention_factor = static_cast<float>(rope.attention_factor);
  } else if (rope.mscale != 0 && rope.mscale_all_dim != 0) {
    out->attention_factor =
        static_cast<float>(mscale(factor, rope.mscale) / mscale(factor, rope.mscale_all_dim));
  } else {
    out->attention_factor = static_cast<float>(mscale(factor, 1));
  }
  const auto correction = [&](double rotations) {
    return dim * std::log(original / (rotations * kTwoPi)) / (2 * std::log(rope.theta));
  };
  double low = correction(rope.beta_fast), high = correction(rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < out->inverse.size(); ++i) {
    const double f = out->inverse[i];
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double keep = 1 - ramp;  // 1: extrapolation, the frequency as it is
    out->inverse[i] = static_cast<float>(f / factor * (1 - keep) + f * keep);
  }
}

void scale_longrope(const RopeConfig& rope, int64_t max_position, int64_t context,
                    RopeFrequencies* out) {
  const std::vector<double>& factors = static_cast<double>(context) > rope.original_max_position
                                           ? rope.long_factor
                                           : rope.short_factor;
  if (factors.size() != out->inverse.size()) {
    fail_input(
        "rope: short_factor and long_factor have {} and {} numbers, expected {}, half of the "
        "rotated dimensions",
        rope.short_factor.size(), rope.long_factor.size(), out->inverse.size());
  }
  for (size_t i = 0; i < factors.size(); ++i) {
    // 1 / (factor * theta^(2i/d)), with the power in f32.
    out->inverse[i] = 1.0F / (static_cast<float>(factors[i]) * (1.0F / out->inverse[i]));
  }
  const double factor = rope.factor != 1
                            ? rope.factor
                            : static_cast<double>(max_position) / rope.original_max_position;
  if (rope.attention_factor != 0) {
    out->attention_factor = static_cast<float>(rope.attention_factor);
  } else if (factor > 1) {
    out->attention_factor =
        static_cast<float>(std::sqrt(1 + std::log(factor) / std::log(rope.original_max_position)));
  }
}

void check_partial(const JsonReader& in, double partial) {
  if (partial > 1)
    fail_input("{}: partial_rotary_factor is {}, expected a number above 0 and at most 1",
               in.where(), partial);
}

std::vector<double> positive_factors(const JsonReader& in, std::string_view key) {
  std::vector<double> out = in.reals(key);
  if (std::any_of(out.begin(), out.end(), [](double x) { return !(x > 0); }))
    in.wrong(key, "a list of numbers above 0");
  return out;
}

}  // namespace

RopeConfig parse_rope(const JsonReader& in, std::string_view layer_type, double default_theta,
                      int64_t max_position) {
  RopeConfig rope;
  rope.theta = in.positive("rope_theta", default_theta);
  rope.partial = in.positive("partial_rotary_factor", 1);
  check_partial(in, rope.partial);
  rope.original_max_position =
      in.positive("original_max_position_embeddings", static_cast<double>(max_position));
  auto p = in.object("rope_parameters");
  if (!p) p = in.object("rope_scaling");
  if (p) {
    if (auto of_layer = p->object(layer_type)) p = of_layer;
  }
  if (!p) return rope;
  rope.theta = p->positive("rope_theta", rope.theta);
  rope.partial = p->positive("partial_rotary_factor", rope.partial);
  check_partial(*p, rope.partial);
  rope.original_max_position =
      p->positive("original_max_position_embeddings", rope.original_max_position);
  rope.type = parse_type(*p);
  if (rope.type == RopeType::kDefault) return rope;
  rope.factor = p->positive("factor", 1);
  rope.attention_factor = p->real("attention_factor", 0);
  if (rope.type == RopeType::kLlama3) {
    rope.low_freq_factor = p->positive("low_freq_factor", 1);
    rope.high_freq_factor = p->positive("high_freq_factor", 4);
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      fail_input("{}: high_freq_factor {} is not above low_freq_factor {}", p->where(),
                 rope.high_freq_factor, rope.low_freq_factor);
    }
  } else if (rope.type == RopeType::kYarn) {
    rope.beta_fast = p->positive("beta_fast", 32);
    rope.beta_slow = p->positive("beta_slow", 1);
    rope.mscale = p->real("mscale", 0);
    rope.mscale_all_dim = p->real("mscale_all_dim", 0);
    rope.truncate = p->boolean("truncate", true);
  } else if (rope.type == RopeType::kLongRope) {
    rope.short_factor = positive_factors(*p, "short_factor");
    rope.long_factor = positive_factors(*p, "long_factor");
    if (rope.short_factor.empty() || rope.short_factor.size() != rope.long_factor.size()) {
      fail_input(
          "{}: longrope needs short_factor and long_factor of one length; they have {} and {} "
          "numbers",
          p->where(), rope.short_factor.size(), rope.long_factor.size());
    }
  }
  return rope;
}

int64_t rotary_dim(const RopeConfig& rope, int64_t head_dim) {
  return std::min(head_dim,
                  static_cast<int64_t>(static_cast<double>(head_dim) * rope.partial) / 2 * 2);
}

RopeFrequencies rope_frequencies(const RopeConfig& rope, int64_t rotary, int64_t max_position,
                                 int64_t context) {
  RopeFrequencies out;
  double theta = rope.theta;
  if (rope.type == RopeType::kDynamic && rotary > 2) {
    const auto length = static_cast<double>(std::max(context, max_position));
    const double stretch =
        rope.factor * length / static_cast<double>(max_position) - (rope.factor - 1);
    theta *= std::pow(stretch, static_cast<double>(rotary) / static_cast<double>(rotary - 2));
  }
  out.inverse = base_frequencies(theta, rotary);
  if (rope.type == RopeType::kLinear) {
    for (float& f : out.inverse) f /= static_cast<float>(rope.factor);
  } else if (rope.type == RopeType::kLlama3) {
    scale_llama3(rope, &out.inverse);
  } else if (rope.type == RopeType::kYarn) {
    scale_yarn(rope, rotary, max_position, &out);
  } else if (rope.type == RopeType::kLongRope) {
    scale_longrope(rope, max_position, context, &out);
  }
  return out;
}

}  // namespace pluq
