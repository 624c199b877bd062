// SPDX-License-Identifier: Apache-2.0
#include "engine/kv_cache.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "checkpoint/dtype.h"

namespace pluq {

bool KvShape::quantized() const { return dtype_by_id(dtype).block_bytes == 1; }

int64_t KvShape::token_bytes() const {
  const int64_t codes = head_dim * static_cast<int64_t>(dtype_by_id(dtype).block_bytes);
  return 2 * layers * kv_heads *
         (codes + (token_scales() ? static_cast<int64_t>(sizeof(float)) : 0));
}

KvCache::KvCache(const KvShape& shape, std::shared_ptr<DeviceRuntime> device) : shape_(shape) {
  total_blocks_ = ceil_div(shape.context, kKvBlock);
  const auto tokens = checked_mul(total_blocks_, kKvBlock, "the KV cache");
  bytes_ = static_cast<size_t>(checked_mul(tokens, shape.token_bytes(), "the KV cache"));
  const auto scales =
      static_cast<size_t>(shape.token_scales() ? 2 * shape.layers * shape.kv_heads * tokens : 0);
  codes_bytes_ = bytes_ - scales * sizeof(float);
  for (int64_t b = total_blocks_ - 1; b >= 0; --b) free_.push_back(static_cast<int32_t>(b));
  if (device != nullptr) {
    on_device_ =
        DeviceBuffer(device, bytes_, fmt::format("a KV cache of {} tokens", shape.context));
    device->zero(on_device_.data(), bytes_);
    const size_t each = shape.k_scale.size() * sizeof(float);
    device_scales_ = DeviceBuffer(device, 2 * each, "scales of the KV cache");
    if (each > 0) {
      device->upload(device_scales_.data(), shape.k_scale.data(), each);
      device->upload(device_scales_.as<float>() + shape.k_scale.size(), shape.v_scale.data(), each);
    }
    data_ = on_device_.as<std::byte>();
    return;
  }
  void* data = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    fail(ErrorKind::kFailed, "the KV cache of {} tokens needs {} MiB of address space: {}",
         shape.context, bytes_ >> 20, std::strerror(errno));
  }
  data_ = static_cast<std::byte*>(data);
}

KvCache::~KvCache() {
  if (on_device_.data() == nullptr) ::munmap(data_, bytes_);
}

void KvCache::grow(int64_t length) {
  const auto blocks = static_cast<size_t>(ceil_div(length, kKvBlock));
  while (table_.size() < blocks) {
    if (free_.empty())
      fail(ErrorKind::kFailed, "the KV cache holds {} tokens, {} are needed", shape_.context,
           length);
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
  v.v = data_ + codes_bytes_ / 2;
  v.token_scales = shape_.token_scales();
  if (v.token_scales) {
    v.k_scale = reinterpret_cast<float*>(data_ + codes_bytes_);
    v.v_scale = v.k_scale + (bytes_ - codes_bytes_) / sizeof(float) / 2;
  } else if (shape_.quantized() && on_device_.data() != nullptr) {
    v.k_scale = device_scales_.as<float>();
    v.v_scale = v.k_scale + shape_.k_scale.size();
  } else if (shape_.quantized()) {
    // Given scales are only read; the view's pointer also serves those that are written.
    v.k_scale = const_cast<float*>(shape_.k_scale.data());
    v.v_scale = const_cast<float*>(shape_.v_scale.data());
  }
  return v;
}

}  // namespace pluq
