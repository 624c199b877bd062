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
  // Whether what `other` did in this epoch of its warp comes before what `thread` does now.
  bool ordered(uint32_t thread, uint32_t other, uint32_t other_epoch) const;
  // The lanes of one warp are ordered among themselves.
  void sync_warp(uint32_t warp) { ++known_[warp * warps_ + warp]; }
  // A warp comes to a barrier: `clock` takes up what it knows and did, and its next epoch begins.
  void release(uint32_t warp, std::vector<uint32_t>& clock);
  // A warp leaves a barrier: it knows what all that came had done.
  void acquire(uint32_t warp, const std::vector<uint32_t>& clock);

 private:
  uint32_t warps_ = 0;
  std::vector<uint32_t> known_;
};

// A mistake, and the thread that made the earlier access (linear index), or -1.
struct Hazard {
  const char* what = nullptr;
  int64_t other = -1;
  uint64_t offset = 0;  // the first byte concerned
  uint32_t site = 0;    // of the earlier access, when it was a write; see Shadow
};

// What a shadow looks for.
struct Detectors {
  bool races = false;          // unordered accesses
  bool uninitialised = false;  // reads of what nobody wrote
  bool in_flight = false;      // accesses to what a copy will write
  bool proxy = false;          // ordinary writes that the async proxy meets without a fence
  bool any() const { return races || uninitialised || in_flight || proxy; }
  bool operator==(const Detectors&) const = default;
};

// Shadow of one block's shared memory. Threads are linear indices in the block; a site is the
// caller's number of a place in the source, 0: not known.
class Shadow {
 public:
  // Bytes of shared memory, warps of the block; nothing is written yet.
  void reset(uint64_t bytes, uint32_t warps, const Detectors& detectors);
  bool active() const { return detectors_.any(); }

  Hazard read(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes, bool atomic);
  Hazard write(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes, bool atomic,
               uint32_t site);
  // cp.async, bulk copies: from issue to wait the bytes belong to nobody else. bulk: written by the
  // async proxy.
  Hazard begin_copy(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes,
                    uint32_t site, bool bulk);
  void end_copy(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes, bool bulk);
  // A read that was looked at when it began has ended now.
  void note_read(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes);
  // fence.proxy.async of this thread: ordinary writes that it made, or that are ordered before it,
  // are visible to the async proxy.
  void fence_proxy(const Clocks& clocks, uint32_t thread);
  // Whether the async proxy may use these bytes: copied by it, or fenced since they were written.
  Hazard async_proxy(uint64_t offset, uint32_t bytes) const;

 private:
  struct Byte {
    uint32_t epoch = 0;  // of the writer's warp; 0: never written
    uint16_t writer : 10 = 0;
    uint16_t in_flight : 1 = 0;
    uint16_t atomic : 1 = 0;
    uint16_t was_read : 1 = 0;  // since the last write; if not, no reader needs to be looked at
    uint16_t bulk : 1 = 0;      // written by the async proxy
    uint16_t site = 0;
  };

  Hazard write_hazard(const Clocks& clocks, uint32_t thread, uint64_t offset, bool atomic) const;

  Detectors detectors_;
  uint32_t warps_ = 0;
  uint64_t touched_ = 0;  // bytes from here on are as reset() left them
  std::vector<Byte> bytes_;
  // [byte][warp]: epoch << 8 | lane + 1; 0xff in place of it: several lanes
  std::vector<uint32_t> readers_;
  // With the proxy detector: a count of writes and fences, that of the last write of each byte and
  // of the last fence of each thread, and the epoch of each warp up to which fences of others cover
  // what it wrote.
  uint32_t now_ = 0;
  std::vector<uint32_t> written_at_, fenced_at_, fenced_epoch_;
};

}  // namespace pluq::cuda_emulator
