// SPDX-License-Identifier: Apache-2.0
// Where Buffers take their memory from: the C library, or for the time of a scope on one thread an
// embedding program's own functions. A Buffer goes back to where it came from, whenever that is.
#pragma once

#include <cstddef>

namespace pluq {

struct Allocator {
  void* (*allocate)(void* user, size_t bytes, size_t alignment) = nullptr;  // null: the C library
  void (*release)(void* user, void* data, size_t bytes) = nullptr;
  void* user = nullptr;
};

// Buffers made by this thread while the scope lives come from `allocator`.
class AllocatorScope {
 public:
  explicit AllocatorScope(const Allocator& allocator);
  ~AllocatorScope();
  AllocatorScope(const AllocatorScope&) = delete;
  AllocatorScope& operator=(const AllocatorScope&) = delete;

 private:
  const Allocator* before_;
};

}  // namespace pluq
