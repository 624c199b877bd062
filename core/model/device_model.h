// SPDX-License-Identifier: Apache-2.0
// The forward pass on a CUDA device: the same layers and the same order as on the CPU, with 16-bit
// activations, an f32 residual stream, and one stream of kernels. All that a pass needs from the
// host is copied in one piece before it, so decode steps of one shape are recorded once and then
// run as a whole (CUDA graphs). The choice of experts is made by the CPU, which waits for the
// router; such models are not recorded.
//
// Where all layers that read one input take it rounded to 8 bits by one scheme, the kernel that
// makes the input rounds it, too, and its 16-bit rows are written only if something else reads
// them. PLUQ_CUDA_ROUNDING=methods leaves rounding to each layer; results are the same.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "device/runtime.h"
#include "model/device_logits.h"
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
  std::unique_ptr<NextLogits> logits(int64_t row);

  // By layer name: what rounds the layer's input in its stead ("with the norm").
  const std::map<std::string, std::string>& rounded_inputs() const { return rounded_inputs_; }

 private:
  struct Norms {
    DeviceBuffer attention_in, attention_out, mlp_in, mlp_out, q_norm, k_norm;
  };
  struct Rotation {
    DeviceBuffer cos, sin;
    int64_t half = 0;
  };
  // How the inputs of layers are rounded by the engine; nothing: they are not.
  using Rounding = std::optional<RoundedRows>;
  struct MlpRounding {
    Rounding in, down;
  };
  struct LayerRounding {
    Rounding qkv, o;
    MlpRounding mlp;  // without experts
    std::vector<MlpRounding> experts;
  };
  // What a pass takes from the host, in inputs_.
  struct Inputs {
    const int32_t* ids = nullptr;         // [rows]
    const int32_t* logit_rows = nullptr;  // [wanted]
    AttentionBatch attention;
    int64_t rows = 0, wanted = 0;
  };
  // Everything that the launches of a decode step depend on.
  using Shape = std::tuple<int64_t, int64_t, int64_t, int64_t, uint32_t, bool>;
  struct Step {
    int64_t uses = 0, last_use = 0;
    std::unique_ptr<RecordedWork> recorded;
  };

  DeviceBuffer upload(const std::vector<float>& values, const char* what) const;
  DeviceBuffer scratch(int64_t width, uint64_t element) const;
  template <class F>
  void visit_inputs(F f);
  void plan_rounding();
  Inputs upload_inputs(const Batch& batch);
  void decode(const Inputs& in);
  void run(const Inputs& in);
  void run_layers(const Inputs& in);
  void run_head(const Inputs& in, int64_t first, int64_t count);
  void attention_block(const Inputs& in, size_t index);
  void mlp_block(size_t index, int64_t rows);
  // `rounding` is the MLP's; x is rounded by rounding.in already.
  void run_mlp(const Model::Mlp& mlp, const MlpRounding& rounding, const uint16_t* x, int64_t rows,
               uint16_t* y);
  void run_experts(size_t index, int64_t rows);

  const Model& model_;
  std::shared_ptr<DeviceRuntime> runtime_;
  EngineOps& ops_;
  uint64_t workspace_bytes_;
  std::vector<Norms> norms_;
  std::vector<LayerRounding> rounding_;
  Rounding head_rounding_;
  std::map<std::string, std::string> rounded_inputs_;
  DeviceBuffer final_norm_;
  std::vector<Rotation> rotations_;
  DeviceBuffer workspace_, inputs_, x_, h_, qkv_, a_, gate_up_, logits_, partial_, top_;
  DeviceBuffer codes_, code_scales_, code_zeros_;                    // of one input at a time
  DeviceBuffer router_, order_, share_, expert_x_, expert_y_, moe_;  // mixture of experts
  int64_t logit_rows_ = 0;
  std::vector<std::byte> packed_;  // inputs_ while they are put together
  std::map<Shape, Step> steps_;
  int64_t step_ = 0;
  bool can_record_ = true;
};

}  // namespace pluq
