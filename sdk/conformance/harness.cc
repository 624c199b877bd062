// SPDX-License-Identifier: Apache-2.0
#include "conformance/harness.h"

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

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

Holdings Holdings::now() {
  namespace fs = std::filesystem;
  const auto count = [](const char* directory) {
    return std::distance(fs::directory_iterator(directory), fs::directory_iterator());
  };
  Holdings h;
  h.files = count("/proc/self/fd");
  h.threads = count("/proc/self/task");
  std::ifstream maps("/proc/self/maps");
  h.maps = std::count(std::istreambuf_iterator<char>(maps), {}, '\n');
  const struct mallinfo2 m = ::mallinfo2();
  h.bytes = m.uordblks + m.hblkhd;
  return h;
}

std::string growth(const Holdings& before, const Holdings& after, size_t bytes_allowed) {
  std::vector<std::string> out;
  const auto add = [&](int64_t more, const char* what) {
    if (more > 0) out.push_back(fmt::format("{} {}", more, what));
  };
  if (after.bytes > before.bytes + bytes_allowed)
    add(static_cast<int64_t>(after.bytes - before.bytes), "bytes");
  add(after.files - before.files, "open files");
  // The heap itself may have been joined by a mapping or two.
  if (after.maps > before.maps + 4) add(after.maps - before.maps, "mappings");
  add(after.threads - before.threads, "threads");
  return fmt::format("{}", fmt::join(out, " and "));
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
