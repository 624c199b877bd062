// SPDX-License-Identifier: Apache-2.0
// A piece of the emulated device's memory, and which of its bytes were ever written.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace pluq::cuda_emulator {

// Thread-safe: several launches may read and write one allocation at once.
class Allocation {
 public:
  // `bytes` from begin on, owned by somebody else. tracked: note which bytes are written; without
  // that all of them count as written. what: for messages.
  Allocation(const uint8_t* begin, uint64_t bytes, std::string what, bool tracked);

  const uint8_t* begin() const { return begin_; }
  uint64_t bytes() const { return bytes_; }
  const std::string& what() const { return what_; }
  bool holds(const void* p) const {
    const auto* at = static_cast<const uint8_t*>(p);
    return at >= begin_ && at < begin_ + bytes_;
  }

  // Bytes beyond the end are ignored.
  void note_written(uint64_t offset, uint64_t bytes);
  // Offset of the first of these bytes that nobody has written, or -1.
  int64_t first_unwritten(uint64_t offset, uint64_t bytes) const;

 private:
  const uint8_t* begin_;
  uint64_t bytes_;
  std::string what_;
  std::unique_ptr<std::atomic<uint64_t>[]> written_;  // a bit per byte; null: not tracked
};

}  // namespace pluq::cuda_emulator
