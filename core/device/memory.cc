// SPDX-License-Identifier: Apache-2.0
#include "device/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <mutex>
#include <string>

#include "base/error.h"
#include "device/allocator.h"

namespace pluq {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

uint64_t read_number(const char* path) {
  std::ifstream file(path);
  uint64_t value = 0;
  return file >> value ? value : std::numeric_limits<uint64_t>::max();
}

double mib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// The allocator of this thread, or null.
thread_local const Allocator* current = nullptr;

// Memory that came from an Allocator, and the one it goes back to.
struct Foreign {
  std::mutex mutex;
  std::map<void*, std::pair<Allocator, size_t>> all;
};
Foreign& foreign() {
  static Foreign& f = *new Foreign;  // outlives every Buffer
  return f;
}

void* allocate(size_t alignment, size_t bytes) {
  if (current == nullptr || current->allocate == nullptr)
    return std::aligned_alloc(alignment, bytes);
  void* data = current->allocate(current->user, bytes, alignment);
  if (data == nullptr) return nullptr;
  const std::lock_guard lock(foreign().mutex);
  foreign().all.emplace(data, std::pair(*current, bytes));
  return data;
}

// True when it was an Allocator's.
bool release_foreign(void* data) {
  std::pair<Allocator, size_t> owner;
  {
    const std::lock_guard lock(foreign().mutex);
    const auto it = foreign().all.find(data);
    if (it == foreign().all.end()) return false;
    owner = it->second;
    foreign().all.erase(it);
  }
  owner.first.release(owner.first.user, data, owner.second);
  return true;
}

}  // namespace

AllocatorScope::AllocatorScope(const Allocator& allocator)
    : before_(std::exchange(current, &allocator)) {}
AllocatorScope::~AllocatorScope() { current = before_; }

Buffer::Buffer(size_t bytes, std::string_view what) : size_(bytes) {
  if (bytes == 0) return;
  // Large buffers come as fresh zero pages from the kernel; small ones are cleared here.
  const bool large = bytes >= kHugePage;
  const size_t alignment = large ? kHugePage : 64;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* data = rounded < bytes ? nullptr : allocate(alignment, rounded);
  if (data == nullptr) {
    throw OutOfMemory(fmt::format("out of memory: {} needs {:.1f} MiB, {:.1f} MiB are available",
                                  what, mib(bytes), mib(available_memory())));
  }
  if (large) ::madvise(data, rounded, MADV_HUGEPAGE);
  std::memset(data, 0, rounded);
  data_ = static_cast<std::byte*>(data);
}

Buffer::~Buffer() {
  if (data_ != nullptr && !release_foreign(data_)) std::free(data_);
}

uint64_t available_memory() {
  uint64_t available = std::numeric_limits<uint64_t>::max();
  std::ifstream info("/proc/meminfo");
  std::string key;
  uint64_t kib = 0;
  std::string unit;
  while (info >> key >> kib) {
    std::getline(info, unit);
    if (key == "MemAvailable:") available = kib << 10;
  }
  const uint64_t limit = read_number("/sys/fs/cgroup/memory.max");
  const uint64_t used = read_number("/sys/fs/cgroup/memory.current");
  if (limit != std::numeric_limits<uint64_t>::max() && used <= limit)
    available = std::min(available, limit - used);
  return available;
}

void require_memory(uint64_t bytes, std::string_view what) {
  const uint64_t available = available_memory();
  if (bytes > available) {
    throw OutOfMemory(fmt::format("{} needs {:.1f} MiB of memory, {:.1f} MiB are available", what,
                                  mib(bytes), mib(available)));
  }
}

}  // namespace pluq
