// SPDX-License-Identifier: Apache-2.0
// One layer's method: cutting boxes, loading, applying.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "support/fake_parts.h"

namespace pluq::test {

std::vector<BoxSpec> read_specs(const std::vector<pluq_weight_spec>& specs) {
  std::vector<BoxSpec> out;
  for (const pluq_weight_spec& s : specs) {
    BoxSpec b;
    b.suffix = text_of(s.suffix);
    b.dtype_id = s.dtype.id;
    b.optional = (s.flags & PLUQ_WEIGHT_OPTIONAL) != 0;
    b.shape.assign(s.shape, s.shape + s.rank);
    b.begin.assign(s.box_begin, s.box_begin + s.rank);
    b.end.assign(s.box_end, s.box_end + s.rank);
    out.push_back(std::move(b));
  }
  return out;
}

namespace {

FileTensor cut_box(const FileTensor& t, const BoxSpec& s) {
  FileTensor out{t.name, t.dtype_id, {}, {}};
  const uint64_t size = element_bytes(t.dtype_id);
  int64_t outer = 1;
  for (size_t d = 0; d < s.shape.size(); ++d) {
    if (s.begin[d] < 0 || s.begin[d] > s.end[d] || s.end[d] > t.shape[d])
      throw std::runtime_error("the box of " + t.name + " leaves the tensor");
    out.shape.push_back(s.end[d] - s.begin[d]);
    if (d + 1 < s.shape.size()) outer *= out.shape[d];
  }
  if (s.shape.empty()) {
    out.bytes = t.bytes;
    return out;
  }
  const size_t last = s.shape.size() - 1;
  for (int64_t i = 0; i < outer; ++i) {
    int64_t rest = i, row = 0, stride = 1;
    for (size_t d = last; d-- > 0;) {
      row += (s.begin[d] + rest % out.shape[d]) * stride;
      rest /= out.shape[d];
      stride *= t.shape[d];
    }
    const uint8_t* from =
        t.bytes.data() + static_cast<uint64_t>(row * t.shape[last] + s.begin[last]) * size;
    out.bytes.insert(out.bytes.end(), from, from + static_cast<uint64_t>(out.shape[last]) * size);
  }
  return out;
}

}  // namespace

void FakeMethod::Free::operator()(void* p) const { std::free(p); }
std::unique_ptr<uint8_t, FakeMethod::Free> FakeMethod::aligned(uint64_t bytes) {
  const uint64_t rounded = (std::max<uint64_t>(bytes, 1) + 63) / 64 * 64;
  auto* p = static_cast<uint8_t*>(std::aligned_alloc(64, rounded));
  std::memset(p, 0, rounded);
  return std::unique_ptr<uint8_t, Free>(p);
}

pluq_method_info FakeMethod::info() const {
  pluq_method_info info{};
  info.struct_size = sizeof info;
  method_.api->describe(method_.self, &info);
  return info;
}
std::string FakeMethod::scheme() const { return text_of(info().scheme); }
std::string FakeMethod::kernel() const { return text_of(info().kernel); }

std::vector<BoxSpec> FakeMethod::specs() const {
  return ask_specs([&](pluq_weight_spec* at, size_t* count) {
    return method_.api->create_weights(method_.self, at, sizeof *at, count);
  });
}

std::vector<FileTensor> FakeMethod::cut(const std::vector<FileTensor>& file) const {
  std::vector<FileTensor> out;
  for (const BoxSpec& s : specs()) {
    const auto it = std::find_if(file.begin(), file.end(),
                                 [&](const FileTensor& t) { return t.name == s.suffix; });
    if (it == file.end()) {
      if (s.optional) continue;
      throw std::runtime_error("tensor " + s.suffix + " is missing");
    }
    if (it->dtype_id != s.dtype_id || it->shape != s.shape)
      throw std::runtime_error("tensor " + s.suffix + " has another type or shape than declared");
    out.push_back(cut_box(*it, s));
  }
  return out;
}

std::vector<pluq_tensor> FakeMethod::views() const {
  std::vector<pluq_tensor> out;
  for (const FileTensor& t : tensors_) out.push_back(view(t, true));
  return out;
}

void FakeMethod::load(std::vector<FileTensor> shard, int n_workers) {
  tensors_ = std::move(shard);
  const std::vector<pluq_tensor> tensors = views();
  char key[128];
  pluq_process_plan plan{sizeof plan, 0, 0, 0, {key, sizeof key, 0}};
  check(method_.api->process_plan(method_.self, tensors.data(), sizeof(pluq_tensor), tensors.size(),
                                  &plan));
  buffer_ = aligned(plan.buffer_bytes);
  const auto scratch = aligned(plan.scratch_bytes);
  Threads threads;
  prepare(&threads, n_workers, scratch.get(), plan.scratch_bytes);
  check(method_.api->process_weights_after_loading(method_.self, &threads.exec, tensors.data(),
                                                   sizeof(pluq_tensor), tensors.size(),
                                                   buffer_.get()));
}

std::vector<float> FakeMethod::dequantize() const {
  const std::vector<pluq_tensor> tensors = views();
  std::vector<float> out(static_cast<size_t>(n() * k()));
  Threads threads;
  prepare(&threads, 1, nullptr, 0);
  const int64_t half = n() / 2;  // two ranges, as hosts ask
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, half}, {half, n()}}) {
    check(method_.api->dequantize(method_.self, &threads.exec, tensors.data(), sizeof(pluq_tensor),
                                  tensors.size(), begin, end, out.data() + begin * k(), k()));
  }
  return out;
}

std::vector<float> FakeMethod::apply(const std::vector<float>& x, int64_t m, const float* bias,
                                     int n_workers) const {
  std::vector<float> y(static_cast<size_t>(m * n()), 0);
  const uint64_t bytes = method_.api->workspace(method_.self, m, n_workers);
  const auto space = aligned(bytes);
  std::memset(space.get(), 0xff, bytes);  // contents are undefined
  Threads threads;
  prepare(&threads, n_workers, space.get(), bytes);
  pluq_activation a{};
  a.struct_size = sizeof a;
  a.device_kind = PLUQ_DEVICE_CPU;
  a.data = x.data();
  a.dtype = scalar_dtype(PLUQ_DTYPE_F32);
  a.m = m;
  a.k = a.ld = k();
  pluq_output out{};
  out.struct_size = sizeof out;
  out.device_kind = PLUQ_DEVICE_CPU;
  out.data = y.data();
  out.dtype = scalar_dtype(PLUQ_DTYPE_F32);
  out.m = m;
  out.n = out.ld = n();
  check(method_.api->apply(method_.self, &threads.exec, &a, bias, &out));
  return y;
}

}  // namespace pluq::test
