// SPDX-License-Identifier: Apache-2.0
// A plugin whose code throws everywhere; the SDK must turn it all into statuses.
#include <stdexcept>

#include "pluq/plugin.hpp"

namespace {

class Thrower final : public pluq::Format {
 public:
  pluq::FormatInfo describe() const override { return {"thrower", "", "throws", {}}; }
  pluq::ProbeResult probe(const pluq::ProbeRequest& r) override {
    if (r.container == "int") throw 42;
    throw std::runtime_error("probe threw");
  }
  std::unique_ptr<pluq::QuantizationConfig> create_config(const pluq::ConfigRequest&) override {
    throw pluq::invalid("'bits' is missing");
  }
};

}  // namespace

PLUQ_PLUGIN("test.thrower", "1.0.0", "thrower", Thrower)
