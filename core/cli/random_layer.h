// SPDX-License-Identifier: Apache-2.0
// A linear layer of some format with random weights, made by the format's own quantizer, for
// measuring.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "device/memory.h"
#include "device/thread_pool.h"
#include "plugin/format.h"

namespace pluq::cli {

struct RandomLayerOptions {
  int64_t n = 0, k = 0;               // W is [n, k]
  std::vector<std::string> settings;  // of the format, key=value
  uint32_t compute = PLUQ_COMPUTE_FAST, activations = PLUQ_ACTIVATIONS_CHECKPOINT;
  int64_t max_m = 1;
  uint64_t rotate_bytes = 0;  // distinct weight bytes wanted, so that no cache helps
};

// Copies of one layer, each with its own packed weights, used in turn.
class RandomLayer {
 public:
  // Throws Error when the format cannot quantize, or does not take its own layer.
  RandomLayer(const FormatHandle& format, const RandomLayerOptions& options, ThreadPool& pool);

  // y [m, n] = x [m, k] W^T by the next copy.
  void apply(const float* x, int64_t m, float* y);

  size_t copies() const { return copies_.size(); }
  uint64_t bytes() const { return bytes_; }  // of one copy at run time
  const MethodDescription& info() const { return info_; }

 private:
  struct Copy {
    Method method;
    Buffer buffer;
  };

  void quantize(const QuantizeJob& job);
  Copy load(const FormatConfig& config, const pluq_layer_desc& desc, bool* keeps_tensors);

  RandomLayerOptions options_;
  ThreadPool& pool_;
  std::vector<std::vector<std::byte>> data_;
  std::vector<std::string> names_;
  std::vector<pluq_tensor> tensors_;
  std::vector<Copy> copies_;
  Buffer workspace_;
  MethodDescription info_;
  uint64_t bytes_ = 0;
  size_t next_ = 0;
};

}  // namespace pluq::cli
