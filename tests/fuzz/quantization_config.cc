// SPDX-License-Identifier: Apache-2.0
// quantization_config, given to every shipped format: probe, create_config, and the answer for one
// layer whose tensors are the usual ones of that format.
#include <boost/json.hpp>

#include <vector>

#include "base/json.h"
#include "checkpoint/dtype.h"
#include "fuzz.h"
#include "plugin/call_args.h"
#include "plugin/host_table.h"
#include "plugin/plugin_host.h"

namespace {

struct Named {
  const char* suffix;
  uint32_t dtype;
  std::vector<int64_t> shape;
};

pluq_tensor header(const Named& n) {
  pluq_tensor t{};
  t.struct_size = sizeof t;
  t.name = {n.suffix, std::char_traits<char>::length(n.suffix)};
  t.dtype = pluq::dtype_by_id(n.dtype);
  t.rank = static_cast<uint32_t>(n.shape.size());
  for (size_t i = 0; i < n.shape.size(); ++i) t.shape[i] = n.shape[i];
  return t;
}

// A layer [128, 256] in the layouts of several formats at once.
const std::vector<pluq_tensor>& tensors() {
  static const std::vector<Named> named = {
      {"qweight", PLUQ_DTYPE_I32, {32, 128}},     {"qzeros", PLUQ_DTYPE_I32, {2, 16}},
      {"scales", PLUQ_DTYPE_F16, {2, 128}},       {"g_idx", PLUQ_DTYPE_I32, {256}},
      {"weight", PLUQ_DTYPE_F8_E4M3, {128, 256}}, {"weight_scale", PLUQ_DTYPE_F32, {128, 1}},
      {"input_scale", PLUQ_DTYPE_F32, {1}},       {"weight_packed", PLUQ_DTYPE_I32, {128, 32}},
      {"weight_shape", PLUQ_DTYPE_I64, {2}},
  };
  static const std::vector<pluq_tensor> made = [] {
    std::vector<pluq_tensor> out;
    for (const Named& n : named) out.push_back(header(n));
    return out;
  }();
  return made;
}

void ask(const pluq::FormatHandle& format, const boost::json::value& quantization) {
  format.probe("safetensors", quantization, tensors());
  const pluq::FormatConfig config =
      format.create_config("safetensors", quantization, {}, "LlamaForCausalLM");
  pluq_layer_desc layer =
      pluq::whole_layer("model.layers.0.mlp.up_proj", "linear", 256, 128, tensors());
  pluq_device device{};
  device.struct_size = sizeof device;
  device.kind = PLUQ_DEVICE_CPU;
  device.n_workers = 1;
  const pluq::MethodChoice choice = config.get_quant_method(layer, device);
  if (choice.verdict == PLUQ_VERDICT_USE) {
    choice.method.describe();
    choice.method.create_weights();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static pluq::PluginHost* const host = [] {
    pluq::set_log_level(pluq::LogLevel::kError);  // warnings would fill the screen
    pluq::PluginOptions options;
    options.directories = {PLUQ_FUZZ_PLUGINS};
    options.search_defaults = false;
    return new pluq::PluginHost(options);
  }();
  if (host->formats().size() < 5) {
    std::fprintf(stderr, "no plugins in %s\n", PLUQ_FUZZ_PLUGINS);
    std::abort();
  }
  boost::json::value json;
  if (!pluq::fuzz::taken(
          [&] { json = pluq::parse_json(pluq::fuzz::text(data, size), "config.json"); })) {
    return 0;
  }
  for (const auto& format : host->formats()) pluq::fuzz::taken([&] { ask(*format, json); });
  return 0;
}
