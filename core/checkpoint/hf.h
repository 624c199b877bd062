// SPDX-License-Identifier: Apache-2.0
// The JSON files of a model directory in HF layout, and where its quantization config is.
#pragma once

#include <boost/json/value.hpp>

#include <string>
#include <vector>

namespace pluq {

struct QuantizationSource {
  boost::json::value json;  // null: none anywhere
  std::string source;       // "config.json: quantization_config"
  std::vector<std::string> warnings;
};

// directory/name parsed; null when the file is absent.
boost::json::value read_optional_json(const std::string& directory, const std::string& name);

// config.json, which must be there and be an object.
boost::json::value read_config_json(const std::string& directory);

// The first of: config.json's quantization_config, its compression_config, the same two under
// text_config, then the files quantize_config.json, quant_config.json, hf_quant_config.json. When a
// second place differs in what decides the decoding (method, bits, group size, symmetry, order), a
// warning names both. AWQ's native spelling (w_bit, q_group_size, version) gets the quant_method it
// lacks.
QuantizationSource find_quantization_config(const std::string& directory,
                                            const boost::json::value& config);

}  // namespace pluq
