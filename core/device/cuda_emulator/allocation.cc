// SPDX-License-Identifier: Apache-2.0
#include "device/cuda_emulator/allocation.h"

#include <algorithm>
#include <utility>

namespace pluq::cuda_emulator {
namespace {

constexpr uint64_t kWord = 64;

// The bits of bytes [from, end) that fall into word `word`; from < end.
uint64_t bits_in(uint64_t word, uint64_t from, uint64_t end) {
  const uint64_t first = word * kWord;
  const uint64_t low = from > first ? from - first : 0;
  const uint64_t high = std::min(end - first, kWord);
  return ~uint64_t{0} << low & ~uint64_t{0} >> (kWord - high);
}

}  // namespace

Allocation::Allocation(const uint8_t* begin, uint64_t bytes, std::string what, bool tracked)
    : begin_(begin), bytes_(bytes), what_(std::move(what)) {
  if (tracked) written_ = std::make_unique<std::atomic<uint64_t>[]>((bytes + kWord - 1) / kWord);
}

void Allocation::note_written(uint64_t offset, uint64_t bytes) {
  const uint64_t end = std::min(offset + bytes, bytes_);
  if (written_ == nullptr || offset >= end) return;
  for (uint64_t w = offset / kWord; w * kWord < end; ++w) {
    const uint64_t bits = bits_in(w, offset, end);
    if ((written_[w].load(std::memory_order_relaxed) & bits) != bits)
      written_[w].fetch_or(bits, std::memory_order_relaxed);
  }
}

int64_t Allocation::first_unwritten(uint64_t offset, uint64_t bytes) const {
  const uint64_t end = std::min(offset + bytes, bytes_);
  if (written_ == nullptr || offset >= end) return -1;
  for (uint64_t w = offset / kWord; w * kWord < end; ++w) {
    const uint64_t missing = bits_in(w, offset, end) & ~written_[w].load(std::memory_order_relaxed);
    if (missing != 0)
      return static_cast<int64_t>(w * kWord) + static_cast<int64_t>(__builtin_ctzll(missing));
  }
  return -1;
}

}  // namespace pluq::cuda_emulator
