// SPDX-License-Identifier: Apache-2.0
#include "engine/kv_cache.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/dtype.h"

namespace pluq {

int64_t KvShape::token_bytes() const {
  return 2 * layers * kv_heads * head_dim * static_cast<int64_t>(dtype_by_id(dtype).block_bytes);
}

KvCache::KvCache(const KvShape& shape) : shape_(shape) {
  total_blocks_ = ceil_div(shape.context, kKvBlock);
  const auto tokens = checked_mul(total_blocks_, kKvBlock, "the KV cache");
  bytes_ = static_cast<size_t>(checked_mul(tokens, shape.token_bytes(), "the KV cache"));
  void* data = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    fail(ErrorKind::kFailed, "the KV cache of {} tokens needs {} MiB of address space: {}", shape.context, bytes_ >> 20,
         std::strerror(errno));
  }
  data_ = static_cast<std::byte*>(data);
  for (int64_t b = total_blocks_ - 1; b >= 0; --b) free_.push_back(static_cast<int32_t>(b));
}

KvCache::~KvCache() { ::munmap(data_, bytes_); }

void KvCache::grow(int64_t length) {
  const auto blocks = static_cast<size_t>(ceil_div(length, kKvBlock));
  while (table_.size() < blocks) {
    if (free_.empty()) fail(ErrorKind::kFailed, "the KV cache holds {} tokens, {} are needed", shape_.context, length);
    table_.push_back(free_.back());
    free_.pop_back();
  }
}

void KvCache::clear() {
  free_.insert(free_.end(), table_.begin(), table_.end());
  table_.clear();
}

KvView KvCache::view() const {
  KvView v;
  v.dtype = shape_.dtype;
  v.num_blocks = total_blocks_;
  v.kv_heads = shape_.kv_heads;
  v.head_dim = shape_.head_dim;
  v.table = table_.data();
  v.k = data_;
  v.v = data_ + bytes_ / 2;
  return v;
}

}  // namespace pluq
