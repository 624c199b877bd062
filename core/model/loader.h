// SPDX-License-Identifier: Apache-2.0
// From a checkpoint to a running model: config, formats per layer, tensors, memory.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/hf.h"
#include "config/model_config.h"
#include "device/runtime.h"
#include "device/thread_pool.h"
#include "model/kv_scheme.h"
#include "model/model.h"
#include "plugin/layer_resolver.h"

namespace pluq {

struct LoadOptions {
  std::string path;
  uint32_t compute = PLUQ_COMPUTE_FAST;
  uint32_t activations = PLUQ_ACTIVATIONS_CHECKPOINT;
  std::shared_ptr<DeviceRuntime> device;  // null: the CPU
  int64_t context = 0;                    // 0: the model's own, at most 4096
  int64_t max_batch_tokens = 0;           // rows of one forward pass; 0: 256, on a GPU 2048
  std::vector<FormatInstance> formats;
  std::vector<LayerRule> rules;
  uint32_t kv_dtype = 0;  // of the KV cache that the user asks for; 0: none, for the memory check
  bool quiet = true;      // no progress
};

// Rows of one forward pass.
int64_t batch_tokens(const LoadOptions& options);

struct LoadedModel {
  std::shared_ptr<Model> model;
  std::shared_ptr<const Checkpoint> checkpoint;
  GenerationConfig generation;
  KvScheme kv;
  std::vector<std::string> tensors_unused;
  std::vector<std::string> warnings;
};

// Throws Error naming file, layer or key.
LoadedModel load_model(const PluginHost& host, std::shared_ptr<ThreadPool> pool,
                       const LoadOptions& options);

// The layers of a checkpoint and how they would be served, from headers alone.
struct Inspection {
  ModelConfig config;
  std::vector<LayerReport> layers;
  KvScheme kv;
  std::vector<std::string> tensors_unused;
  std::vector<std::string> warnings;
  int64_t parameters = 0;
  uint64_t bytes = 0;
};
Inspection inspect_model(const PluginHost& host, const LoadOptions& options);

// One layer by its checkpoint name, repacked and ready, with all it stands on.
struct SingleLayer {
  std::shared_ptr<LayerResolver> resolver;
  std::vector<std::shared_ptr<OwnedTensors>> owned;
  Linear linear;
  uint32_t device_dtype = 0;  // on a device: of x, and of y unless f32 is asked for
};
// On options.device where there is one. Throws Error(kInput) naming similar layers.
SingleLayer load_layer(const PluginHost& host, ThreadPool& pool, const LoadOptions& options,
                       const std::string& name);

}  // namespace pluq
