// SPDX-License-Identifier: Apache-2.0
// A decoder-only transformer whose linear layers are method objects of format plugins. The model
// knows shapes and names; it never asks which format a layer has.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "config/model_config.h"
#include "device/memory.h"
#include "device/thread_pool.h"
#include "model/kv_view.h"
#include "model/linear.h"
#include "model/load_quantize.h"
#include "model/next_logits.h"

namespace pluq {

struct CpuOps;
class DeviceModel;

// Consecutive new tokens of one sequence in a batch.
struct SequenceChunk {
  KvView kv;              // its cache, with room for [0, start + count)
  int64_t start = 0;      // position of the first token
  int64_t first_row = 0;  // its row in the batch
  int64_t count = 0;
};

struct Batch {
  std::span<const int32_t> ids;           // [T]
  std::span<const SequenceChunk> chunks;  // cover the rows [0, T) in order
  std::span<const int64_t> logit_rows;    // rows whose logits are wanted, ascending
};

// The experts of each row of logits [rows, experts], which are overwritten: the softmax over all,
// the largest of it (the lowest expert on a tie), and their shares; both [rows, experts_per_token].
void choose_experts(const ModelConfig& config, float* logits, int64_t rows, int32_t* chosen,
                    float* shares);

class Model {
 public:
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelConfig& config() const { return config_; }
  int64_t max_batch_tokens() const { return max_tokens_; }
  int64_t max_context() const { return max_context_; }
  ThreadPool& pool() const { return *pool_; }

  // Throws Error(kInput) for an id outside the vocabulary.
  void check_id(int32_t id) const;

  // Runs the batch (at most max_batch_tokens rows), appends K and V of every token to the caches
  // and writes the wanted logits as rows [logit_rows.size(), vocab]. For one ISA the bits of each
  // row depend only on its sequence, not on threads, batch or chunking. Not reentrant. On a device
  // `logits` may be null where logit_rows has one row: see device_logits().
  void forward(const Batch& batch, float* logits);

  // On a device: row `row` of the logits of the last batch, which ran with `logits` null. Valid
  // until the next one.
  std::unique_ptr<NextLogits> device_logits(int64_t row) const;

  // Every linear layer and embedding, in the order of the forward pass.
  const std::vector<LayerReport>& layers() const { return reports_; }

  // Where it runs; null: the CPU.
  const std::shared_ptr<DeviceRuntime>& device() const { return device_; }
  // Type of activations there, F16 or BF16.
  uint32_t device_dtype() const { return device_dtype_; }

 private:
  friend class ModelLoader;
  friend class DeviceModel;
  Model();

  // gate holds gate and up when they are one tensor.
  struct Mlp {
    Linear gate, up, down;
    bool fused = false;
    int64_t width = 0;
  };
  struct Layer {
    std::vector<float> attention_in, attention_out, mlp_in,
        mlp_out;                        // [hidden], or empty: no such norm
    std::vector<float> q_norm, k_norm;  // [head_dim] or all heads together, or empty
    Linear q, k, v, o;                  // q holds q, k and v when they are one tensor
    bool fused_qkv = false;
    Mlp mlp;  // without experts
    Linear router;
    std::vector<Mlp> experts;
  };
  // cos and sin of every position, [max_context, half].
  struct Rotation {
    int64_t half = 0;
    std::vector<float> cos, sin;
  };
  struct Scratch;

  void run_worker(const Batch& batch, float* logits, int worker);
  void norm_or_copy(const std::vector<float>& weight, const float* x, float* y, int64_t rows) const;
  void add_block(const std::vector<float>& norm, const float* y, int64_t rows, int worker);
  void attention_block(const Batch& batch, const Layer& layer, int64_t index, int worker);
  void rotate_and_store(const Batch& batch, const Layer& layer, int64_t index, int worker);
  void mlp_block(const Layer& layer, int64_t rows, int worker);
  void run_mlp(const Mlp& mlp, const float* x, int64_t rows, float* y, int worker);
  void run_experts(const Layer& layer, int64_t rows, int worker);
  void choose_experts(int64_t begin, int64_t end);

  std::shared_ptr<DeviceRuntime> device_;
  uint32_t device_dtype_ = 0;
  ModelConfig config_;
  std::shared_ptr<LayerResolver>
      resolver_;  // keeps configs and checkpoint alive; destroyed after the layers
  std::vector<std::shared_ptr<OwnedTensors>> owned_;  // of layers quantized while loading
  std::shared_ptr<ThreadPool> pool_;
  const CpuOps* ops_ = nullptr;
  int64_t max_tokens_ = 0, max_context_ = 0;
  Linear embedding_;
  std::vector<Layer> layers_;
  std::vector<float> final_norm_;  // [hidden]
  Linear lm_head_;
  std::vector<Rotation> rotations_;  // one per ModelConfig::ropes
  void (*activate_)(float* gate, const float* up, int64_t count) = nullptr;
  std::unique_ptr<Scratch> scratch_;
  std::vector<LayerReport> reports_;
  std::unique_ptr<DeviceModel> on_device_;  // walks the layers there
};

}  // namespace pluq
