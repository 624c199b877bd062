// SPDX-License-Identifier: Apache-2.0
// Group "device": formats with CUDA kernels on the emulated device, through the engine's runtime:
// apply against dequantize in double, and what is not finite.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "conformance/cases.h"
#include "conformance/reference.h"
#include "device/exec.h"
#include "device/runtime.h"
#include "plugin/call_args.h"

namespace pluq::conformance {
namespace {

constexpr int64_t kBatches[] = {0, 1, 2, 7, 16, 17, 65};
constexpr uint16_t kUntouched = 0x5a5a;
constexpr size_t kGuard = 64;  // elements behind y

// A method whose weights are in the memory of a device.
class OnDevice {
 public:
  OnDevice(const Case& layer, uint32_t dtype, std::shared_ptr<DeviceRuntime> runtime)
      : runtime_(std::move(runtime)),
        dtype_(dtype_by_id(dtype)),
        in_(layer, setting(*runtime_, dtype)) {
    process();
  }
  Instance& instance() { return in_; }

  // y [m, N] of x [m, K], both of the 16-bit type; checks that nothing behind y was written.
  // rounded: x is handed over by its codes alone.
  std::vector<float> apply(const std::vector<float>& x, int64_t m, bool rounded = false) {
    std::vector<std::byte> words(x.size() * 2);
    from_f32(dtype_.id, x, words.data());
    const auto count = static_cast<size_t>(m * in_.n());
    std::vector<uint16_t> out(count + kGuard, kUntouched);
    const DeviceBuffer from = upload(words.data(), words.size(), "x"),
                       to = upload(out.data(), out.size() * 2, "y");
    const uint64_t bytes = in_.workspace(m, 1);
    const std::vector<std::byte> poison(bytes, std::byte{0xff});
    const DeviceBuffer workspace = upload(poison.data(), bytes, "a workspace");
    const DeviceExec exec(*runtime_, workspace.data(), bytes, &host_table());
    pluq_activation a = f32_rows(nullptr, m, in_.k(), in_.k());
    pluq_output y = f32_output(nullptr, m, in_.n(), in_.n());
    a.device_kind = y.device_kind = runtime_->description().kind;
    a.dtype = y.dtype = dtype_;
    a.data = from.data();
    y.data = to.data();
    QuantizedInputs codes;
    if (rounded) codes = quantize_inputs(in_, x, m);
    const DeviceBuffer on_device[] = {
        upload(codes.codes.data(), codes.codes.size(), "codes"),
        upload(codes.scales.data(), codes.scales.size() * sizeof(float), "scales"),
        upload(codes.zeros.data(), codes.zeros.size() * sizeof(int32_t), "zero points")};
    pluq_quantized quantized{};
    quantized.struct_size = sizeof quantized;
    quantized.codes = on_device[0].data();
    quantized.codes_ld = codes.ld;
    quantized.scales = on_device[1].as<float>();
    quantized.zeros = on_device[2].as<int32_t>();
    if (rounded) a.quantized = &quantized, a.data = nullptr;
    step("apply of {} on {} with M = {}", in_.text(), runtime_->name(), m);
    ok(in_.raw().api->apply(in_.raw().self, exec.get(), &a, nullptr, &y), in_.text() + ": apply");
    runtime_->download(out.data(), to.data(), out.size() * 2);
    expect(std::all_of(out.begin() + static_cast<std::ptrdiff_t>(count), out.end(),
                       [](uint16_t v) { return v == kUntouched; }),
           "{} on {}: apply with M = {} writes behind y", in_.text(), runtime_->name(), m);
    return to_f32(dtype_.id, {reinterpret_cast<const std::byte*>(out.data()), count * 2});
  }

 private:
  static Setting setting(const DeviceRuntime& runtime, uint32_t dtype) {
    Setting s = best_setting(1);
    s.device = runtime.description();
    s.activation_dtype = dtype;
    return s;
  }

  DeviceBuffer upload(const void* data, uint64_t bytes, const char* what) {
    DeviceBuffer out(runtime_, bytes, what);
    if (bytes > 0) runtime_->upload(out.data(), data, bytes);
    return out;
  }

  void process() {
    char key[256] = {};
    pluq_process_plan plan{};
    plan.struct_size = sizeof plan;
    plan.cache_key = {key, sizeof key, 0};
    const pluq_method& method = in_.raw();
    std::vector<pluq_tensor> tensors = in_.tensors();
    step("process_plan of {} on {}", in_.text(), runtime_->name());
    ok(method.api->process_plan(method.self, tensors.data(), sizeof(pluq_tensor), tensors.size(),
                                &plan),
       in_.text() + ": process_plan");
    expect(plan.buffer_bytes <= uint64_t{1} << 30, "{}: asks for a run-time buffer of {} bytes",
           in_.text(), plan.buffer_bytes);
    buffer_ = DeviceBuffer(runtime_, plan.buffer_bytes, "weights");
    if (plan.buffer_bytes > 0) runtime_->zero(buffer_.data(), plan.buffer_bytes);
    const DeviceBuffer scratch(runtime_, plan.scratch_bytes, "scratch");
    for (pluq_tensor& t : tensors) {
      t.data = tensors_.emplace_back(upload(t.data, t.data_bytes, "a tensor")).data();
      t.device_kind = runtime_->description().kind;
    }
    const DeviceExec exec(*runtime_, scratch.data(), plan.scratch_bytes, &host_table());
    step("process_weights_after_loading of {} on {}", in_.text(), runtime_->name());
    ok(method.api->process_weights_after_loading(method.self, exec.get(), tensors.data(),
                                                 sizeof(pluq_tensor), tensors.size(),
                                                 buffer_.data()),
       in_.text() + ": process_weights_after_loading");
    if (plan.keep_tensors == 0) tensors_.clear();
    in_.refresh();
  }

  std::shared_ptr<DeviceRuntime> runtime_;
  pluq_dtype dtype_;
  Instance in_;
  DeviceBuffer buffer_;
  std::vector<DeviceBuffer> tensors_;
};

// What rounding y to its 16-bit type may add to the relative error of a row.
double output_error(uint32_t dtype) { return dtype == PLUQ_DTYPE_BF16 ? 0x1p-9 : 0x1p-11; }

using Check = void (*)(OnDevice&, uint32_t dtype, uint64_t seed);

std::string on_device(const Subject& s, Check check, uint32_t capability = 80) {
  const Ready plugin = ready(s);
  ThreadPool pool(1);
  const std::shared_ptr<DeviceRuntime> runtime =
      open_device({PLUQ_DEVICE_CUDA_EMULATED, 0, capability});
  std::vector<std::string> kernels;
  std::string refused;
  int runs = 0;
  for (const Case& c : all_cases(plugin, pool, s.seed, false)) {
    for (const uint32_t dtype : {PLUQ_DTYPE_F16, PLUQ_DTYPE_BF16}) {
      try {
        OnDevice layer(c, dtype, runtime);
        check(layer, dtype, s.seed);
        const std::string kernel(text_of(layer.instance().info().kernel));
        if (std::find(kernels.begin(), kernels.end(), kernel) == kernels.end())
          kernels.push_back(kernel);
        ++runs;
      } catch (const Skip& e) {
        refused = e.what();
      }
    }
  }
  if (runs == 0) throw Skip("nothing to try: " + refused);
  return fmt::format("{} layers on {} by {}", runs, runtime->name(), fmt::join(kernels, ", "));
}

std::string emulated_cuda(const Subject& s) {
  return on_device(s, [](OnDevice& layer, uint32_t dtype, uint64_t seed) {
    Instance& in = layer.instance();
    constexpr int64_t kMost = 65;
    std::vector<double> rounded;
    const std::vector<float> x = make_short_inputs(in, dtype, kMost, seed, &rounded);
    const std::vector<double> want =
        reference(rounded, in.dequantize(), nullptr, kMost, in.n(), in.k());
    const double bound = in.info().error_bound + output_error(dtype);
    for (const int64_t m : kBatches) {
      const std::vector<float> y = layer.apply({x.begin(), x.begin() + m * in.k()}, m);
      const double error = row_error(y.data(), in.n(), want, m, in.n());
      expect(
          error <= bound,
          "{}, {}: with M = {} the error is {:.3e}; the method promises {:.3e} before rounding y",
          in.text(), dtype_name(dtype), m, error, in.info().error_bound);
    }
  });
}

std::string emulated_nan(const Subject& s) {
  return on_device(s, [](OnDevice& layer, uint32_t dtype, uint64_t seed) {
    Instance& in = layer.instance();
    const int64_t n = in.n(), k = in.k();
    const float nan = std::numeric_limits<float>::quiet_NaN(),
                inf = std::numeric_limits<float>::infinity();
    const pluq_activation_scheme& a = in.info().activation_scheme;
    const bool clamps = a.strategy != PLUQ_STRATEGY_NONE && a.dynamic == 0;
    for (const int64_t m : {3, 17}) {
      std::vector<double> rounded;
      const std::vector<float> x = make_short_inputs(in, dtype, m, seed, &rounded);
      const std::vector<float> good = layer.apply(x, m);
      for (const float bad : {nan, inf}) {
        std::vector<float> spoilt = x;
        spoilt[static_cast<size_t>(k + k / 2)] = bad;
        const std::vector<float> y = layer.apply(spoilt, m);
        for (int64_t i = 0; i < m; ++i) {
          for (int64_t j = 0; j < n; ++j) {
            const float v = y[static_cast<size_t>(i * n + j)];
            const bool holds = i != 1            ? v == good[static_cast<size_t>(i * n + j)]
                               : std::isnan(bad) ? std::isnan(v)
                                                 : clamps || !std::isfinite(v);
            expect(holds, "{}, {}: with M = {}, {} in row 1 of x gives y[{}, {}] = {}", in.text(),
                   dtype_name(dtype), m, bad, i, j, v);
          }
        }
      }
    }
  });
}

// Rounded activations from the host, without x itself. At 8.9, where fp8 codes have units.
std::string emulated_rounded(const Subject& s) {
  return on_device(
      s,
      [](OnDevice& layer, uint32_t dtype, uint64_t seed) {
        Instance& in = layer.instance();
        if ((in.info().flags & PLUQ_METHOD_TAKES_QUANTIZED) == 0)
          throw Skip("takes no rounded activations");
        for (const int64_t m : {1, 17, 65}) {
          std::vector<double> rounded;
          const std::vector<float> x = make_short_inputs(in, dtype, m, seed, &rounded);
          const std::vector<double> want =
              reference(rounded, in.dequantize(), nullptr, m, in.n(), in.k());
          const std::vector<float> y = layer.apply(x, m, true);
          const double error = row_error(y.data(), in.n(), want, m, in.n());
          expect(error <= in.info().error_bound + output_error(dtype),
                 "{}, {}: with M = {} rounded activations from the host give an error of {:.3e}; "
                 "the method promises {:.3e} before rounding y",
                 in.text(), dtype_name(dtype), m, error, in.info().error_bound);
        }
      },
      89);
}

}  // namespace

std::vector<Test> device_tests() {
  return {{"device", "emulated_cuda", emulated_cuda},
          {"device", "emulated_nan", emulated_nan},
          {"device", "emulated_rounded", emulated_rounded}};
}

}  // namespace pluq::conformance
