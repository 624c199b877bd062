// SPDX-License-Identifier: Apache-2.0
// pluq quantize: a dense checkpoint into any format whose plugin can quantize. Layers are streamed:
// no more than a few rows of a layer are in memory at once.
#pragma once

#include <boost/json/value.hpp>

#include <atomic>
#include <string>
#include <vector>

#include "device/thread_pool.h"
#include "plugin/plugin_host.h"

namespace pluq {

struct QuantizeOptions {
  std::string input, output;
  std::string format;
  std::string algorithm;              // empty: the format's default
  std::vector<std::string> settings;  // key=value
  bool dry_run = false;               // decide and estimate, write nothing
  bool quiet = false;
  const std::atomic<bool>* cancel = nullptr;
};

struct QuantizedLayer {
  std::string name;
  double error = 0;     // |W - W'| / |W|, Frobenius
  std::string skipped;  // why the layer stays plain; empty: it is quantized
};

struct QuantizeReport {
  std::vector<QuantizedLayer> layers;
  double seconds = 0;
  uint64_t peak_bytes = 0;  // of this process
  uint64_t input_bytes = 0, output_bytes = 0;
};

// Throws Error naming file, layer, option or format; on any error no output is left.
QuantizeReport quantize_model(const PluginHost& host, ThreadPool& pool,
                              const QuantizeOptions& options);

}  // namespace pluq
