// SPDX-License-Identifier: Apache-2.0
// pluq layer MODEL NAME: one linear layer by its checkpoint name.
#include <boost/json/object.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/npy.h"
#include "checkpoint/convert.h"
#include "cli/common.h"
#include "cli/model_flags.h"
#include "device/exec.h"
#include "device/runtime.h"
#include "plugin/host_table.h"

namespace pluq::cli {
namespace {

struct Flags {
  std::string model, name, x, out, dequantize;
};

// y [M, N] = x [M, K] W^T, a batch at a time; returns the seconds it took.
double apply_on_cpu(const Linear& linear, ThreadPool& pool, const Matrix& x, int64_t batch,
                    float* y) {
  const Buffer workspace(linear.workspace(batch, pool.size()), "the workspace of the layer");
  const HostExec exec(pool, -1, {workspace.data(), workspace.size()}, &host_table());
  const auto start = std::chrono::steady_clock::now();
  for (int64_t row = 0; row < x.rows; row += batch) {
    linear.apply(exec.get(), x.data.data() + row * x.cols, x.cols, std::min(batch, x.rows - row),
                 y + row * linear.out_features(), linear.out_features());
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The same on a device: x is rounded to its 16-bit type first, y comes back as f32.
double apply_on_device(const SingleLayer& layer, const std::shared_ptr<DeviceRuntime>& device,
                       const Matrix& x, int64_t batch, float* y) {
  const Linear& linear = layer.linear;
  const int64_t n = linear.out_features();
  std::vector<std::byte> words(x.data.size() * 2);
  from_f32(layer.device_dtype, x.data, words.data());
  const DeviceBuffer from(device, words.size(), "the input of the layer");
  const DeviceBuffer to(device, static_cast<uint64_t>(std::min(batch, x.rows) * n) * sizeof(float),
                        "the output of the layer");
  const DeviceBuffer workspace(device, linear.workspace(batch, 1), "the workspace of the layer");
  const DeviceExec exec(*device, workspace.data(), workspace.bytes(), &host_table());
  device->upload(from.data(), words.data(), words.size());
  device->synchronize();
  double seconds = 0;
  for (int64_t row = 0; row < x.rows; row += batch) {
    const int64_t count = std::min(batch, x.rows - row);
    const auto start = std::chrono::steady_clock::now();
    linear.apply_on_device(exec.get(), {from.as<const uint16_t>() + row * x.cols, x.cols}, count,
                           to.data(), n, true);
    device->synchronize();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    device->download(y + row * n, to.data(), static_cast<uint64_t>(count * n) * sizeof(float));
  }
  return seconds;
}

void layer(const Flags& f, const CommonFlags& common) {
  if (f.x.empty() != f.out.empty()) fail_usage("--x and --out go together");
  if (f.x.empty() && f.dequantize.empty()) fail_usage("give --x with --out, or --dequantize");
  const RunConfig config = merge_config(common, f.model);
  const auto plugins = open_plugins(config);
  const auto pool = make_pool(config);
  const LoadOptions options = load_options(config, true);
  const SingleLayer loaded = load_layer(*plugins, *pool, options, f.name);
  const Linear& linear = loaded.linear;
  double seconds = 0;

  if (!f.x.empty()) {
    const Matrix x = read_npy(f.x);
    if (x.cols != linear.in_features()) {
      fail_input("{}: has shape [{}, {}], layer {} takes [M, {}]", f.x, x.rows, x.cols, f.name,
                 linear.in_features());
    }
    std::vector<float> y(static_cast<size_t>(x.rows * linear.out_features()));
    const int64_t batch = batch_tokens(options);
    seconds = options.device == nullptr
                  ? apply_on_cpu(linear, *pool, x, batch, y.data())
                  : apply_on_device(loaded, options.device, x, batch, y.data());
    write_npy(f.out, x.rows, linear.out_features(), y);
  }
  if (!f.dequantize.empty()) {
    std::vector<float> w(static_cast<size_t>(linear.out_features() * linear.in_features()));
    const HostExec exec(*pool, -1, {}, &host_table());
    linear.dequantize(exec.get(), 0, linear.out_features(), w.data());
    write_npy(f.dequantize, linear.out_features(), linear.in_features(), w);
  }
  const LayerReport& r = linear.report();
  if (common.json) {
    print_json(boost::json::object{
        {"format", r.format}, {"scheme", r.scheme}, {"kernel", r.kernel}, {"seconds", seconds}});
  } else {
    fmt::print("{}: {} {} by {}, {:.6f} s\n", r.name, r.format, r.scheme, r.kernel, seconds);
  }
}

}  // namespace

Verb add_layer(CLI::App& app, CommonFlags& common) {
  CLI::App* verb = app.add_subcommand("layer", "Run one linear layer, or dequantize it");
  verb->footer(
      "Examples:\n  pluq layer ./model model.layers.0.mlp.up_proj --x x.npy --out y.npy\n"
      "  pluq layer ./model model.layers.0.mlp.up_proj --dequantize w.npy\n"
      "  pluq layer ./model model.layers.0.mlp.up_proj --x x.npy --out y.npy --device "
      "cuda-emulated");
  static Flags f;
  verb->add_option("MODEL", f.model, "Model directory")->required();
  verb->add_option("NAME", f.name, "Name of the layer in the checkpoint")->required();
  verb->add_option("--x", f.x, "Input, float32 [M, K]")->type_name("FILE.npy");
  verb->add_option("--out", f.out, "Output to write, float32 [M, N]")->type_name("FILE.npy");
  verb->add_option("--dequantize", f.dequantize, "Weight to write, float32 [N, K]")
      ->type_name("FILE.npy");
  add_common_flags(*verb, common);
  return {verb, [&common] { layer(f, common); }};
}

}  // namespace pluq::cli
