// SPDX-License-Identifier: Apache-2.0
// Large aligned memory, and how much of it there is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace pluq {

class OutOfMemory : public Error {
 public:
  explicit OutOfMemory(const std::string& text) : Error(ErrorKind::kFailed, text) {}
};

// Zero-filled memory, 64-byte aligned, on huge pages where it is large enough to fill one.
class Buffer {
 public:
  Buffer() = default;
  // Throws OutOfMemory that says what the memory was for, how much was asked and how much there
  // is.
  Buffer(size_t bytes, std::string_view what);
  ~Buffer();
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Bytes that can be used without swapping: MemAvailable, or what the cgroup's limit leaves,
// whichever is less.
uint64_t available_memory();

// Throws OutOfMemory with both numbers when `bytes` are more than available_memory().
void require_memory(uint64_t bytes, std::string_view what);

}  // namespace pluq
