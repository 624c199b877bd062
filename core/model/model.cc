// SPDX-License-Identifier: Apache-2.0
// The forward pass. One parallel region per batch: all workers walk the layers together, each
// operator splits its rows or panels over them, and a barrier stands wherever one operator reads
// what another worker wrote or reuses the workspace.
#include "model/model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "device/exec.h"
#include "model/cpu/ops.h"
#include "model/device_model.h"
#include "model/scratch.h"
#include "plugin/host_table.h"

namespace pluq {
namespace {

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

Range share(int64_t count, int worker, int workers) {
  return {count * worker / workers, count * (worker + 1) / workers};
}

}  // namespace

void choose_experts(const ModelConfig& config, float* logits, int64_t rows, int32_t* chosen,
                    float* shares) {
  const auto experts = static_cast<size_t>(config.num_experts),
             k = static_cast<size_t>(config.experts_per_token);
  std::vector<int32_t> ids(experts);
  for (int64_t row = 0; row < rows; ++row, logits += experts, chosen += k, shares += k) {
    const float largest = *std::max_element(logits, logits + experts);
    float sum = 0;
    for (size_t e = 0; e < experts; ++e) sum += logits[e] = std::exp(logits[e] - largest);
    for (size_t e = 0; e < experts; ++e) logits[e] /= sum;
    std::iota(ids.begin(), ids.end(), 0);
    std::partial_sort(ids.begin(), ids.begin() + static_cast<int64_t>(k), ids.end(),
                      [&](int32_t a, int32_t b) {
                        return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
                      });
    float total = 1;
    if (config.renormalize_experts) {
      total = 0;
      for (size_t i = 0; i < k; ++i) total += logits[ids[i]];
    }
    for (size_t i = 0; i < k; ++i) {
      chosen[i] = ids[i];
      shares[i] = logits[ids[i]] / total;
    }
  }
}

Model::Model() = default;
Model::~Model() = default;

void Model::check_id(int32_t id) const {
  if (id < 0 || id >= config_.vocab_size) {
    fail_input("token id {} is outside the vocabulary [0, {})", id, config_.vocab_size);
  }
}

void Model::forward(const Batch& batch, float* logits) {
  const auto rows = static_cast<int64_t>(batch.ids.size());
  if (rows == 0) return;
  if (rows > max_tokens_)
    fail(ErrorKind::kFailed, "a batch of {} tokens, at most {} are planned", rows, max_tokens_);
  for (const int32_t id : batch.ids) check_id(id);
  if (on_device_ != nullptr) {
    on_device_->forward(batch, logits);
    return;
  }
  const HostExec exec(*pool_, -1, scratch_->workspace_bytes(), &host_table());
  embedding_.gather(exec.get(), batch.ids, scratch_->x.data());
  pool_->run([&](int worker, int) { run_worker(batch, logits, worker); });
}

std::unique_ptr<NextLogits> Model::device_logits(int64_t row) const {
  return on_device_->logits(row);
}

void Model::run_worker(const Batch& batch, float* logits, int worker) {
  Scratch& s = *scratch_;
  const ModelConfig& c = config_;
  const auto rows = static_cast<int64_t>(batch.ids.size());
  const int64_t hidden = c.hidden_size;
  if (c.embedding_multiplier != 1) {
    const Range own = share(rows, worker, pool_->size());
    ops_->scale(s.x.data() + own.begin * hidden, c.embedding_multiplier, own.size() * hidden);
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    attention_block(batch, layers_[i], static_cast<int64_t>(i), worker);
    mlp_block(layers_[i], rows, worker);
  }
  // The wanted rows may have been added to by another worker; then they are normalised side by
  // side, for the head alone.
  pool_->barrier(worker);
  const auto wanted = static_cast<int64_t>(batch.logit_rows.size());
  const Range mine = share(wanted, worker, pool_->size());
  for (int64_t r = mine.begin; r < mine.end; ++r) {
    ops_->rms_norm(s.x.data() + batch.logit_rows[static_cast<size_t>(r)] * hidden,
                   final_norm_.data(), s.h.data() + r * hidden, 1, hidden, c.rms_norm_eps);
  }
  pool_->barrier(worker);
  const HostExec exec(*pool_, worker, s.workspace_bytes(), &host_table());
  lm_head_.apply(exec.get(), s.h.data(), hidden, wanted, logits, c.vocab_size);
  if (c.logit_divisor == 1 && c.logit_softcap == 0) return;
  pool_->barrier(worker);
  const Range part = share(wanted * c.vocab_size, worker, pool_->size());
  if (c.logit_divisor != 1) ops_->scale(logits + part.begin, 1 / c.logit_divisor, part.size());
  if (c.logit_softcap > 0) ops_->softcap(logits + part.begin, c.logit_softcap, part.size());
}

void Model::norm_or_copy(const std::vector<float>& weight, const float* x, float* y,
                         int64_t rows) const {
  const int64_t hidden = config_.hidden_size;
  if (weight.empty()) {
    std::copy(x, x + rows * hidden, y);
  } else {
    ops_->rms_norm(x, weight.data(), y, rows, hidden, config_.rms_norm_eps);
  }
}

// This worker's rows: x += residual_multiplier * norm(y), through h.
void Model::add_block(const std::vector<float>& norm, const float* y, int64_t rows, int worker) {
  Scratch& s = *scratch_;
  const int64_t hidden = config_.hidden_size;
  const Range own = share(rows, worker, pool_->size());
  const float* add = y + own.begin * hidden;
  if (!norm.empty()) {
    ops_->rms_norm(add, norm.data(), s.h.data() + own.begin * hidden, own.size(), hidden,
                   config_.rms_norm_eps);
    add = s.h.data() + own.begin * hidden;
  }
  if (config_.residual_multiplier == 1) {
    ops_->add(s.x.data() + own.begin * hidden, add, own.size() * hidden);
  } else {
    ops_->add_scaled(s.x.data() + own.begin * hidden, add, config_.residual_multiplier,
                     own.size() * hidden);
  }
}

// x += o(attention(rope(q(norm(x))), rope(k), v))
void Model::attention_block(const Batch& batch, const Layer& layer, int64_t index, int worker) {
  Scratch& s = *scratch_;
  const ModelConfig& c = config_;
  const auto rows = static_cast<int64_t>(batch.ids.size());
  const int64_t q_size = c.num_attention_heads * c.head_dim,
                kv_size = c.num_key_value_heads * c.head_dim;
  const int64_t width = q_size + 2 * kv_size;
  const Range own = share(rows, worker, pool_->size());
  const HostExec exec(*pool_, worker, s.workspace_bytes(), &host_table());

  norm_or_copy(layer.attention_in, s.x.data() + own.begin * c.hidden_size,
               s.h.data() + own.begin * c.hidden_size, own.size());
  pool_->barrier(worker);
  layer.q.apply(exec.get(), s.h.data(), c.hidden_size, rows, s.qkv.data(), width);
  pool_->barrier(worker);
  if (!layer.fused_qkv) {
    layer.k.apply(exec.get(), s.h.data(), c.hidden_size, rows, s.qkv.data() + q_size, width);
    pool_->barrier(worker);
    layer.v.apply(exec.get(), s.h.data(), c.hidden_size, rows, s.qkv.data() + q_size + kv_size,
                  width);
    pool_->barrier(worker);
  }
  rotate_and_store(batch, layer, index, worker);
  pool_->barrier(worker);

  for (const SequenceChunk& chunk : batch.chunks) {
    AttentionArgs args;
    args.q = s.qkv.data() + chunk.first_row * width;
    args.ldq = width;
    args.out = s.a.data() + chunk.first_row * q_size;
    args.count = chunk.count;
    args.start = chunk.start;
    args.heads = c.num_attention_heads;
    args.layer = index;
    args.window = c.layers[static_cast<size_t>(index)].window;
    args.scale = c.attention_scale;
    args.softcap = c.attention_softcap;
    args.kv = chunk.kv;
    args.tile = attention_tile(max_context_, c.num_attention_heads / c.num_key_value_heads);
    args.scratch = s.attention[static_cast<size_t>(worker)].data();
    ops_->attention(args, worker, pool_->size());
  }
  pool_->barrier(worker);
  layer.o.apply(exec.get(), s.a.data(), q_size, rows, s.h.data(), c.hidden_size);
  pool_->barrier(worker);
  add_block(layer.attention_out, s.h.data(), rows, worker);
}

// Norms of q and k, the rotation, and k and v into the cache: this worker's share of each chunk's
// tokens.
void Model::rotate_and_store(const Batch& batch, const Layer& layer, int64_t index, int worker) {
  const ModelConfig& c = config_;
  const int64_t q_size = c.num_attention_heads * c.head_dim,
                kv_size = c.num_key_value_heads * c.head_dim;
  const int rope = c.layers[static_cast<size_t>(index)].rope;
  const auto norm = [&](const std::vector<float>& weight, float* x, int64_t size) {
    if (weight.empty()) return;
    const auto k = static_cast<int64_t>(weight.size());
    ops_->rms_norm(x, weight.data(), x, size / k, k, c.rms_norm_eps);
  };
  for (const SequenceChunk& chunk : batch.chunks) {
    const Range part = share(chunk.count, worker, pool_->size());
    for (int64_t i = part.begin; i < part.end; ++i) {
      const int64_t position = chunk.start + i;
      float* q = scratch_->qkv.data() + (chunk.first_row + i) * (q_size + 2 * kv_size);
      float* k = q + q_size;
      norm(layer.q_norm, q, q_size);
      norm(layer.k_norm, k, kv_size);
      if (c.clip_qkv > 0) {
        for (int64_t j = 0; j < q_size + 2 * kv_size; ++j) {
          q[j] = std::clamp(q[j], -c.clip_qkv, c.clip_qkv);
        }
      }
      if (rope >= 0) {
        const Rotation& r = rotations_[static_cast<size_t>(rope)];
        const float* cos = r.cos.data() + position * r.half;
        const float* sin = r.sin.data() + position * r.half;
        ops_->rope(q, c.num_attention_heads, c.head_dim, r.half, cos, sin);
        ops_->rope(k, c.num_key_value_heads, c.head_dim, r.half, cos, sin);
      }
      ops_->store_kv(chunk.kv, false, index, position, k);
      ops_->store_kv(chunk.kv, true, index, position, k + kv_size);
    }
  }
}

// x += down(act(gate(norm(x))) * up(norm(x))), or the sum of the chosen experts.
void Model::mlp_block(const Layer& layer, int64_t rows, int worker) {
  Scratch& s = *scratch_;
  const int64_t hidden = config_.hidden_size;
  const Range own = share(rows, worker, pool_->size());
  // Each worker normalises the rows it has just added to.
  norm_or_copy(layer.mlp_in, s.x.data() + own.begin * hidden, s.h.data() + own.begin * hidden,
               own.size());
  pool_->barrier(worker);
  if (layer.experts.empty()) {
    run_mlp(layer.mlp, s.h.data(), rows, s.h.data(), worker);
    add_block(layer.mlp_out, s.h.data(), rows, worker);
  } else {
    run_experts(layer, rows, worker);
    add_block(layer.mlp_out, s.moe.data(), rows, worker);
  }
}

// y [rows, hidden] = mlp(x); y may be x. Ends with a barrier.
void Model::run_mlp(const Mlp& mlp, const float* x, int64_t rows, float* y, int worker) {
  Scratch& s = *scratch_;
  const int64_t hidden = config_.hidden_size, ld = 2 * mlp.width;
  const HostExec exec(*pool_, worker, s.workspace_bytes(), &host_table());
  mlp.gate.apply(exec.get(), x, hidden, rows, s.gate_up.data(), ld);
  pool_->barrier(worker);
  if (!mlp.fused) {
    mlp.up.apply(exec.get(), x, hidden, rows, s.gate_up.data() + mlp.width, ld);
    pool_->barrier(worker);
  }
  // Rows of gate and up lie side by side; the workers split all their columns.
  const Range part = share(rows * mlp.width, worker, pool_->size());
  for (int64_t at = part.begin; at < part.end;) {
    const int64_t row = at / mlp.width, column = at % mlp.width;
    const int64_t count = std::min(mlp.width - column, part.end - at);
    float* gate = s.gate_up.data() + row * ld + column;
    activate_(gate, gate + mlp.width, count);
    at += count;
  }
  pool_->barrier(worker);
  mlp.down.apply(exec.get(), s.gate_up.data(), ld, rows, y, hidden);
  pool_->barrier(worker);
}

// The experts of rows [begin, end).
void Model::choose_experts(int64_t begin, int64_t end) {
  Scratch& s = *scratch_;
  const auto first = static_cast<size_t>(begin), k = static_cast<size_t>(config_.experts_per_token);
  pluq::choose_experts(config_, s.router.data() + begin * config_.num_experts, end - begin,
                       s.chosen.data() + first * k, s.share.data() + first * k);
}

// moe [rows, hidden] = sum over each row's experts, ascending, of share * expert(h). Experts run
// one after the other on the rows that chose them.
void Model::run_experts(const Layer& layer, int64_t rows, int worker) {
  Scratch& s = *scratch_;
  const int64_t hidden = config_.hidden_size, k = config_.experts_per_token;
  const auto experts = static_cast<size_t>(config_.num_experts);
  const Range own = share(rows, worker, pool_->size());
  const HostExec exec(*pool_, worker, s.workspace_bytes(), &host_table());
  layer.router.apply(exec.get(), s.h.data(), hidden, rows, s.router.data(), config_.num_experts);
  pool_->barrier(worker);
  choose_experts(own.begin, own.end);
  std::fill(s.moe.begin() + own.begin * hidden, s.moe.begin() + own.end * hidden, 0.0F);
  pool_->barrier(worker);
  if (worker == 0) {  // rows sorted by expert
    const auto count = static_cast<size_t>(rows * k);
    std::fill(s.begin.begin(), s.begin.end(), 0);
    for (size_t i = 0; i < count; ++i) ++s.begin[static_cast<size_t>(s.chosen[i]) + 1];
    for (size_t e = 0; e < experts; ++e) s.begin[e + 1] += s.begin[e];
    std::vector<int32_t> next(s.begin.begin(), s.begin.end() - 1);
    for (size_t i = 0; i < count; ++i)
      s.order[static_cast<size_t>(next[static_cast<size_t>(s.chosen[i])]++)] =
          static_cast<int32_t>(i);
  }
  pool_->barrier(worker);
  for (size_t e = 0; e < experts; ++e) {
    const int32_t* list = s.order.data() + s.begin[e];
    const int64_t count = s.begin[e + 1] - s.begin[e];
    if (count == 0) continue;
    const Range part = share(count, worker, pool_->size());
    for (int64_t i = part.begin; i < part.end; ++i) {
      const float* from = s.h.data() + list[i] / k * hidden;
      std::copy(from, from + hidden, s.expert_x.data() + i * hidden);
    }
    pool_->barrier(worker);
    run_mlp(layer.experts[e], s.expert_x.data(), count, s.expert_y.data(), worker);
    for (int64_t i = part.begin; i < part.end; ++i) {
      ops_->add_scaled(s.moe.data() + list[i] / k * hidden, s.expert_y.data() + i * hidden,
                       s.share[static_cast<size_t>(list[i])], hidden);
    }
  }
  pool_->barrier(worker);
}

}  // namespace pluq
