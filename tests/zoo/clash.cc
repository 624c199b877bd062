// SPDX-License-Identifier: Apache-2.0
// One of two plugins whose functions and variables have the same names, with external linkage, and
// other contents: CLASH is the number that all of them tell.
#include <memory>
#include <string>

#include "pluq/plugin.hpp"

int zoo_clash_value = CLASH;
int zoo_clash_function();
int zoo_clash_function() { return zoo_clash_value; }
inline int& zoo_clash_inline() {  // a local static is one per program where symbols are shared
  static int value = CLASH;
  return value;
}

namespace zoo_clash {

class Clash : public pluq::Format {
 public:
  pluq::FormatInfo describe() const override {
    summary_ = std::to_string(zoo_clash_function()) + " " + std::to_string(zoo_clash_inline() + 1);
    return {ZOO_FORMAT, "", summary_, {}};
  }
  pluq::ProbeResult probe(const pluq::ProbeRequest&) override {
    return {zoo_clash_value, "the number of this plugin"};
  }
  std::unique_ptr<pluq::QuantizationConfig> create_config(const pluq::ConfigRequest&) override {
    throw pluq::invalid("the zoo has no config");
  }

 private:
  mutable std::string summary_;
};

}  // namespace zoo_clash

PLUQ_PLUGIN("test." ZOO_FORMAT, "1.0.0", ZOO_FORMAT, zoo_clash::Clash)
