// SPDX-License-Identifier: Apache-2.0
// Who wrote and who read each byte of a block's shared memory, and which accesses are ordered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pluq::cuda_emulator {

inline constexpr uint32_t kWarp = 32;

// Happens-before between the warps of a block. A warp's epoch grows at each of its barriers;
// known(v, w) is the last epoch of warp w that a barrier made visible to warp v.
class Clocks {
 public:
  void reset(uint32_t warps);
  uint32_t warps() const { return warps_; }
  uint32_t epoch(uint32_t warp) const { return known_[warp * warps_ + warp]; }
  uint32_t known(uint32_t by, uint32_t of) const { return known_[by * warps_ + of]; }
  // The lanes of one warp are ordered among themselves.
  void sync_warp(uint32_t warp) { ++known_[warp * warps_ + warp]; }
  // All of these warps met: each knows what any of them knew, and a new epoch begins.
  void join(const std::vector<uint32_t>& warps);

 private:
  uint32_t warps_ = 0;
  std::vector<uint32_t> known_;
  std::vector<uint32_t> merged_;
};

// A mistake, and the thread that made the earlier access (linear index), or -1.
struct Hazard {
  const char* what = nullptr;
  int64_t other = -1;
  uint64_t offset = 0;  // the first byte concerned
};

// Shadow of one block's shared memory. Threads are linear indices in the block.
class Shadow {
 public:
  // Bytes of shared memory, warps of the block, what to look for; nothing is written yet.
  void reset(uint64_t bytes, uint32_t warps, bool races, bool uninitialised, bool in_flight);
  bool active() const { return active_; }

  Hazard read(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes, bool atomic);
  Hazard write(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes, bool atomic);
  // cp.async: from issue to wait the bytes belong to nobody else.
  Hazard begin_copy(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes);
  void end_copy(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes);

 private:
  struct Byte {
    uint32_t epoch = 0;  // of the writer's warp; 0: never written
    uint16_t writer = 0;
    bool in_flight = false;
    bool atomic = false;
  };

  bool ordered(const Clocks& clocks, uint32_t thread, uint32_t other, uint32_t epoch) const;
  Hazard write_hazard(const Clocks& clocks, uint32_t thread, uint64_t offset, bool atomic) const;

  bool active_ = false;
  bool races_ = false;
  bool uninitialised_ = false;
  bool in_flight_ = false;
  uint32_t warps_ = 0;
  std::vector<Byte> bytes_;
  std::vector<uint32_t>
      readers_;  // [byte][warp]: epoch << 8 | lane + 1;0xff in place of it: several lanes
};

}  // namespace pluq::cuda_emulator
