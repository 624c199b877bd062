// SPDX-License-Identifier: Apache-2.0
#include "config/model_config.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"

namespace pluq {
namespace {

namespace json = boost::json;

constexpr ArchitectureTraits kArchitectures[] = {
    {"LlamaForCausalLM", false, true},
};

constexpr int64_t kMaxSize = int64_t{1} << 30;

// Typed access to the members of one object, with messages that name file and key.
class Reader {
 public:
  Reader(const json::object& object, std::string where) : object_(&object), where_(std::move(where)) {}

  const json::value* find(std::string_view key) const {
    const json::value* value = object_->if_contains(key);
    return value == nullptr || value->is_null() ? nullptr : value;
  }
  int64_t size(std::string_view key) const {
    const auto value = optional_size(key);
    if (!value) fail_input("{}: '{}' is missing", where_, key);
    return *value;
  }
  std::optional<int64_t> optional_size(std::string_view key) const {
    const json::value* value = find(key);
    if (value == nullptr) return std::nullopt;
    const int64_t number = value->is_int64() ? value->get_int64() : -1;
    if (number < 1 || number > kMaxSize) {
      fail_input("{}: '{}' is {}; accepted are whole numbers from 1 to {}", where_, key,
                 printable(json::serialize(*value), 40), kMaxSize);
    }
    return number;
  }
  double real(std::string_view key, double otherwise) const {
    const json::value* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_number() || !std::isfinite(value->to_number<double>())) wrong(key, "a finite number");
    return value->to_number<double>();
  }
  double positive(std::string_view key, double otherwise) const {
    const double value = real(key, otherwise);
    if (!(value > 0)) wrong(key, "a number above 0");
    return value;
  }
  bool boolean(std::string_view key, bool otherwise) const {
    const json::value* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_bool()) wrong(key, "true or false");
    return value->get_bool();
  }
  std::string string(std::string_view key, std::string otherwise) const {
    const json::value* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_string()) wrong(key, "a string");
    return std::string(value->get_string());
  }
  std::optional<Reader> object(std::string_view key) const {
    const json::value* value = find(key);
    if (value == nullptr) return std::nullopt;
    if (!value->is_object()) wrong(key, "an object");
    return Reader(value->get_object(), where_ + ": " + std::string(key));
  }
  // An id or a list of ids.
  std::vector<int32_t> ids(std::string_view key) const {
    std::vector<int32_t> out;
    const json::value* value = find(key);
    if (value == nullptr) return out;
    const auto add = [&](const json::value& v) {
      if (!v.is_int64() || v.get_int64() < 0 || v.get_int64() > kMaxSize) wrong(key, "a token id or a list of them");
      out.push_back(static_cast<int32_t>(v.get_int64()));
    };
    if (value->is_array()) {
      for (const json::value& v : value->get_array()) add(v);
    } else {
      add(*value);
    }
    return out;
  }
  [[noreturn]] void wrong(std::string_view key, std::string_view expected) const {
    fail_input("{}: '{}' is {}, expected {}", where_, key, printable(json::serialize(*find(key)), 60), expected);
  }
  const std::string& where() const { return where_; }

 private:
  const json::object* object_;
  std::string where_;
};

const ArchitectureTraits& find_architecture(const Reader& in) {
  const json::value* list = in.find("architectures");
  std::string found;
  if (list != nullptr && list->is_array() && !list->get_array().empty() && list->get_array()[0].is_string()) {
    found = list->get_array()[0].get_string();
  }
  for (const ArchitectureTraits& a : kArchitectures) {
    if (found == a.name) return a;
  }
  fail_input("{}: architecture '{}' is not supported; supported are {}", in.where(),
             printable(found.empty() ? "(none named in 'architectures')" : found), supported_architectures());
}

RopeConfig parse_rope(const Reader& in, int64_t max_position) {
  RopeConfig rope;
  rope.theta = in.positive("rope_theta", 10000);
  auto parameters = in.object("rope_parameters");
  if (!parameters) parameters = in.object("rope_scaling");
  if (!parameters) return rope;
  rope.theta = parameters->positive("rope_theta", rope.theta);
  const std::string type = parameters->string("rope_type", parameters->string("type", "default"));
  rope.factor = type == "default" ? 1 : parameters->positive("factor", 1);
  rope.original_max_position =
      parameters->positive("original_max_position_embeddings", static_cast<double>(max_position));
  if (type == "default") return rope;
  if (type == "linear") {
    rope.type = RopeType::kLinear;
  } else if (type == "llama3") {
    rope.type = RopeType::kLlama3;
    rope.low_freq_factor = parameters->positive("low_freq_factor", 1);
    rope.high_freq_factor = parameters->positive("high_freq_factor", 4);
    if (rope.high_freq_factor <= rope.low_freq_factor) {
      fail_input("{}: high_freq_factor {} is not above low_freq_factor {}", parameters->where(), rope.high_freq_factor,
                 rope.low_freq_factor);
    }
  } else if (type == "yarn") {
    rope.type = RopeType::kYarn;
    rope.beta_fast = parameters->positive("beta_fast", 32);
    rope.beta_slow = parameters->positive("beta_slow", 1);
    rope.attention_factor = parameters->real("attention_factor", 0);
    rope.mscale = parameters->real("mscale", 0);
    rope.mscale_all_dim = parameters->real("mscale_all_dim", 0);
    rope.truncate = parameters->boolean("truncate", true);
  } else {
    fail_input("{}: rope type '{}' is not supported; supported are default, linear, llama3, yarn", parameters->where(),
               printable(type));
  }
  return rope;
}

}  // namespace

std::string supported_architectures() {
  std::string out;
  for (const ArchitectureTraits& a : kArchitectures) out += (out.empty() ? "" : ", ") + std::string(a.name);
  return out;
}

ModelConfig parse_model_config(const json::value& config, std::string_view where) {
  if (!config.is_object()) fail_input("{}: expected a JSON object", where);
  const Reader in(config.get_object(), std::string(where));
  const ArchitectureTraits& traits = find_architecture(in);
  ModelConfig c;
  c.architecture = traits.name;
  c.hidden_size = in.size("hidden_size");
  c.intermediate_size = in.size("intermediate_size");
  c.num_hidden_layers = in.size("num_hidden_layers");
  c.num_attention_heads = in.size("num_attention_heads");
  c.num_key_value_heads = in.optional_size("num_key_value_heads").value_or(c.num_attention_heads);
  c.vocab_size = in.size("vocab_size");
  c.max_position_embeddings = in.optional_size("max_position_embeddings").value_or(2048);
  if (c.num_hidden_layers > 10'000) fail_input("{}: 'num_hidden_layers' is {}, at most 10000", where, c.num_hidden_layers);
  if (c.num_attention_heads % c.num_key_value_heads != 0) {
    fail_input("{}: 'num_attention_heads' {} is not a multiple of 'num_key_value_heads' {}", where,
               c.num_attention_heads, c.num_key_value_heads);
  }
  const auto head_dim = in.optional_size("head_dim");
  if (!head_dim && c.hidden_size % c.num_attention_heads != 0) {
    fail_input("{}: 'hidden_size' {} is not a multiple of 'num_attention_heads' {} and there is no 'head_dim'", where,
               c.hidden_size, c.num_attention_heads);
  }
  c.head_dim = head_dim.value_or(c.hidden_size / c.num_attention_heads);
  if (c.head_dim % 2 != 0 || c.head_dim > 1024) {
    fail_input("{}: 'head_dim' {} is odd or above 1024, which rotary embeddings here cannot have", where, c.head_dim);
  }
  c.rms_norm_eps = static_cast<float>(in.real("rms_norm_eps", 1e-6));
  if (!(c.rms_norm_eps >= 0)) in.wrong("rms_norm_eps", "a number from 0");
  const std::string act = in.string("hidden_act", "silu");
  if (act != "silu" && act != "swish") {
    fail_input("{}: 'hidden_act' is '{}'; supported is silu", where, printable(act));
  }
  c.qkv_bias = in.boolean("attention_bias", traits.qkv_bias);
  c.o_bias = traits.o_bias_follows && c.qkv_bias;
  c.mlp_bias = in.boolean("mlp_bias", false);
  c.tie_word_embeddings = in.boolean("tie_word_embeddings", false);
  c.rope = parse_rope(in, c.max_position_embeddings);
  c.eos_ids = in.ids("eos_token_id");
  const std::vector<int32_t> bos = in.ids("bos_token_id");
  c.bos_id = bos.empty() ? -1 : bos[0];
  c.dtype = in.string("dtype", in.string("torch_dtype", "float32"));
  return c;
}

GenerationConfig parse_generation_config(const json::value& generation, const ModelConfig& model,
                                         std::string_view where) {
  GenerationConfig g;
  g.eos_ids = model.eos_ids;
  if (generation.is_null()) return g;
  if (!generation.is_object()) fail_input("{}: expected a JSON object", where);
  const Reader in(generation.get_object(), std::string(where));
  for (const int32_t id : in.ids("eos_token_id")) {
    if (std::find(g.eos_ids.begin(), g.eos_ids.end(), id) == g.eos_ids.end()) g.eos_ids.push_back(id);
  }
  // Sampling is only asked for when the file names a temperature; `do_sample` alone says nothing about how warm.
  if (in.boolean("do_sample", false)) g.temperature = in.real("temperature", 0);
  g.top_p = in.real("top_p", 1);
  g.top_k = static_cast<int32_t>(in.real("top_k", 0));
  g.repetition_penalty = in.real("repetition_penalty", 1);
  return g;
}

RopeFrequencies rope_frequencies(const RopeConfig& rope, int64_t head_dim, int64_t max_position_embeddings) {
  constexpr double kTwoPi = 6.283185307179586476925286766559;
  const auto dim = static_cast<double>(head_dim);
  RopeFrequencies out;
  std::vector<float> base;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const auto exponent = static_cast<float>(static_cast<double>(2 * i) / dim);
    base.push_back(1.0F / static_cast<float>(std::pow(rope.theta, static_cast<double>(exponent))));
  }
  out.inverse = base;
  if (rope.type == RopeType::kLinear) {
    for (float& f : out.inverse) f /= static_cast<float>(rope.factor);
  } else if (rope.type == RopeType::kLlama3) {
    const double low = rope.original_max_position / rope.low_freq_factor;
    const double high = rope.original_max_position / rope.high_freq_factor;
    for (float& f : out.inverse) {
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
  } else if (rope.type == RopeType::kYarn) {
    // Without an explicit original length, the factor is implied by the model's own length.
    const double original = rope.original_max_position;
    const double factor =
        rope.factor != 1 ? rope.factor : std::max(1.0, static_cast<double>(max_position_embeddings) / original);
    const auto mscale = [](double scale, double m) { return scale <= 1 ? 1.0 : 0.1 * m * std::log(scale) + 1.0; };
    if (rope.attention_factor != 0) {
      out.attention_factor = static_cast<float>(rope.attention_factor);
    } else if (rope.mscale != 0 && rope.mscale_all_dim != 0) {
      out.attention_factor = static_cast<float>(mscale(factor, rope.mscale) / mscale(factor, rope.mscale_all_dim));
    } else {
      out.attention_factor = static_cast<float>(mscale(factor, 1));
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
    for (size_t i = 0; i < base.size(); ++i) {
      const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      const double keep = 1 - ramp;  // 1: extrapolation, the frequency as it is
      out.inverse[i] = static_cast<float>(base[i] / factor * (1 - keep) + base[i] * keep);
    }
  }
  return out;
}

}  // namespace pluq
