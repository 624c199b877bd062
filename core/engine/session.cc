// SPDX-License-Identifier: Apache-2.0
#include "engine/session.h"

#include <algorithm>

#include "base/error.h"
#include "device/memory.h"

namespace pluq {
namespace {

KvShape kv_shape(const Model& model, int64_t context, const SessionOptions& options) {
  const ModelConfig& c = model.config();
  const KvShape shape{
      c.num_hidden_layers, c.num_key_value_heads, c.head_dim, options.kv_dtype, context,
      options.k_scale,     options.v_scale};
  if (model.device() == nullptr) {
    require_memory(static_cast<uint64_t>(shape.token_bytes() * context),
                   fmt::format("a KV cache of {} tokens", context));
  }
  return shape;
}

}  // namespace

Session::Session(std::shared_ptr<Model> model, const SessionOptions& options)
    : model_(std::move(model)),
      context_(options.context > 0 ? std::min(options.context, model_->max_context())
                                   : model_->max_context()),
      cache_(kv_shape(*model_, context_, options), model_->device()) {}

void Session::check_room(size_t count) const {
  const auto total = length_ + static_cast<int64_t>(count);
  if (total > context_) {
    fail_input("{} tokens after {} do not fit the context of {}; use a larger --context", count,
               length_, context_);
  }
}

// One batch: appends ids and writes the logits of the last, or of all of them.
void Session::run(std::span<const int32_t> ids, Rows wanted, float* logits) {
  const auto count = static_cast<int64_t>(ids.size());
  cache_.grow(length_ + count);
  const SequenceChunk chunk{cache_.view(), length_, 0, count};
  std::vector<int64_t> rows;
  const int64_t first = wanted == Rows::kAll ? 0 : wanted == Rows::kLast ? count - 1 : count;
  for (int64_t i = first; i < count; ++i) rows.push_back(i);
  model_->forward({ids, {&chunk, 1}, rows}, logits);
  length_ += count;
}

NextLogits& Session::extend(std::span<const int32_t> ids, const std::atomic<bool>* cancel) {
  check_room(ids.size());
  const bool here = model_->device() == nullptr;
  if (here) logits_.resize(static_cast<size_t>(model_->config().vocab_size));
  const auto step = static_cast<size_t>(model_->max_batch_tokens());
  for (size_t at = 0; at < ids.size(); at += step) {
    if (at > 0 && cancel != nullptr && cancel->load())
      throw Error(ErrorKind::kInterrupted, "interrupted");
    const size_t n = std::min(step, ids.size() - at);
    run(ids.subspan(at, n), at + n == ids.size() ? Rows::kLast : Rows::kNone,
        here ? logits_.data() : nullptr);
  }
  next_ = here ? std::make_unique<HostLogits>(logits_) : model_->device_logits(0);
  return *next_;
}

// The head over a large vocabulary is the widest thing here; fewer rows at once keep it small.
int64_t Session::logit_rows() const {
  constexpr int64_t kLogits = int64_t{1} << 23;
  return std::min(model_->max_batch_tokens(),
                  std::max<int64_t>(16, kLogits / model_->config().vocab_size));
}

void Session::all_logits(std::span<const int32_t> ids,
                         const std::function<void(int64_t, int64_t, const float*)>& rows) {
  check_room(ids.size());
  const auto step = static_cast<size_t>(logit_rows());
  std::vector<float> logits(step * static_cast<size_t>(model_->config().vocab_size));
  for (size_t at = 0; at < ids.size(); at += step) {
    const size_t n = std::min(step, ids.size() - at);
    run(ids.subspan(at, n), Rows::kAll, logits.data());
    rows(static_cast<int64_t>(at), static_cast<int64_t>(n), logits.data());
  }
}

void Session::rewind(int64_t length) { length_ = std::clamp<int64_t>(length, 0, length_); }

void Session::clear() {
  cache_.clear();
  length_ = 0;
}

}  // namespace pluq
