// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/hf.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <filesystem>

#include "base/error.h"
#include "base/json.h"

namespace pluq {
namespace {

namespace json = boost::json;

const json::value* object_in(const json::value& from, std::string_view key) {
  if (!from.is_object()) return nullptr;
  const json::value* value = from.get_object().if_contains(key);
  return value != nullptr && value->is_object() && !value->get_object().empty() ? value : nullptr;
}

// The value of a key under any of its spellings, as text; empty when absent.
std::string decisive(const json::object& config,
                     std::initializer_list<std::string_view> spellings) {
  for (const std::string_view key : spellings) {
    const json::value* value = config.if_contains(key);
    if (value != nullptr && !value->is_null()) return json::serialize(*value);
  }
  return {};
}

// What differs between two configs in keys that change how weights are decoded.
std::string difference(const json::object& a, const json::object& b) {
  struct Key {
    const char* name;
    std::initializer_list<std::string_view> spellings;
  };
  static const Key keys[] = {{"quant_method", {"quant_method", "method"}},
                             {"quant_algo", {"quant_algo"}},
                             {"bits", {"bits", "w_bit", "wbits"}},
                             {"group_size", {"group_size", "q_group_size"}},
                             {"sym", {"sym"}},
                             {"zero_point", {"zero_point"}},
                             {"desc_act", {"desc_act"}},
                             {"checkpoint_format", {"checkpoint_format", "format", "version"}}};
  for (const Key& key : keys) {
    const std::string x = decisive(a, key.spellings), y = decisive(b, key.spellings);
    if (!x.empty() && !y.empty() && x != y) return fmt::format("{} is {} and {}", key.name, x, y);
  }
  return {};
}

// Side files of older tools do not name their method; the keys they use do.
json::value with_method(json::value config) {
  // ModelOpt's side file: {producer, quantization: {quant_algo, ...}}.
  if (const json::value* inner = object_in(config, "quantization");
      inner != nullptr && (inner->get_object().contains("quant_algo") ||
                           inner->get_object().contains("quantized_layers"))) {
    json::value unwrapped = *inner;
    unwrapped.get_object()["quant_method"] = "modelopt";
    return unwrapped;
  }
  json::object& object = config.get_object();
  if (object.contains("quant_method") || object.contains("method")) return config;
  if (object.contains("zero_point") || object.contains("q_group_size")) {
    object["quant_method"] = "awq";
  } else if (object.contains("desc_act") || object.contains("sym")) {
    object["quant_method"] = "gptq";
  }
  return config;
}

}  // namespace

json::value read_optional_json(const std::string& directory, const std::string& name) {
  const std::string path = directory + "/" + name;
  std::error_code ec;
  if (!std::filesystem::exists(path, ec)) return nullptr;
  return parse_json_file(path);
}

json::value read_config_json(const std::string& directory) {
  json::value config = read_optional_json(directory, "config.json");
  if (config.is_null())
    fail_input("{}: there is no config.json; a model directory in HF layout has one", directory);
  if (!config.is_object()) fail_input("{}/config.json: expected an object", directory);
  return config;
}

QuantizationSource find_quantization_config(const std::string& directory,
                                            const json::value& config) {
  QuantizationSource found;
  const auto offer = [&](const json::value* value, const std::string& source) {
    if (value == nullptr) return;
    if (found.json.is_null()) {
      found.json = with_method(*value);
      found.source = source;
      return;
    }
    const json::value other = with_method(*value);
    const std::string d = difference(found.json.get_object(), other.get_object());
    if (!d.empty()) {
      found.warnings.push_back(fmt::format("{}: {} and {} differ: {}; the first is used", directory,
                                           found.source, source, d));
    }
  };
  for (const char* key : {"quantization_config", "compression_config"}) {
    offer(object_in(config, key), fmt::format("config.json: {}", key));
  }
  if (const json::value* text = object_in(config, "text_config")) {
    for (const char* key : {"quantization_config", "compression_config"}) {
      offer(object_in(*text, key), fmt::format("config.json: text_config.{}", key));
    }
  }
  for (const char* name : {"quantize_config.json", "quant_config.json", "hf_quant_config.json"}) {
    const json::value file = read_optional_json(directory, name);
    if (file.is_null()) continue;
    if (!file.is_object()) fail_input("{}/{}: expected an object", directory, name);
    offer(&file, name);
  }
  return found;
}

}  // namespace pluq
