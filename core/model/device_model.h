// SPDX-License-Identifier: Apache-2.0
// The forward pass on a CUDA device: the same layers and the same order as on the CPU, with 16-bit
// activations, an f32 residual stream, and one stream of kernels. The choice of experts is made by
// the CPU, which waits for the router.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "device/runtime.h"
#include "model/model.h"

namespace pluq {

class DeviceModel {
 public:
  // The model's linear layers are on the device already. `workspace` bytes are what any of them
  // needs for model.max_batch_tokens() rows.
  DeviceModel(const Model& model, uint64_t workspace);
  ~DeviceModel();

  // As Model::forward; the KV views of the batch point into memory of the device, their tables to
  // host memory.
  void forward(const Batch& batch, float* logits);

 private:
  struct Norms {
    DeviceBuffer attention_in, attention_out, mlp_in, mlp_out, q_norm, k_norm;
  };
  struct Rotation {
    DeviceBuffer cos, sin;
    int64_t half = 0;
  };
  DeviceBuffer upload(const std::vector<float>& values, const char* what) const;
  DeviceBuffer scratch(int64_t width, uint64_t element) const;
  void attention_block(const Batch& batch, size_t index);
  void mlp_block(size_t index, int64_t rows);
  void run_mlp(const Model::Mlp& mlp, const uint16_t* x, int64_t rows, uint16_t* y);
  void run_experts(const Model::Layer& layer, int64_t rows);
  void upload_tables(const Batch& batch);

  const Model& model_;
  std::shared_ptr<DeviceRuntime> runtime_;
  EngineOps& ops_;
  uint64_t workspace_bytes_;
  std::vector<Norms> norms_;
  DeviceBuffer final_norm_;
  std::vector<Rotation> rotations_;
  DeviceBuffer workspace_, ids_, rows_, x_, h_, qkv_, a_, gate_up_, logits_, tables_;
  DeviceBuffer router_, order_, share_, expert_x_, expert_y_, moe_;  // mixture of experts
  std::vector<const int32_t*> chunk_tables_;                         // of the batch, in tables_
  int64_t logit_rows_ = 0;
};

}  // namespace pluq
