// SPDX-License-Identifier: Apache-2.0
// config.json: the model's sizes, and generation_config.json read as the same bytes.
#include "config/model_config.h"

#include "base/json.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pluq::fuzz::taken([&] {
    const auto json = pluq::parse_json(pluq::fuzz::text(data, size), "config.json");
    const pluq::ModelConfig model = pluq::parse_model_config(json, "config.json");
    pluq::parse_generation_config(json, model, "generation_config.json");
  });
  return 0;
}
