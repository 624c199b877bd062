// SPDX-License-Identifier: Apache-2.0
// The logits from which the next token is chosen, wherever they are: in host memory, or on a
// device, which then answers the usual questions itself, so that few bytes are copied.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace pluq {

// The lowest id among the largest values; -1 when none is finite or values is empty.
int32_t argmax(std::span<const float> values);

// The largest finite logits of a row.
struct TopLogits {
  std::vector<std::pair<int32_t, float>> listed;  // id and logit, in no order
  bool complete = false;                          // there are no other finite ones
  bool usable = true;                             // the largest logit is finite
  // The sum of exp((logit - largest) / temperature) over the finite ones that are not listed, in
  // f32 terms; 0 where it was not asked for.
  double rest = 0;
};

class NextLogits {
 public:
  virtual ~NextLogits() = default;
  // [vocab], valid until the next forward pass.
  virtual std::span<const float> all() = 0;
  // As pluq::argmax.
  virtual int32_t best() { return argmax(all()); }
  // The k largest; among equal ones the lowest ids. temperature 0: without `rest`. Nothing where
  // this is no faster than all(), or k is above what the device lists.
  virtual std::optional<TopLogits> top(int32_t k, double temperature) {
    static_cast<void>(k), static_cast<void>(temperature);
    return std::nullopt;
  }
};

class HostLogits : public NextLogits {
 public:
  explicit HostLogits(std::span<const float> values) : values_(values) {}
  std::span<const float> all() override { return values_; }

 private:
  std::span<const float> values_;
};

// Most logits that top() of a device lists.
inline constexpr int32_t kMostListed = 1024;

}  // namespace pluq
