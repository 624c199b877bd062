// SPDX-License-Identifier: Apache-2.0
#include "model/device_model.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "device/exec.h"
#include "plugin/host_table.h"

namespace pluq {
namespace {

DeviceActivation device_activation(Activation activation) {
  switch (activation) {
    case Activation::kGeluTanh:
      return DeviceActivation::kGeluTanh;
    case Activation::kGelu:
      return DeviceActivation::kGelu;
    case Activation::kSilu:
      break;
  }
  return DeviceActivation::kSilu;
}

DeviceKv device_kv(const KvView& view, const int32_t* table) {
  DeviceKv kv;
  kv.dtype = view.dtype;
  kv.num_blocks = view.num_blocks;
  kv.kv_heads = view.kv_heads;
  kv.head_dim = view.head_dim;
  kv.table = table;
  kv.k = view.k;
  kv.v = view.v;
  kv.token_scales = view.token_scales;
  kv.k_scale = view.k_scale;
  kv.v_scale = view.v_scale;
  return kv;
}

constexpr int64_t kLogitRows = 16;  // rows of logits computed at a time

}  // namespace

DeviceBuffer DeviceModel::upload(const std::vector<float>& values, const char* what) const {
  DeviceBuffer out(runtime_, values.size() * sizeof(float), what);
  if (!values.empty()) runtime_->upload(out.data(), values.data(), out.bytes());
  return out;
}

DeviceBuffer DeviceModel::scratch(int64_t width, uint64_t element) const {
  return {runtime_, static_cast<uint64_t>(model_.max_tokens_ * width) * element,
          "the buffers of the forward pass"};
}

DeviceModel::DeviceModel(const Model& model, uint64_t workspace)
    : model_(model),
      runtime_(model.device_),
      ops_(runtime_->ops(model.device_dtype_)),
      workspace_bytes_(workspace) {
  const ModelConfig& c = model.config_;
  for (const Model::Layer& l : model.layers_) {
    norms_.push_back({upload(l.attention_in, "norms"), upload(l.attention_out, "norms"),
                      upload(l.mlp_in, "norms"), upload(l.mlp_out, "norms"),
                      upload(l.q_norm, "norms"), upload(l.k_norm, "norms")});
  }
  final_norm_ = upload(model.final_norm_, "norms");
  for (const Model::Rotation& r : model.rotations_) {
    rotations_.push_back({upload(r.cos, "rotations"), upload(r.sin, "rotations"), r.half});
  }
  constexpr uint64_t kHalf = sizeof(uint16_t), kFloat = sizeof(float), kInt = sizeof(int32_t);
  workspace_ = DeviceBuffer(runtime_, workspace, "the workspace of the linear layers");
  ids_ = scratch(1, kInt);
  rows_ = scratch(1, kInt);
  x_ = scratch(c.hidden_size, kFloat);
  h_ = scratch(c.hidden_size, kHalf);
  qkv_ = scratch((c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim, kHalf);
  a_ = scratch(c.num_attention_heads * c.head_dim, kHalf);
  gate_up_ = scratch(2 * std::max(c.intermediate_size, c.moe_intermediate_size), kHalf);
  logit_rows_ = std::min(kLogitRows, model.max_tokens_);
  logits_ = DeviceBuffer(runtime_, static_cast<uint64_t>(logit_rows_ * c.vocab_size) * kFloat,
                         "the logits");
  // Each chunk of a batch has a table of its own; there are at most as many as tokens.
  const int64_t blocks = ceil_div(model.max_context_, kKvBlock);
  tables_ = DeviceBuffer(runtime_, static_cast<uint64_t>(blocks + model.max_tokens_) * kInt,
                         "block tables");
  if (c.num_experts == 0) return;
  router_ = scratch(c.num_experts, kFloat);
  order_ = scratch(c.experts_per_token, kInt);
  share_ = scratch(c.experts_per_token, kFloat);
  expert_x_ = scratch(c.hidden_size, kHalf);
  expert_y_ = scratch(c.hidden_size, kHalf);
  moe_ = scratch(c.hidden_size, kFloat);
}

DeviceModel::~DeviceModel() = default;

// The block tables of all chunks, one behind the other.
void DeviceModel::upload_tables(const Batch& batch) {
  std::vector<int32_t> all;
  std::vector<size_t> first;
  for (const SequenceChunk& chunk : batch.chunks) {
    first.push_back(all.size());
    const int64_t blocks = ceil_div(chunk.start + chunk.count, kKvBlock);
    all.insert(all.end(), chunk.kv.table, chunk.kv.table + blocks);
  }
  if (all.size() * sizeof(int32_t) > tables_.bytes()) {
    tables_ = DeviceBuffer(runtime_, all.size() * sizeof(int32_t), "block tables");
  }
  runtime_->upload(tables_.data(), all.data(), all.size() * sizeof(int32_t));
  chunk_tables_.clear();
  for (const size_t at : first) chunk_tables_.push_back(tables_.as<int32_t>() + at);
}

void DeviceModel::forward(const Batch& batch, float* logits) {
  const ModelConfig& c = model_.config_;
  const auto rows = static_cast<int64_t>(batch.ids.size());
  runtime_->upload(ids_.data(), batch.ids.data(), batch.ids.size_bytes());
  upload_tables(batch);
  const DeviceExec exec(*runtime_, workspace_.data(), workspace_bytes_, &host_table());
  model_.embedding_.gather_on_device(exec.get(), ids_.as<int32_t>(), rows, h_.as<uint16_t>());
  ops_.embed(h_.as<uint16_t>(), x_.as<float>(), c.embedding_multiplier, rows * c.hidden_size);
  for (size_t i = 0; i < model_.layers_.size(); ++i) {
    attention_block(batch, i);
    mlp_block(i, rows);
  }
  const auto wanted = static_cast<int64_t>(batch.logit_rows.size());
  for (int64_t at = 0; at < wanted; at += logit_rows_) {
    const int64_t n = std::min(logit_rows_, wanted - at);
    std::vector<int32_t> list;
    for (int64_t i = at; i < at + n; ++i) {
      list.push_back(static_cast<int32_t>(batch.logit_rows[static_cast<size_t>(i)]));
    }
    runtime_->upload(rows_.data(), list.data(), list.size() * sizeof(int32_t));
    ops_.rms_norm(x_.as<float>(), final_norm_.as<float>(), rows_.as<int32_t>(), h_.as<uint16_t>(),
                  n, c.hidden_size, c.rms_norm_eps);
    model_.lm_head_.apply_on_device(exec.get(), h_.as<uint16_t>(), c.hidden_size, n, logits_.data(),
                                    c.vocab_size, true);
    if (c.logit_divisor != 1 || c.logit_softcap > 0) {
      ops_.finish_logits(logits_.as<float>(), n * c.vocab_size, 1 / c.logit_divisor,
                         c.logit_softcap);
    }
    runtime_->download(logits + at * c.vocab_size, logits_.data(),
                       static_cast<uint64_t>(n * c.vocab_size) * sizeof(float));
  }
}

void DeviceModel::attention_block(const Batch& batch, size_t index) {
  const ModelConfig& c = model_.config_;
  const Model::Layer& layer = model_.layers_[index];
  const Norms& norms = norms_[index];
  const auto rows = static_cast<int64_t>(batch.ids.size());
  const int64_t hidden = c.hidden_size, q_size = c.num_attention_heads * c.head_dim,
                kv_size = c.num_key_value_heads * c.head_dim, width = q_size + 2 * kv_size;
  const DeviceExec exec(*runtime_, workspace_.data(), workspace_bytes_, &host_table());
  auto* h = h_.as<uint16_t>();
  auto* qkv = qkv_.as<uint16_t>();
  ops_.rms_norm(x_.as<float>(), norms.attention_in.as<float>(), nullptr, h, rows, hidden,
                c.rms_norm_eps);
  layer.q.apply_on_device(exec.get(), h, hidden, rows, qkv, width, false);
  if (!layer.fused_qkv) {
    layer.k.apply_on_device(exec.get(), h, hidden, rows, qkv + q_size, width, false);
    layer.v.apply_on_device(exec.get(), h, hidden, rows, qkv + q_size + kv_size, width, false);
  }
  const auto norm = [&](const DeviceBuffer& weight, int64_t first, int64_t size) {
    if (weight.bytes() == 0) return;
    const auto k = static_cast<int64_t>(weight.bytes() / sizeof(float));
    ops_.norm_segments(qkv, rows, width, first, size / k, k, weight.as<float>(), c.rms_norm_eps);
  };
  norm(norms.q_norm, 0, q_size);
  norm(norms.k_norm, q_size, kv_size);
  const LayerConfig& own = c.layers[index];
  for (size_t i = 0; i < batch.chunks.size(); ++i) {
    const SequenceChunk& chunk = batch.chunks[i];
    const DeviceKv kv = device_kv(chunk.kv, chunk_tables_[i]);
    AttentionShape shape;
    shape.count = chunk.count;
    shape.ld = width;
    shape.start = chunk.start;
    shape.heads = c.num_attention_heads;
    shape.kv_heads = c.num_key_value_heads;
    shape.head_dim = c.head_dim;
    shape.layer = static_cast<int64_t>(index);
    shape.window = own.window;
    shape.scale = c.attention_scale;
    shape.softcap = c.attention_softcap;
    const Rotation none;
    const Rotation& r = own.rope >= 0 ? rotations_[static_cast<size_t>(own.rope)] : none;
    uint16_t* first = qkv + chunk.first_row * width;
    ops_.rotate_and_store(first, shape, r.cos.as<float>(), r.sin.as<float>(), r.half, kv);
    ops_.attention(first, shape, kv, a_.as<uint16_t>() + chunk.first_row * q_size);
  }
  layer.o.apply_on_device(exec.get(), a_.as<uint16_t>(), q_size, rows, h, hidden, false);
  ops_.add_block(x_.as<float>(), h, norms.attention_out.as<float>(), rows, hidden, c.rms_norm_eps,
                 c.residual_multiplier);
}

void DeviceModel::mlp_block(size_t index, int64_t rows) {
  const ModelConfig& c = model_.config_;
  const Model::Layer& layer = model_.layers_[index];
  const Norms& norms = norms_[index];
  auto* h = h_.as<uint16_t>();
  ops_.rms_norm(x_.as<float>(), norms.mlp_in.as<float>(), nullptr, h, rows, c.hidden_size,
                c.rms_norm_eps);
  if (layer.experts.empty()) {
    run_mlp(layer.mlp, h, rows, h);
    ops_.add_block(x_.as<float>(), h, norms.mlp_out.as<float>(), rows, c.hidden_size,
                   c.rms_norm_eps, c.residual_multiplier);
    return;
  }
  run_experts(layer, rows);
  ops_.add_block(x_.as<float>(), moe_.as<const float>(), norms.mlp_out.as<float>(), rows,
                 c.hidden_size, c.rms_norm_eps, c.residual_multiplier);
}

// y [rows, hidden] = mlp(x); y may be x.
void DeviceModel::run_mlp(const Model::Mlp& mlp, const uint16_t* x, int64_t rows, uint16_t* y) {
  const int64_t hidden = model_.config_.hidden_size, ld = 2 * mlp.width;
  const DeviceExec exec(*runtime_, workspace_.data(), workspace_bytes_, &host_table());
  auto* gate = gate_up_.as<uint16_t>();
  mlp.gate.apply_on_device(exec.get(), x, hidden, rows, gate, ld, false);
  if (!mlp.fused) {
    mlp.up.apply_on_device(exec.get(), x, hidden, rows, gate + mlp.width, ld, false);
  }
  ops_.activate(gate, rows, mlp.width, ld, device_activation(model_.config_.activation));
  mlp.down.apply_on_device(exec.get(), gate, ld, rows, y, hidden, false);
}

// moe [rows, hidden] = sum over each row's experts, ascending, of share * expert(h).
void DeviceModel::run_experts(const Model::Layer& layer, int64_t rows) {
  const ModelConfig& c = model_.config_;
  const int64_t hidden = c.hidden_size, per_row = c.experts_per_token;
  const DeviceExec exec(*runtime_, workspace_.data(), workspace_bytes_, &host_table());
  layer.router.apply_on_device(exec.get(), h_.as<uint16_t>(), hidden, rows, router_.data(),
                               c.num_experts, true);
  std::vector<float> logits(static_cast<size_t>(rows * c.num_experts));
  runtime_->download(logits.data(), router_.data(), logits.size() * sizeof(float));
  const auto count = static_cast<size_t>(rows * per_row);
  std::vector<int32_t> chosen(count), order;
  std::vector<float> shares(count);
  choose_experts(c, logits.data(), rows, chosen.data(), shares.data());
  std::vector<size_t> begin{0};
  for (int32_t e = 0; e < c.num_experts; ++e) {
    for (size_t i = 0; i < count; ++i) {
      if (chosen[i] == e) order.push_back(static_cast<int32_t>(i));
    }
    begin.push_back(order.size());
  }
  runtime_->upload(order_.data(), order.data(), count * sizeof(int32_t));
  runtime_->upload(share_.data(), shares.data(), count * sizeof(float));
  runtime_->zero(moe_.data(), static_cast<uint64_t>(rows * hidden) * sizeof(float));
  for (size_t e = 0; e < layer.experts.size(); ++e) {
    const auto n = static_cast<int64_t>(begin[e + 1] - begin[e]);
    if (n == 0) continue;
    const int32_t* list = order_.as<int32_t>() + begin[e];
    ops_.gather_rows(h_.as<uint16_t>(), list, per_row, expert_x_.as<uint16_t>(), n, hidden);
    run_mlp(layer.experts[e], expert_x_.as<uint16_t>(), n, expert_y_.as<uint16_t>());
    ops_.add_rows(moe_.as<float>(), list, per_row, share_.as<float>(), expert_y_.as<uint16_t>(), n,
                  hidden);
  }
}

}  // namespace pluq
