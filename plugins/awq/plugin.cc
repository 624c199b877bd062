// SPDX-License-Identifier: Apache-2.0
// Format `awq`: AWQ checkpoints in the layouts gemm, gemv, gemv_fast and llm-awq. Keys as AutoAWQ,
// llm-awq, GPTQModel and auto-round write them.
#include <algorithm>
#include <cctype>

#include "awq/method.h"
#include "awq/quantizer.h"

namespace {

using namespace pluq;

// auto-round reuses AWQ's tensors under its own name.
bool is_auto_round_awq(const std::string& method, const Json& q) {
  return (method == "auto-round" || method == "auto_round" || method == "autoround") &&
         q.get("packing_format").string_or("").find("awq") != std::string::npos;
}

class AwqConfig final : public QuantizationConfig {
 public:
  explicit AwqConfig(const Json& q) {
    const int64_t bits = q.any_of({"bits", "w_bit"}).int_or(4);
    if (bits != 4)
      throw unsupported(format("'bits' is %lld; AWQ is built for 4", static_cast<long long>(bits)));
    group_size_ = q.any_of({"group_size", "q_group_size"}).int_or(128);
    if (group_size_ != -1 && (group_size_ < 1 || group_size_ > (1 << 30))) {
      throw invalid(format("'group_size' is %lld; accepted are -1 and whole numbers from 1",
                           static_cast<long long>(group_size_)));
    }
    // GPTQModel names the layout checkpoint_format or format, AutoAWQ version.
    version_ = q.any_of({"version", "checkpoint_format", "format"}).string_or("gemm");
    std::transform(version_.begin(), version_.end(), version_.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (!q.get("packing_format").is_null()) version_ = "gemm";
    if (q.get("backend").string_or("autoawq") == "llm-awq") version_ = "llm-awq";
    built_ = read_layout();
    zero_point_ = q.get("zero_point").bool_or(!q.get("sym").bool_or(false));
    skipped_ = q.get("modules_to_not_convert").strings();
  }

  Choice get_quant_method(const LayerDesc& layer, const Device& device) override {
    const Tensor* q = layer.tensors.find("qweight");
    if (layer.kind == "embedding" || q == nullptr) {
      for (const std::string& name : skipped_) {
        if (match(PLUQ_MATCH_SUBSTRING, name, layer.name))
          return Choice::leave_unquantized("modules_to_not_convert has '" + name + "'");
      }
      return Choice::not_mine("there is no tensor 'qweight'");
    }
    if (!built_)
      return Choice::unsupported("AWQ version '" + version_ +
                                 "' is not built; gemm, gemv, gemv_fast and llm-awq are");
    if (!layer.tensors.has("scales")) {
      return Choice::unsupported("tensor 'scales' is missing beside 'qweight'; the layer holds " +
                                 layer.tensors_text());
    }
    const char* why = nullptr;
    const awq::Layout layout = layout_of(layer, &why);
    if (why != nullptr)
      return Choice::unsupported(why + (": the layer holds " + layer.tensors_text()));
    if (!layer.tensors.has("qzeros") &&
        !(layout == awq::Layout::kTiles && layer.tensors.has("scaled_zeros"))) {
      const char* zeros = layout == awq::Layout::kTiles ? "'qzeros' or 'scaled_zeros'" : "'qzeros'";
      return Choice::unsupported(
          zero_point_ ? std::string("tensor ") + zeros + " is missing"
                      : std::string("zero_point is false and there are no qzeros: the ") +
                            awq::layout_name(layout) + " layout does not say where zero lies");
    }
    return Choice::use(awq::make_method(layer, device, layout, group_size_), 500);
  }

 private:
  bool read_layout() {
    if (version_ == "gemm" || version_ == "exllama" || version_ == "ipex") {
      layout_ = awq::Layout::kGemm;
    } else if (version_ == "gemv") {
      layout_ = awq::Layout::kGemv;
    } else if (version_ == "gemv_fast" || version_ == "llm-awq") {
      layout_ = awq::Layout::kTiles;
    } else {
      return false;
    }
    return true;
  }

  // The layout that the configuration names, or the one that the tensors have. *why: they have
  // none.
  awq::Layout layout_of(const LayerDesc& layer, const char** why) const {
    if (awq::has_tensors(layer, layout_, group_size_)) return layout_;
    for (const awq::Layout other : {awq::Layout::kGemm, awq::Layout::kGemv, awq::Layout::kTiles}) {
      if (!awq::has_tensors(layer, other, group_size_)) continue;
      log(PLUQ_LOG_WARNING, format("layer %s: the config says AWQ version '%s', the tensors are in "
                                   "layout %s, which is used",
                                   layer.name.c_str(), version_.c_str(), awq::layout_name(other)));
      return other;
    }
    *why =
        "qweight and scales have the shapes of none of AWQ's layouts (gemm [K, N / 8], gemv [N, K "
        "/ 8], gemv_fast [N / 4, K])";
    return layout_;
  }

  int64_t group_size_ = 128;
  std::string version_;
  awq::Layout layout_ = awq::Layout::kGemm;
  bool built_ = true, zero_point_ = true;
  std::vector<std::string> skipped_;
};

class AwqFormat final : public Format {
 public:
  FormatInfo describe() const override {
    return {"awq", "auto-round",
            "AWQ, 4 bits with zero points, in the layouts gemm, gemv, gemv_fast and llm-awq",
            awq::quantizer_options()};
  }
  ProbeResult probe(const ProbeRequest& r) override {
    const std::string method =
        r.quant_method.empty() ? r.quantization.get("method").string_or("") : r.quant_method;
    if (method == "awq") return {900, "quant_method is 'awq'"};
    if (is_auto_round_awq(method, r.quantization)) return {900, "auto-round in AWQ's packing"};
    // llm-awq's own quant_config.json has no quant_method.
    if (method.empty() && r.quantization.get("w_bit").is_int() &&
        r.quantization.get("q_group_size").is_int()) {
      return {600, "w_bit and q_group_size without a quant_method, as AutoAWQ and llm-awq write"};
    }
    return {0, method.empty() ? "the checkpoint has no quantization config"
                              : "quant_method is '" + method + "', not awq"};
  }
  std::unique_ptr<QuantizationConfig> create_config(const ConfigRequest& r) override {
    return std::make_unique<AwqConfig>(r.quantization ? r.quantization : r.options);
  }
  std::string algorithms() const override { return "rtn"; }
  std::unique_ptr<Quantizer> create_quantizer(QuantizeRequest r) override {
    return awq::make_quantizer(std::move(r));
  }
  std::string write_config(const QuantizeRequest& r,
                           const std::vector<std::string>& plain) override {
    return awq::quantizer_config(r, plain);
  }
};

}  // namespace

PLUQ_PLUGIN("pluq.awq", "0.9.0", "awq", AwqFormat)
