// SPDX-License-Identifier: Apache-2.0
#include "conformance/on_device.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "conformance/reference.h"
#include "device/exec.h"
#include "plugin/call_args.h"

namespace pluq::conformance {
namespace {

constexpr std::byte kUntouched{0x5a};
constexpr int64_t kGuard = 64;  // elements behind y

}  // namespace

// x and y in the memory of the device, and y as it comes back.
struct OnDevice::Operands {
  int64_t ldx, ldy;
  DeviceBuffer x, y;
  std::vector<std::byte> out;
  int64_t codes_ld = 0;  // of rounded rows
  DeviceBuffer codes, scales, zeros;
};

OnDevice::OnDevice(const Case& layer, uint32_t dtype, std::shared_ptr<DeviceRuntime> runtime,
                   bool head)
    : runtime_(std::move(runtime)),
      dtype_(dtype_by_id(dtype)),
      y_dtype_(head ? dtype_by_id(PLUQ_DTYPE_F32) : dtype_),
      in_(layer, setting(*runtime_, dtype, head)) {
  process();
}

Setting OnDevice::setting(const DeviceRuntime& runtime, uint32_t dtype, bool head) {
  Setting s = best_setting(1);
  s.device = runtime.description();
  s.activation_dtype = dtype;
  if (head) s.kind = "lm_head";
  return s;
}

double OnDevice::output_error() const {
  return y_dtype_.id == PLUQ_DTYPE_BF16 ? 0x1p-9 : y_dtype_.id == PLUQ_DTYPE_F16 ? 0x1p-11 : 0;
}

DeviceBuffer OnDevice::upload(const void* data, uint64_t bytes, const char* what) {
  DeviceBuffer out(runtime_, bytes, what);
  if (bytes > 0) runtime_->upload(out.data(), data, bytes);
  return out;
}

void OnDevice::process() {
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
                                               sizeof(pluq_tensor), tensors.size(), buffer_.data()),
     in_.text() + ": process_weights_after_loading");
  runtime_->synchronize();  // before the scratch goes
  if (plan.keep_tensors == 0) tensors_.clear();
  in_.refresh();
}

pluq_status* OnDevice::run(Operands* o, const Call& call) {
  const uint64_t bytes = in_.workspace(call.m, 1);
  const std::vector<std::byte> poison(bytes, std::byte{0xff});
  const DeviceBuffer workspace = upload(poison.data(), bytes, "a workspace");
  const DeviceBuffer bias =
      upload(call.bias, call.bias == nullptr ? 0 : static_cast<uint64_t>(in_.n()) * 4, "a bias");
  const DeviceExec exec(*runtime_, workspace.data(), bytes - call.workspace_missing, &host_table());
  pluq_activation a = f32_rows(nullptr, call.m, in_.k(), o->ldx);
  pluq_output y = f32_output(nullptr, call.m, in_.n(), o->ldy);
  a.device_kind = y.device_kind = runtime_->description().kind;
  a.dtype = dtype_;
  y.dtype = y_dtype_;
  a.data = o->x.data();
  y.data = o->y.data();
  pluq_quantized quantized{};
  if (call.rounded) {
    quantized.struct_size = sizeof quantized;
    quantized.codes = o->codes.data();
    quantized.codes_ld = o->codes_ld;
    quantized.scales = o->scales.as<float>();
    quantized.zeros = o->zeros.as<int32_t>();
    a.quantized = &quantized, a.data = nullptr;
  }
  step("apply of {} on {} with M = {}, gaps of {}{}{}", in_.text(), runtime_->name(), call.m,
       call.gap, call.bias == nullptr ? "" : ", with bias", call.rounded ? ", rounded x" : "");
  pluq_status* status = in_.raw().api->apply(in_.raw().self, exec.get(), &a, bias.as<float>(), &y);
  runtime_->download(o->out.data(), o->y.data(), o->out.size());
  return status;
}

namespace {

bool untouched(const std::byte* from, const std::byte* to) {
  return std::all_of(from, to, [](std::byte b) { return b == kUntouched; });
}

}  // namespace

std::vector<float> OnDevice::apply(const std::vector<float>& x, const Call& call) {
  const int64_t n = in_.n(), k = in_.k(), m = call.m;
  Operands o{k + call.gap, n + 2 * call.gap, {}, {}, {}, 0, {}, {}, {}};
  std::vector<float> rows(static_cast<size_t>(m == 0 ? 0 : (m - 1) * o.ldx + k),
                          std::numeric_limits<float>::quiet_NaN());
  for (int64_t i = 0; i < m; ++i) std::copy_n(x.data() + i * k, k, rows.data() + i * o.ldx);
  std::vector<std::byte> words(rows.size() * 2);
  from_f32(dtype_.id, rows, words.data());
  o.x = upload(words.data(), words.size(), "x");
  if (call.rounded) {
    const QuantizedInputs q = quantize_inputs(in_, x, m);
    o.codes_ld = q.ld;
    o.codes = upload(q.codes.data(), q.codes.size(), "codes");
    o.scales = upload(q.scales.data(), q.scales.size() * sizeof(float), "scales");
    o.zeros = upload(q.zeros.data(), q.zeros.size() * sizeof(int32_t), "zero points");
  }
  const size_t unit = y_dtype_.block_bytes;
  const auto count = static_cast<size_t>(m == 0 ? 0 : (m - 1) * o.ldy + n);
  o.out.assign((count + kGuard) * unit, kUntouched);
  o.y = upload(o.out.data(), o.out.size(), "y");
  ok(run(&o, call), in_.text() + ": apply");
  expect(untouched(o.out.data() + count * unit, o.out.data() + o.out.size()),
         "{} on {}: apply with M = {} writes behind y", in_.text(), runtime_->name(), m);
  std::vector<float> y(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i) {
    const std::byte* row = o.out.data() + static_cast<size_t>(i * o.ldy) * unit;
    const std::vector<float> values = to_f32(y_dtype_.id, {row, static_cast<size_t>(n) * unit});
    std::copy(values.begin(), values.end(), y.begin() + i * n);
    if (i + 1 < m)
      expect(
          untouched(row + static_cast<size_t>(n) * unit, row + static_cast<size_t>(o.ldy) * unit),
          "{} on {}: apply with M = {} writes between the rows of y: they are ld = {} apart",
          in_.text(), runtime_->name(), m, o.ldy);
  }
  return y;
}

pluq_status* OnDevice::refused(const std::vector<float>& x, const Call& call) {
  const auto count = static_cast<size_t>(call.m * in_.n());
  std::vector<std::byte> words(static_cast<size_t>(call.m * in_.k()) * 2);
  from_f32(dtype_.id, {x.data(), static_cast<size_t>(call.m * in_.k())}, words.data());
  Operands o{in_.k(), in_.n(), {}, {}, {}, 0, {}, {}, {}};
  o.x = upload(words.data(), words.size(), "x");
  o.out.assign(count * y_dtype_.block_bytes, kUntouched);
  o.y = upload(o.out.data(), o.out.size(), "y");
  pluq_status* status = run(&o, call);
  if (status != nullptr && !untouched(o.out.data(), o.out.data() + o.out.size())) {
    take_text(status);
    fail_test("{}: an error, but y was touched", in_.text());
  }
  return status;
}

}  // namespace pluq::conformance
