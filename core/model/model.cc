// SPDX-License-Identifier: Apache-2.0
// The forward pass. One parallel region per batch: all workers walk the layers together, each operator splits its
// rows or panels over them, and a barrier stands wherever one operator reads what another worker wrote or reuses the
// workspace.
#include "model/model.h"

#include "base/error.h"
#include "device/exec.h"
#include "model/cpu/ops.h"
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
  if (rows > max_tokens_) fail(ErrorKind::kFailed, "a batch of {} tokens, at most {} are planned", rows, max_tokens_);
  for (const int32_t id : batch.ids) check_id(id);
  const HostExec exec(*pool_, -1, scratch_->workspace_bytes(), &host_table());
  embedding_.gather(exec.get(), batch.ids, scratch_->x.data());
  pool_->run([&](int worker, int) { run_worker(batch, logits, worker); });
}

void Model::run_worker(const Batch& batch, float* logits, int worker) {
  Scratch& s = *scratch_;
  const auto rows = static_cast<int64_t>(batch.ids.size());
  const int64_t hidden = config_.hidden_size;
  for (size_t i = 0; i < layers_.size(); ++i) {
    attention_block(batch, layers_[i], static_cast<int64_t>(i), worker);
    mlp_block(layers_[i], rows, worker);
  }
  // The wanted rows, normalised side by side, then the head on them alone.
  const auto wanted = static_cast<int64_t>(batch.logit_rows.size());
  const Range mine = share(wanted, worker, pool_->size());
  for (int64_t r = mine.begin; r < mine.end; ++r) {
    ops_->rms_norm(s.x.data() + batch.logit_rows[static_cast<size_t>(r)] * hidden, final_norm_.data(),
                   s.h.data() + r * hidden, 1, hidden, config_.rms_norm_eps);
  }
  pool_->barrier(worker);
  const HostExec exec(*pool_, worker, s.workspace_bytes(), &host_table());
  lm_head_.apply(exec.get(), s.h.data(), hidden, wanted, logits, config_.vocab_size);
}

// x += o(attention(rope(q(norm(x))), rope(k), v))
void Model::attention_block(const Batch& batch, const Layer& layer, int64_t index, int worker) {
  Scratch& s = *scratch_;
  const ModelConfig& c = config_;
  const auto rows = static_cast<int64_t>(batch.ids.size());
  const int64_t q_size = c.num_attention_heads * c.head_dim, kv_size = c.num_key_value_heads * c.head_dim;
  const Range mine = share(rows, worker, pool_->size());
  const HostExec exec(*pool_, worker, s.workspace_bytes(), &host_table());

  ops_->rms_norm(s.x.data() + mine.begin * c.hidden_size, layer.input_norm.data(),
                 s.h.data() + mine.begin * c.hidden_size, mine.size(), c.hidden_size, c.rms_norm_eps);
  pool_->barrier(worker);
  layer.q.apply(exec.get(), s.h.data(), c.hidden_size, rows, s.q.data(), q_size);
  pool_->barrier(worker);
  layer.k.apply(exec.get(), s.h.data(), c.hidden_size, rows, s.k.data(), kv_size);
  pool_->barrier(worker);
  layer.v.apply(exec.get(), s.h.data(), c.hidden_size, rows, s.v.data(), kv_size);
  pool_->barrier(worker);

  for (const SequenceChunk& chunk : batch.chunks) {
    const Range part = share(chunk.count, worker, pool_->size());
    for (int64_t i = part.begin; i < part.end; ++i) {
      const int64_t row = chunk.first_row + i, position = chunk.start + i;
      const float* cos = rope_cos_.data() + position * (c.head_dim / 2);
      const float* sin = rope_sin_.data() + position * (c.head_dim / 2);
      ops_->rope(s.q.data() + row * q_size, c.num_attention_heads, c.head_dim, cos, sin);
      ops_->rope(s.k.data() + row * kv_size, c.num_key_value_heads, c.head_dim, cos, sin);
      ops_->store_kv(chunk.kv, false, index, position, s.k.data() + row * kv_size);
      ops_->store_kv(chunk.kv, true, index, position, s.v.data() + row * kv_size);
    }
  }
  pool_->barrier(worker);

  for (const SequenceChunk& chunk : batch.chunks) {
    AttentionArgs args;
    args.q = s.q.data() + chunk.first_row * q_size;
    args.out = s.a.data() + chunk.first_row * q_size;
    args.count = chunk.count;
    args.start = chunk.start;
    args.heads = c.num_attention_heads;
    args.layer = index;
    args.scale = attention_scale_;
    args.kv = chunk.kv;
    args.scores = s.scores[static_cast<size_t>(worker)].data();
    const Range part = share(chunk.count * c.num_key_value_heads, worker, pool_->size());
    ops_->attention(args, part.begin, part.end);
  }
  pool_->barrier(worker);
  layer.o.apply(exec.get(), s.a.data(), q_size, rows, s.h.data(), c.hidden_size);
  pool_->barrier(worker);
  ops_->add(s.x.data() + mine.begin * c.hidden_size, s.h.data() + mine.begin * c.hidden_size,
            mine.size() * c.hidden_size);
}

// x += down(silu(gate(norm(x))) * up(norm(x)))
void Model::mlp_block(const Layer& layer, int64_t rows, int worker) {
  Scratch& s = *scratch_;
  const ModelConfig& c = config_;
  const Range mine = share(rows, worker, pool_->size());
  const HostExec exec(*pool_, worker, s.workspace_bytes(), &host_table());
  // Each worker normalises the rows it has just added to.
  ops_->rms_norm(s.x.data() + mine.begin * c.hidden_size, layer.post_norm.data(),
                 s.h.data() + mine.begin * c.hidden_size, mine.size(), c.hidden_size, c.rms_norm_eps);
  pool_->barrier(worker);
  layer.gate.apply(exec.get(), s.h.data(), c.hidden_size, rows, s.gate.data(), c.intermediate_size);
  pool_->barrier(worker);
  layer.up.apply(exec.get(), s.h.data(), c.hidden_size, rows, s.up.data(), c.intermediate_size);
  pool_->barrier(worker);
  const Range part = share(rows * c.intermediate_size, worker, pool_->size());
  ops_->silu_mul(s.gate.data() + part.begin, s.up.data() + part.begin, part.size());
  pool_->barrier(worker);
  layer.down.apply(exec.get(), s.gate.data(), c.intermediate_size, rows, s.h.data(), c.hidden_size);
  pool_->barrier(worker);
  ops_->add(s.x.data() + mine.begin * c.hidden_size, s.h.data() + mine.begin * c.hidden_size,
            mine.size() * c.hidden_size);
}

}  // namespace pluq
