// SPDX-License-Identifier: Apache-2.0
// Format `awq`: AWQ checkpoints in the gemm layout. Keys as AutoAWQ, llm-awq and GPTQModel write them.
#include <algorithm>
#include <cctype>

#include "awq/method.h"
#include "awq/quantizer.h"

namespace {

using namespace pluq;

class AwqConfig final : public QuantizationConfig {
 public:
  explicit AwqConfig(const Json& q) {
    const int64_t bits = q.any_of({"bits", "w_bit"}).int_or(4);
    if (bits != 4) throw unsupported(format("'bits' is %lld; AWQ is built for 4", static_cast<long long>(bits)));
    group_size_ = q.any_of({"group_size", "q_group_size"}).int_or(128);
    if (group_size_ != -1 && group_size_ < 1) throw invalid(format("'group_size' is %lld; accepted are -1 and whole numbers from 1", static_cast<long long>(group_size_)));
    // GPTQModel names the layout checkpoint_format or format, AutoAWQ version.
    version_ = q.any_of({"version", "checkpoint_format", "format"}).string_or("gemm");
    std::transform(version_.begin(), version_.end(), version_.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    zero_point_ = q.get("zero_point").bool_or(!q.get("sym").bool_or(false));
    if (q.get("backend").string_or("autoawq") == "llm-awq") version_ = "llm-awq";
    skipped_ = q.get("modules_to_not_convert").strings();
  }

  Choice get_quant_method(const LayerDesc& layer, const Device& device) override {
    const Tensor* q = layer.tensors.find("qweight");
    if (layer.kind == "embedding" || q == nullptr) {
      for (const std::string& name : skipped_) {
        if (match(PLUQ_MATCH_SUBSTRING, name, layer.name)) return Choice::leave_unquantized("modules_to_not_convert has '" + name + "'");
      }
      return Choice::not_mine("there is no tensor 'qweight'");
    }
    if (version_ != "gemm" && version_ != "exllama" && version_ != "ipex") {
      return Choice::unsupported("AWQ version '" + version_ + "' is not built yet; gemm is");
    }
    if (!awq::has_gemm_tensors(layer)) return Choice::not_mine("qweight is not packed along N as AWQ does; the layer holds " + layer.tensors_text());
    if (!layer.tensors.has("qzeros")) {
      return Choice::unsupported(zero_point_ ? "tensor 'qzeros' is missing" : "zero_point is false and there are no qzeros: the gemm layout does not say where zero lies");
    }
    return Choice::use(awq::make_method(layer, device, group_size_), 500);
  }

 private:
  int64_t group_size_ = 128;
  std::string version_;
  bool zero_point_ = true;
  std::vector<std::string> skipped_;
};

class AwqFormat final : public Format {
 public:
  FormatInfo describe() const override {
    return {"awq", "", "AWQ, 4 bits with zero points (gemm layout)", awq::quantizer_options()};
  }
  ProbeResult probe(const ProbeRequest& r) override {
    const std::string method = r.quant_method.empty() ? r.quantization.get("method").string_or("") : r.quant_method;
    if (method == "awq") return {900, "quant_method is 'awq'"};
    return {0, method.empty() ? "the checkpoint has no quantization config" : "quant_method is '" + method + "', not awq"};
  }
  std::unique_ptr<QuantizationConfig> create_config(const ConfigRequest& r) override {
    return std::make_unique<AwqConfig>(r.quantization ? r.quantization : r.options);
  }
  std::string algorithms() const override { return "rtn"; }
  std::unique_ptr<Quantizer> create_quantizer(QuantizeRequest r) override { return awq::make_quantizer(std::move(r)); }
  std::string write_config(const QuantizeRequest& r, const std::vector<std::string>& plain) override {
    return awq::quantizer_config(r, plain);
  }
};

}  // namespace

PLUQ_PLUGIN("pluq.awq", "0.9.0", "awq", AwqFormat)
