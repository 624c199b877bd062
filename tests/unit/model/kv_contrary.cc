// SPDX-License-Identifier: Apache-2.0
// A format that claims compressed-tensors checkpoints, serves no layer, and says of every KV cache
// that it is int8: for the test of claimants that differ.
#include "pluq/plugin.hpp"

namespace {

using namespace pluq;

class ContraryConfig final : public QuantizationConfig {
 public:
  Choice get_quant_method(const LayerDesc&, const Device&) override {
    return Choice::not_mine("serves nothing");
  }
  KvAnswer kv_cache(const KvRequest&) override {
    KvAnswer answer;
    answer.verdict = PLUQ_VERDICT_USE;
    answer.dtype_id = PLUQ_DTYPE_I8;
    answer.in_force = answer.dynamic = true;
    return answer;
  }
};

class ContraryFormat final : public Format {
 public:
  FormatInfo describe() const override { return {"kv_contrary", "", "says int8", {}}; }
  ProbeResult probe(const ProbeRequest&) override { return {1, "any checkpoint"}; }
  std::unique_ptr<QuantizationConfig> create_config(const ConfigRequest&) override {
    return std::make_unique<ContraryConfig>();
  }
};

}  // namespace

PLUQ_PLUGIN("test.kv_contrary", "1.0.0", "kv_contrary", ContraryFormat)
