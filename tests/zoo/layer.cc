// SPDX-License-Identifier: Apache-2.0
// A working format, int8 with a scale per row, that breaks one rule when fault.c says so. Compiled
// once, linked with one fault per plugin.
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pluq/plugin.hpp"
#include "zoo/fault.h"

namespace {

bool has(const char* fault) { return std::string(zoo_fault) == fault; }

// One call in flight is enough for these.
volatile int sink_value = 0;

class ZooMethod final : public pluq::LinearMethod {
 public:
  explicit ZooMethod(const pluq::LayerDesc& layer) : LinearMethod(layer) {
    if (has("leaks")) lost_ = new char[4096];
    if (has("keeps_threads"))
      std::thread([] { std::this_thread::sleep_for(std::chrono::seconds(30)); }).detach();
  }
  pluq::MethodInfo describe() const override {
    pluq::MethodInfo info;
    info.scheme = "int8 row";
    info.kernel = "zoo";
    info.error_bound = has("no_error_bound") ? 1e9 : 1e-5;
    info.bits_per_weight = 8;
    return info;
  }
  static std::vector<pluq::WeightSpec> specs(int64_t n, int64_t k) {
    pluq::WeightSpec codes, scale;
    codes.suffix = "codes";
    codes.dtype_id = PLUQ_DTYPE_I8;
    codes.shape = {n, k};
    scale.suffix = "scale";
    scale.dtype_id = PLUQ_DTYPE_F32;
    scale.shape = {n};
    scale.sample = pluq::Sample::real(1e-3, 1e-2);
    return {codes, scale};
  }
  std::vector<pluq::WeightSpec> create_weights() const override {
    std::vector<pluq::WeightSpec> out = specs(layer().out_features, layer().in_features);
    if (has("lies_about_shapes")) out[0].shape[1] *= 2;
    if (has("box_outside"))
      out[0].box_begin = {0, 0}, out[0].box_end = {layer().out_features + 1, layer().in_features};
    if (has("declares_nothing")) out.clear();
    return out;
  }
  pluq::ProcessPlan process_plan(const pluq::Tensors&) override {
    pluq::ProcessPlan plan;
    if (has("refuses_itself")) throw pluq::unsupported("not today");
    plan.buffer_bytes = has("huge_buffer") ? uint64_t{1} << 60 : 64;
    return plan;
  }
  void process_weights_after_loading(const pluq::Exec&, const pluq::Tensors& tensors,
                                     uint8_t* buffer) override {
    if (has("writes_to_weights")) *const_cast<uint8_t*>(tensors.at("codes").data()) = 1;
    if (has("writes_past_buffer")) buffer[64] = 1;
    buffer_ = buffer;
  }
  uint64_t workspace(int64_t, int n_workers) const override {
    return has("lies_about_workspace") ? 64 : 4096 * static_cast<uint64_t>(n_workers);
  }
  void apply(const pluq::Exec& exec, const pluq::Activation& x, const float* bias,
             const pluq::Output& y) const override {
    misbehave(exec, x, y);
    const pluq::Tensor &codes = kept().at("codes"), &scale = kept().at("scale");
    for (int64_t m = 0; m < y.m; ++m) {
      for (int64_t n = 0; n < y.n; ++n) {
        double sum = 0;
        for (int64_t k = 0; k < x.k; ++k)
          sum += static_cast<double>(x.data[m * x.ld + k]) * codes.load<int8_t>(n * x.k + k);
        y.data[m * y.ld + n] = static_cast<float>(sum * static_cast<double>(scale.real(n))) +
                               (bias == nullptr ? 0 : bias[n]);
      }
    }
    static int calls = 0;
    if (has("not_deterministic")) y.data[0] *= 1.0F + 1e-6F * static_cast<float>(++calls);
    if (has("wrong_result")) y.data[y.n - 1] += 1;
    if (has("gives_nan")) y.data[0] = std::nanf("");
  }
  void dequantize(const pluq::Tensors& tensors, int64_t n_begin, int64_t n_end, float* out,
                  int64_t ld) const override {
    const pluq::Tensor &codes = tensors.at("codes"), &scale = tensors.at("scale");
    for (int64_t n = n_begin; n < n_end; ++n) {
      for (int64_t k = 0; k < layer().k(); ++k)
        out[(n - n_begin) * ld + k] = scale.real(n) * codes.load<int8_t>(n * layer().k() + k);
    }
    if (has("dequantize_writes_past")) out[(n_end - n_begin) * ld] = 1;
  }

 private:
  void misbehave(const pluq::Exec& exec, const pluq::Activation& x, const pluq::Output& y) const {
    if (has("apply_segfaults")) *reinterpret_cast<volatile int*>(uintptr_t{16}) = 1;
    if (has("apply_aborts")) std::abort();
    if (has("apply_exits")) ::_exit(0);
    while (has("apply_hangs")) sink_value = sink_value + 1;
    if (has("apply_throws")) throw 42;
    if (has("apply_recurses")) misbehave(exec, x, y);
    if (has("writes_past_output")) y.data[(y.m - 1) * y.ld + y.n] = 0;
    if (has("reads_past_input")) sink_value = static_cast<int>(x.data[(x.m - 1) * x.ld + x.k]);
    if (has("writes_past_workspace")) exec.workspace()[exec.workspace_bytes()] = 1;
    if (has("lies_about_workspace")) exec.workspace()[4096] = 1;
    if (has("writes_to_buffer_in_apply")) buffer_[0] = 1;
    if (has("writes_to_input")) const_cast<float*>(x.data)[0] = 0;
  }
  uint8_t* buffer_ = nullptr;
  char* lost_ = nullptr;
};

class ZooConfig final : public pluq::QuantizationConfig {
 public:
  pluq::Choice get_quant_method(const pluq::LayerDesc& layer, const pluq::Device&) override {
    if (has("use_without_method")) return pluq::Choice::use(nullptr, 500);
    if (!layer.tensors.has("codes")) return pluq::Choice::not_mine("no codes");
    return pluq::Choice::use(std::make_unique<ZooMethod>(layer), 500);
  }
};

class ZooFormat final : public pluq::Format {
 public:
  pluq::FormatInfo describe() const override {
    return {"zoo_layer", "", "int8 with a scale per row", {}};
  }
  pluq::ProbeResult probe(const pluq::ProbeRequest&) override {
    if (has("probe_segfaults")) *reinterpret_cast<volatile int*>(uintptr_t{16}) = 1;
    return {0, "nothing is mine"};
  }
  std::unique_ptr<pluq::QuantizationConfig> create_config(const pluq::ConfigRequest&) override {
    return std::make_unique<ZooConfig>();
  }
  std::vector<pluq::SampleLayer> samples(int64_t n, int64_t k) const override {
    return {{"row", "", ZooMethod::specs(n, k)}};
  }
};

}  // namespace

PLUQ_PLUGIN("test.zoo_layer", "1.0.0", "zoo_layer", ZooFormat)
