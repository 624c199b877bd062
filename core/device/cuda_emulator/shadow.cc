// SPDX-License-Identifier: Apache-2.0
#include "device/cuda_emulator/shadow.h"

#include <algorithm>

namespace pluq::cuda_emulator {
namespace {

constexpr uint32_t kManyLanes = 0xff;

}  // namespace

void Clocks::reset(uint32_t warps) {
  warps_ = warps;
  known_.assign(size_t{warps} * warps, 0);
  for (uint32_t w = 0; w < warps; ++w) known_[w * warps + w] = 1;
}

void Clocks::release(uint32_t warp, std::vector<uint32_t>& clock) {
  clock.resize(warps_, 0);
  for (uint32_t i = 0; i < warps_; ++i) clock[i] = std::max(clock[i], known_[warp * warps_ + i]);
  ++known_[warp * warps_ + warp];
}

void Clocks::acquire(uint32_t warp, const std::vector<uint32_t>& clock) {
  for (uint32_t i = 0; i < warps_; ++i) {
    known_[warp * warps_ + i] = std::max(known_[warp * warps_ + i], clock[i]);
  }
}

void Shadow::reset(uint64_t bytes, uint32_t warps, bool races, bool uninitialised, bool in_flight) {
  races_ = races;
  uninitialised_ = uninitialised;
  in_flight_ = in_flight;
  active_ = races || uninitialised || in_flight;
  if (!active_) return;
  const uint64_t n_readers = races ? bytes * warps : 0;
  if (warps_ != warps || bytes_.size() != bytes || readers_.size() != n_readers) {
    bytes_.assign(bytes, Byte{});
    readers_.assign(n_readers, 0);
  } else {  // most kernels use little of what there is
    std::fill_n(bytes_.begin(), touched_, Byte{});
    if (races) std::fill_n(readers_.begin(), touched_ * warps, 0);
  }
  warps_ = warps;
  touched_ = 0;
}

bool Shadow::ordered(const Clocks& clocks, uint32_t thread, uint32_t other, uint32_t epoch) const {
  const uint32_t warp = thread / kWarp, other_warp = other / kWarp;
  if (warp == other_warp) return thread == other || epoch < clocks.epoch(warp);
  return clocks.known(warp, other_warp) >= epoch;
}

Hazard Shadow::read(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes,
                    bool atomic) {
  const uint32_t warp = thread / kWarp, lane = thread % kWarp;
  touched_ = std::max(touched_, offset + bytes);
  for (uint64_t i = offset; i < offset + bytes; ++i) {
    Byte& b = bytes_[i];
    if (b.in_flight) {
      return {"reads shared memory that a cp.async has not finished writing (no wait covers it)",
              b.writer, i, b.site};
    }
    if (uninitialised_ && b.epoch == 0) {
      return {"reads shared memory that nobody has written", -1, i, 0};
    }
    if (!races_) continue;
    if (b.epoch != 0 && !(atomic && b.atomic) && !ordered(clocks, thread, b.writer, b.epoch)) {
      return {"reads shared memory that another thread wrote, without a barrier in between",
              b.writer, i, b.site};
    }
    uint32_t& reader = readers_[i * warps_ + warp];
    const uint32_t epoch = clocks.epoch(warp);
    const bool same = (reader >> 8) == epoch && (reader & 0xff) != lane + 1;
    reader = epoch << 8 | (same ? kManyLanes : lane + 1);
    b.was_read = 1;
  }
  return {};
}

Hazard Shadow::write_hazard(const Clocks& clocks, uint32_t thread, uint64_t offset,
                            bool atomic) const {
  const Byte& b = bytes_[offset];
  if (b.in_flight) {
    return {"writes shared memory that a cp.async has not finished writing (no wait covers it)",
            b.writer, offset, b.site};
  }
  if (!races_) return {};
  if (b.epoch != 0 && !(atomic && b.atomic) && !ordered(clocks, thread, b.writer, b.epoch)) {
    return {"writes shared memory that another thread wrote, without a barrier in between",
            b.writer, offset, b.site};
  }
  // Whoever read before the last write is ordered before that, and so before whatever follows it.
  if (atomic || !b.was_read) return {};
  const uint32_t warp = thread / kWarp;
  for (uint32_t w = 0; w < warps_; ++w) {
    const uint32_t reader = readers_[offset * warps_ + w];
    if (reader == 0) continue;
    const uint32_t lane = (reader & 0xff) - 1;
    const bool other_lane = w != warp || (reader & 0xff) == kManyLanes || lane != thread % kWarp;
    const uint32_t seen = w == warp ? clocks.epoch(warp) - 1 : clocks.known(warp, w);
    if (other_lane && (reader >> 8) > seen) {
      const bool many = (reader & 0xff) == kManyLanes;
      return {"writes shared memory that another thread read, without a barrier in between",
              many ? int64_t{w} * kWarp : int64_t{w} * kWarp + lane, offset, 0};
    }
  }
  return {};
}

Hazard Shadow::write(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes,
                     bool atomic, uint32_t site) {
  touched_ = std::max(touched_, offset + bytes);
  Byte fresh;
  fresh.epoch = clocks.epoch(thread / kWarp);
  fresh.writer = thread & 0x3ffU;
  fresh.atomic = atomic ? 1 : 0;
  fresh.site = static_cast<uint16_t>(site);
  for (uint64_t i = offset; i < offset + bytes; ++i) {
    if (const Hazard h = write_hazard(clocks, thread, i, atomic); h.what != nullptr) return h;
    fresh.was_read = atomic ? bytes_[i].was_read : 0;
    bytes_[i] = fresh;
  }
  return {};
}

Hazard Shadow::begin_copy(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes,
                          uint32_t site) {
  touched_ = std::max(touched_, offset + bytes);
  for (uint64_t i = offset; i < offset + bytes; ++i) {
    if (const Hazard h = write_hazard(clocks, thread, i, false); h.what != nullptr) return h;
    bytes_[i].writer = thread & 0x3ffU;
    bytes_[i].in_flight = in_flight_ ? 1 : 0;
    bytes_[i].was_read = 0;
    bytes_[i].site = static_cast<uint16_t>(site);
  }
  return {};
}

void Shadow::end_copy(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes) {
  for (uint64_t i = offset; i < offset + bytes; ++i) {
    bytes_[i].epoch = clocks.epoch(thread / kWarp);
    bytes_[i].writer = thread & 0x3ffU;
    bytes_[i].in_flight = bytes_[i].atomic = 0;
  }
}

}  // namespace pluq::cuda_emulator
