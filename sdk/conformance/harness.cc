// SPDX-License-Identifier: Apache-2.0
#include "conformance/harness.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace pluq::conformance {
namespace {

constexpr size_t kPage = 4096;
constexpr std::byte kGap{0xa7};
char* step_buffer = nullptr;
size_t step_size = 0;

}  // namespace

void set_step_buffer(char* buffer, size_t size) {
  step_buffer = buffer;
  step_size = size;
}

void step_text(const std::string& text) {
  if (step_buffer == nullptr) return;
  const size_t n = std::min(text.size(), step_size - 1);
  std::memcpy(step_buffer, text.data(), n);
  step_buffer[n] = 0;
}

Guarded::Guarded(size_t bytes, size_t align, bool front) : size_(bytes) {
  const size_t inside = std::max<size_t>(1, (bytes + align - 1 + kPage - 1) / kPage) * kPage;
  map_bytes_ = inside + 2 * kPage;
  void* p = ::mmap(nullptr, map_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  map_ = static_cast<std::byte*>(p);
  ::mprotect(map_, kPage, PROT_NONE);
  ::mprotect(map_ + kPage + inside, kPage, PROT_NONE);
  std::fill(map_ + kPage, map_ + kPage + inside, kGap);
  const size_t at = front ? 0 : (inside - bytes) / align * align;
  data_ = map_ + kPage + at;
  std::memset(data_, 0, bytes);
}

Guarded::~Guarded() {
  if (map_ != nullptr) ::munmap(map_, map_bytes_);
}

void Guarded::read_only() const {
  if (map_ != nullptr) ::mprotect(map_ + kPage, map_bytes_ - 2 * kPage, PROT_READ);
}

bool Guarded::intact() const {
  if (map_ == nullptr) return true;
  const auto gap = [](std::byte b) { return b == kGap; };
  return std::all_of(map_ + kPage, data_, gap) &&
         std::all_of(data_ + size_, map_ + map_bytes_ - kPage, gap);
}

}  // namespace pluq::conformance
