// SPDX-License-Identifier: Apache-2.0
#include "model/device_logits.h"

#include <cstring>

namespace pluq {

std::span<const float> DeviceLogits::all() {
  if (copy_.empty()) {
    copy_.resize(static_cast<size_t>(vocab_));
    runtime_.download(copy_.data(), logits_, copy_.size() * sizeof(float));
  }
  return copy_;
}

int32_t DeviceLogits::best() {
  int32_t id = -1;
  ops_.argmax(logits_, 1, vocab_, scratch_.as<int32_t>());
  runtime_.download(&id, scratch_.data(), sizeof(id));
  return id;
}

// The scratch holds rest, two counts, k ids, k values.
std::optional<TopLogits> DeviceLogits::top(int32_t k, double temperature) {
  if (k < 1 || k > kMostListed) return std::nullopt;
  constexpr size_t kHeader = 16;
  const auto most = static_cast<size_t>(k);
  auto* at = scratch_.as<std::byte>();
  auto* ids = reinterpret_cast<int32_t*>(at + kHeader);
  const float scale = temperature > 0 ? static_cast<float>(1 / temperature) : 0.0F;
  ops_.top_logits(logits_, 1, vocab_, k, scale, ids, reinterpret_cast<float*>(ids + k),
                  reinterpret_cast<int32_t*>(at + 8), reinterpret_cast<double*>(at));
  std::vector<std::byte> got(kHeader + most * 8);
  runtime_.download(got.data(), at, got.size());
  TopLogits out;
  int32_t counts[2];
  std::memcpy(&out.rest, got.data(), sizeof(out.rest));
  std::memcpy(counts, got.data() + 8, sizeof(counts));
  out.usable = counts[1] > 0;
  out.complete = counts[0] == counts[1];
  out.listed.resize(static_cast<size_t>(counts[0]));
  for (size_t i = 0; i < out.listed.size(); ++i) {
    std::memcpy(&out.listed[i].first, got.data() + kHeader + i * 4, 4);
    std::memcpy(&out.listed[i].second, got.data() + kHeader + (most + i) * 4, 4);
  }
  return out;
}

}  // namespace pluq
