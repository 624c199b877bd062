// SPDX-License-Identifier: Apache-2.0
// The YAML file of --config.
#include "config/run_config.h"

#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pluq::fuzz::taken(
      [&] { pluq::parse_run_config(std::string(pluq::fuzz::text(data, size)), "/run.yaml"); });
  return 0;
}
