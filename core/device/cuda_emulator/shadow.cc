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

bool Clocks::ordered(uint32_t thread, uint32_t other, uint32_t other_epoch) const {
  const uint32_t warp = thread / kWarp, other_warp = other / kWarp;
  if (warp == other_warp) return thread == other || other_epoch < epoch(warp);
  return known(warp, other_warp) >= other_epoch;
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

void Shadow::reset(uint64_t bytes, uint32_t warps, const Detectors& detectors) {
  const bool same = detectors == detectors_ && warps == warps_ && bytes == bytes_.size();
  detectors_ = detectors;
  if (!active()) return;
  if (!same) {
    bytes_.assign(bytes, Byte{});
    readers_.assign(detectors.races ? bytes * warps : 0, 0);
    written_at_.assign(detectors.proxy ? bytes : 0, 0);
  } else {  // most kernels use little of what there is
    std::fill_n(bytes_.begin(), touched_, Byte{});
    if (detectors.races) std::fill_n(readers_.begin(), touched_ * warps, 0);
  }
  fenced_at_.assign(detectors.proxy ? size_t{warps} * kWarp : 0, 0);
  fenced_epoch_.assign(detectors.proxy ? warps : 0, 0);
  now_ = 0;
  warps_ = warps;
  touched_ = 0;
}

Hazard Shadow::read(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes,
                    bool atomic) {
  touched_ = std::max(touched_, offset + bytes);
  for (uint64_t i = offset; i < offset + bytes; ++i) {
    const Byte& b = bytes_[i];
    if (b.in_flight) {
      return {b.bulk ? "reads shared memory that a bulk copy has not finished writing (no mbarrier "
                       "wait covers it)"
                     : "reads shared memory that a cp.async has not finished writing (no wait "
                       "covers it)",
              b.writer, i, b.site};
    }
    if (detectors_.uninitialised && b.epoch == 0) {
      return {"reads shared memory that nobody has written", -1, i, 0};
    }
    if (!detectors_.races) continue;
    if (b.epoch != 0 && !(atomic && b.atomic) && !clocks.ordered(thread, b.writer, b.epoch)) {
      return {"reads shared memory that another thread wrote, without a barrier in between",
              b.writer, i, b.site};
    }
  }
  if (detectors_.races) note_read(clocks, thread, offset, bytes);
  return {};
}

void Shadow::note_read(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes) {
  if (!detectors_.races) return;
  const uint32_t warp = thread / kWarp, lane = thread % kWarp, epoch = clocks.epoch(warp);
  for (uint64_t i = offset; i < offset + bytes; ++i) {
    uint32_t& reader = readers_[i * warps_ + warp];
    const bool same = (reader >> 8) == epoch && (reader & 0xff) != lane + 1;
    reader = epoch << 8 | (same ? kManyLanes : lane + 1);
    bytes_[i].was_read = 1;
  }
}

Hazard Shadow::write_hazard(const Clocks& clocks, uint32_t thread, uint64_t offset,
                            bool atomic) const {
  const Byte& b = bytes_[offset];
  if (b.in_flight) {
    return {b.bulk
                ? "writes shared memory that a bulk copy has not finished writing (no mbarrier "
                  "wait covers it)"
                : "writes shared memory that a cp.async has not finished writing (no wait covers "
                  "it)",
            b.writer, offset, b.site};
  }
  if (!detectors_.races) return {};
  if (b.epoch != 0 && !(atomic && b.atomic) && !clocks.ordered(thread, b.writer, b.epoch)) {
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
  if (detectors_.proxy)
    std::fill_n(written_at_.begin() + static_cast<ptrdiff_t>(offset), bytes, ++now_);
  return {};
}

Hazard Shadow::begin_copy(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes,
                          uint32_t site, bool bulk) {
  touched_ = std::max(touched_, offset + bytes);
  for (uint64_t i = offset; i < offset + bytes; ++i) {
    if (const Hazard h = write_hazard(clocks, thread, i, false); h.what != nullptr) return h;
    bytes_[i].writer = thread & 0x3ffU;
    bytes_[i].in_flight = detectors_.in_flight ? 1 : 0;
    bytes_[i].bulk = bulk ? 1 : 0;
    bytes_[i].was_read = 0;
    bytes_[i].site = static_cast<uint16_t>(site);
  }
  return {};
}

void Shadow::end_copy(const Clocks& clocks, uint32_t thread, uint64_t offset, uint32_t bytes,
                      bool bulk) {
  for (uint64_t i = offset; i < offset + bytes; ++i) {
    bytes_[i].epoch = clocks.epoch(thread / kWarp);
    bytes_[i].writer = thread & 0x3ffU;
    bytes_[i].in_flight = bytes_[i].atomic = 0;
    bytes_[i].bulk = bulk ? 1 : 0;
  }
  if (detectors_.proxy)
    std::fill_n(written_at_.begin() + static_cast<ptrdiff_t>(offset), bytes, ++now_);
}

void Shadow::fence_proxy(const Clocks& clocks, uint32_t thread) {
  if (!detectors_.proxy) return;
  const uint32_t warp = thread / kWarp;
  fenced_at_[thread] = ++now_;
  for (uint32_t w = 0; w < warps_; ++w) {
    const uint32_t epoch = w == warp ? clocks.epoch(w) - 1 : clocks.known(warp, w);
    fenced_epoch_[w] = std::max(fenced_epoch_[w], epoch);
  }
}

Hazard Shadow::async_proxy(uint64_t offset, uint32_t bytes) const {
  if (!detectors_.proxy) return {};
  for (uint64_t i = offset; i < offset + bytes; ++i) {
    const Byte& b = bytes_[i];
    if (b.epoch == 0 || b.bulk || fenced_at_[b.writer] > written_at_[i] ||
        b.epoch <= fenced_epoch_[b.writer / kWarp])
      continue;
    return {
        "uses shared memory through the async proxy (wgmma, bulk copy) after an ordinary write, "
        "without fence_async_proxy in between",
        b.writer, i, b.site};
  }
  return {};
}

}  // namespace pluq::cuda_emulator
