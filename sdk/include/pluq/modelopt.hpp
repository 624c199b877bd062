// SPDX-License-Identifier: Apache-2.0
// Reads the quantization config of NVIDIA ModelOpt's exports: which algorithm a layer has. Shared
// by the formats that serve parts of such checkpoints. The host hands over hf_quant_config.json's
// `quantization` object with quant_method "modelopt", or config.json's quantization_config, which
// has the same keys.
#pragma once

#include <map>
#include <string>

#include "pluq/kv_scales.hpp"
#include "pluq/plugin.hpp"

namespace pluq {
namespace modelopt {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  inline bool is_modelopt(const std::string& quant_method) {
    return quant_method == "modelopt" || quant_method == "modelopt_fp4";
  }

  // What the configs of all formats that serve ModelOpt's checkpoints have in common.
  class ModelOptConfig : public QuantizationConfig {
   public:
    explicit ModelOptConfig(const Json& root) : kv_(kv::read_scheme(root)) {
      algo_ = upper(root.get("quant_algo").string_or(""));
      const Json layers = root.get("quantized_layers");
      if (!layers.is_null() && !layers.is_object()) {
        throw invalid("'" + layers.path() + "' is not an object of layers");
      }
      for (size_t i = 0; i < layers.size(); ++i) {
        const std::string name(layers.key_at(i));
        const Json layer(layers.at(i).node(), layers.path() + "." + name);
        layers_[name] = upper(layer.get("quant_algo").as_string());
      }
      if (algo_.empty() && layers_.empty()) {
        throw invalid("'quant_algo' is missing; ModelOpt names FP8, NVFP4, ... there");
      }
    }
    KvAnswer kv_cache(const KvRequest& request) override { return kv::answer(kv_, request); }

   protected:
    // "FP8", "NVFP4", ...: the layer's own, else the checkpoint's.
    const std::string& algorithm(const std::string& layer) const {
      const auto it = layers_.find(layer);
      return it == layers_.end() ? algo_ : it->second;
    }

   private:
    static std::string upper(std::string text) {
      for (char& c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
      return text;
    }

    std::string algo_;
    std::map<std::string, std::string> layers_;
    kv::Scheme kv_;
  };

}  // namespace )
}  // namespace modelopt
}  // namespace pluq
