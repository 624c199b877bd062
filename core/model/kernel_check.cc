// SPDX-License-Identifier: Apache-2.0
#include "model/kernel_check.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "device/exec.h"
#include "plugin/host_table.h"

namespace pluq {
namespace {

constexpr int64_t kRows = 16;                       // of W that are looked at
constexpr int64_t kManyTokens = 16;                 // enough for the kernels of prompts
constexpr int64_t kFewWeights = int64_t{1} << 24;   // layers up to this size meet those, too
constexpr int64_t kMostWeights = int64_t{1} << 28;  // larger ones would take longer than a moment
// Wrong layouts and scales are errors near 1; rounding stays far below.
constexpr double kAllowed = 0.02;

// x [m, K] of zeros and `one`: no rounding of activations changes these, so that y is known for
// every scheme.
std::vector<float> pattern(int64_t m, int64_t k, float one) {
  std::vector<float> x(static_cast<size_t>(m * k));
  uint64_t state = 1;
  for (float& v : x) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    v = (state >> 63) != 0 ? one : 0;
  }
  return x;
}

// The rows of W that are looked at, from the first to the last.
int64_t row_at(int64_t i, int64_t n) { return n <= kRows ? i : i * (n - 1) / (kRows - 1); }

}  // namespace

// Columns of y against rows of W, by the sum of squares over what is finite.
std::string Linear::compare(ThreadPool& pool, const std::vector<float>& x, int64_t m,
                            const std::vector<float>& y, double allowed) const {
  const HostExec exec(pool, -1, {}, &host_table());
  std::vector<float> w(static_cast<size_t>(k_));
  double wrong = 0, size = 0;
  int64_t looked = 0;
  for (int64_t i = 0; i < std::min(kRows, n_); ++i) {
    const int64_t n = row_at(i, n_);
    dequantize(exec.get(), n, n + 1, w.data());
    for (int64_t row = 0; row < m; ++row) {
      double sum = 0, squares = 0;
      for (int64_t k = 0; k < k_; ++k) {
        const double term = static_cast<double>(x[static_cast<size_t>(row * k_ + k)]) *
                            static_cast<double>(w[static_cast<size_t>(k)]);
        sum += term;
        squares += term * term;
      }
      if (!bias_.empty()) sum += static_cast<double>(bias_[static_cast<size_t>(n)]);
      // A 16-bit y may overflow where nothing is wrong.
      if (!std::isfinite(squares) || std::fabs(sum) > 6e4) continue;
      const double got = static_cast<double>(y[static_cast<size_t>(row * n_ + n)]);
      wrong += (got - sum) * (got - sum);
      size += std::max(sum * sum, squares);
      ++looked;
    }
  }
  const double error = std::sqrt(wrong / std::max(size, 1e-30));
  if (looked == 0 || error <= allowed) return {};
  return fmt::format("of {} rows and {} tokens its result is off by {:.2g} of its size",
                     std::min(kRows, n_), m, error);
}

std::string Linear::check(ThreadPool& pool) const {
  if (report_.kind == "embedding" || n_ * k_ > kMostWeights || n_ == 0 || k_ == 0) return {};
  float one = 1;
  if (!plain_) {
    const ActivationRounding r = method_.describe().activations;
    if (r.strategy != PLUQ_STRATEGY_NONE && !r.dynamic && !r.static_scale.empty()) {
      const auto scale = std::find_if(tensors_.begin(), tensors_.end(), [&](const pluq_tensor& t) {
        return text_of(t.name) == r.static_scale;
      });
      if (scale == tensors_.end() || !is_plain_float(scale->dtype.id)) return {};
      one = 8 * to_f32(scale->dtype.id,
                       {static_cast<const std::byte*>(scale->data), scale->dtype.block_bytes})[0];
    }
  }
  const double bound = plain_ ? 0x1p-8 : method_.describe().error_bound;
  for (const int64_t m : {int64_t{1}, kManyTokens}) {
    if (m > 1 && n_ * k_ > kFewWeights) break;
    const std::vector<float> x = pattern(m, k_, one);
    const std::string why = compare(pool, x, m, apply_once(pool, x, m), kAllowed + 8 * bound);
    if (!why.empty()) return why;
  }
  return {};
}

// y [m, N] on whatever device the layer is.
std::vector<float> Linear::apply_once(ThreadPool& pool, const std::vector<float>& x,
                                      int64_t m) const {
  std::vector<float> y(static_cast<size_t>(m * n_));
  if (runtime_ == nullptr) {
    const Buffer work(workspace(m, pool.size()), "checking a kernel");
    const HostExec exec(pool, -1, {work.data(), work.size()}, &host_table());
    apply(exec.get(), x.data(), k_, m, y.data(), n_);
    return y;
  }
  const bool head = report_.kind == "lm_head";
  const uint32_t y_type = head ? PLUQ_DTYPE_F32 : dtype_;
  const auto unit = static_cast<uint64_t>(dtype_by_id(y_type).block_bytes);
  std::vector<std::byte> words(x.size() * 2), out(y.size() * unit);
  from_f32(dtype_, x, words.data());
  const DeviceBuffer from(runtime_, words.size(), "checking a kernel"),
      to(runtime_, out.size(), "checking a kernel");
  const uint64_t bytes = workspace(m, 1);
  const DeviceBuffer work(runtime_, bytes, "checking a kernel");
  runtime_->upload(from.data(), words.data(), words.size());
  const DeviceExec exec(*runtime_, work.data(), bytes, &host_table());
  apply_on_device(exec.get(), {from.as<uint16_t>(), k_}, m, to.data(), n_, head);
  runtime_->download(out.data(), to.data(), out.size());
  to_f32(y_type, out, y.data());
  return y;
}

Linear load_checked(LayerResolver& resolver, ThreadPool& pool, const std::function<Linear()>& load,
                    KernelChecks* checks) {
  std::string refused;
  for (;;) {
    Linear out = load();
    const LayerReport& r = out.report();
    const std::string kernel = fmt::format("{}, {}", r.format, r.kernel);
    const std::string why = checks->known.contains(kernel) ? std::string() : out.check(pool);
    if (why.empty()) {
      checks->known.insert(kernel);
      if (!refused.empty())
        checks->warnings.push_back(fmt::format("{}; '{}' is used instead", refused, r.kernel));
      return out;
    }
    refused = fmt::format(
        "format '{}': kernel '{}' is refused, it does not compute here what the format's "
        "dequantize "
        "says: on layer {} {}",
        r.format, r.kernel, r.name, why);
    if (!resolver.tell_less(r.format)) fail_plugin("{}; there is no other kernel", refused);
  }
}

}  // namespace pluq
