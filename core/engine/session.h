// SPDX-License-Identifier: Apache-2.0
// One sequence on one model: its KV cache and the buffers of its forward passes.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/kv_cache.h"
#include "model/model.h"

namespace pluq {

struct SessionOptions {
  int64_t context = 0;  // most tokens the sequence can have; 0: the model's own, at most 4096
  uint32_t kv_dtype = PLUQ_DTYPE_F16;   // F32, F16, BF16, F8_E4M3, F8_E5M2 or I8
  std::vector<float> k_scale, v_scale;  // 8-bit types: see KvShape
};

// Not thread-safe; several sessions may share one model one after the other.
class Session {
 public:
  // Throws Error(kFailed) with the numbers when the memory for the cache is not there.
  Session(std::shared_ptr<Model> model, const SessionOptions& options);

  // Appends ids and returns the logits after the last one where they are, valid until the next
  // call; throws as prefill() does.
  NextLogits& extend(std::span<const int32_t> ids, const std::atomic<bool>* cancel = nullptr);
  // Appends ids and returns the logits [vocab] after the last one, valid until the next call.
  // Throws Error(kInput) when they do not fit, Error(kInterrupted) when *cancel turns true between
  // two chunks.
  std::span<const float> prefill(std::span<const int32_t> ids,
                                 const std::atomic<bool>* cancel = nullptr) {
    return extend(ids, cancel).all();
  }
  std::span<const float> decode(int32_t id) { return prefill({&id, 1}); }

  // Rows that all_logits hands out at a time, at most.
  int64_t logit_rows() const;

  // Appends ids and hands out the logits of each, in order, as rows [count, vocab].
  void all_logits(
      std::span<const int32_t> ids,
      const std::function<void(int64_t first_row, int64_t count, const float* logits)>& rows);

  int64_t length() const { return length_; }
  int64_t context() const { return context_; }
  void clear();
  // Forgets all but the first `length` tokens.
  void rewind(int64_t length);
  const Model& model() const { return *model_; }
  const KvCache& cache() const { return cache_; }

 private:
  void check_room(size_t count) const;
  enum class Rows { kNone, kLast, kAll };
  void run(std::span<const int32_t> ids, Rows wanted, float* logits);

  std::shared_ptr<Model> model_;
  int64_t context_;
  KvCache cache_;
  int64_t length_ = 0;
  std::vector<float> logits_;
  std::unique_ptr<NextLogits> next_;
};

}  // namespace pluq
