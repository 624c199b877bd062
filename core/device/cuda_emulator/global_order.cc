// SPDX-License-Identifier: Apache-2.0
#include "device/cuda_emulator/global_order.h"

#include <algorithm>
#include <utility>

#include "pluq/ext/cuda_emulator.h"

namespace pluq::cuda_emulator {
namespace {

constexpr uintptr_t kWord = 4, kPage = 256 * kWord;

}  // namespace

bool GlobalOrder::Released::covers(const Stamp& stamp) const {
  if (stamp.block != block) return false;
  return stamp.epoch <= epochs[stamp.thread / kWarp] ||
         (stamp.thread == thread && stamp.epoch <= own_epoch);
}

void GlobalOrder::reset(uint32_t warps) {
  warps_ = warps;
  pages_.clear();
  last_ = nullptr;
  released_.clear();
}

void GlobalOrder::begin_block(uint32_t block) {
  block_ = block + 1;
  acquired_.clear();
  acquired_by_.clear();
  fenced_.assign(warps_, 0);
}

GlobalOrder::Word& GlobalOrder::word(uintptr_t address) {
  const uintptr_t page = address / kPage;
  if (last_ == nullptr || page != last_page_) {
    std::unique_ptr<Page>& slot = pages_[page];
    if (slot == nullptr) slot = std::make_unique<Page>();
    last_ = slot.get();
    last_page_ = page;
  }
  return last_->words[address % kPage / kWord];
}

bool GlobalOrder::ordered(const Clocks& clocks, uint32_t thread, uintptr_t address,
                          const Stamp& earlier, bool strong) const {
  if (earlier.block == block_) return clocks.ordered(thread, earlier.thread, earlier.epoch);
  return std::any_of(acquired_.begin(), acquired_.end(), [&](const Acquired& a) {
    if (!clocks.ordered(thread, a.thread, a.epoch)) return false;
    // After an atomic of its own a thread knows the atomics of others on the same word.
    if (strong && a.address == address) return true;
    return a.fenced && a.clock != nullptr &&
           std::any_of(a.clock->begin(), a.clock->end(),
                       [&](const Released& r) { return r.covers(earlier); });
  });
}

GlobalHazard GlobalOrder::read(const Clocks& clocks, uintptr_t address, Word& w, const Stamp& now,
                               bool strong) {
  if ((w.writer.bytes & now.bytes) != 0 && !(strong && w.strong) &&
      !ordered(clocks, now.thread, address, w.writer, w.strong)) {
    return {w.writer.block == block_
                ? "reads device memory that another thread wrote, without a barrier in between"
                : "reads device memory that another block wrote, without release and acquire in "
                  "between",
            w.writer.block - 1, w.writer.thread, w.writer.site};
  }
  if (strong) return {};
  if (w.reader.block != block_ || w.reader.thread != now.thread) {
    // One of another block is kept: within a block there are barriers for all.
    if (w.reader.block != block_ || w.other_reader.block == 0) w.other_reader = w.reader;
    w.reader = now;
  }
  w.reader.bytes |= now.bytes;
  w.reader.epoch = now.epoch;
  w.reader.site = now.site;
  return {};
}

GlobalHazard GlobalOrder::write(const Clocks& clocks, uintptr_t address, Word& w, const Stamp& now,
                                bool strong) {
  if ((w.writer.bytes & now.bytes) != 0 && !(strong && w.strong) &&
      !ordered(clocks, now.thread, address, w.writer, w.strong)) {
    return {w.writer.block == block_
                ? "writes device memory that another thread wrote, without a barrier in between"
                : "writes device memory that another block wrote, without release and acquire in "
                  "between",
            w.writer.block - 1, w.writer.thread, w.writer.site};
  }
  for (Stamp* reader : {&w.reader, &w.other_reader}) {
    if ((reader->bytes & now.bytes) != 0 && !ordered(clocks, now.thread, address, *reader, false)) {
      return {reader->block == block_
                  ? "writes device memory that another thread read, without a barrier in between"
                  : "writes device memory that another block read, without release and acquire in "
                    "between",
              reader->block - 1, reader->thread, reader->site};
    }
    reader->bytes &= static_cast<uint8_t>(~now.bytes);
  }
  const bool again =
      w.writer.block == block_ && w.writer.thread == now.thread && w.writer.epoch == now.epoch;
  const uint8_t before = again ? w.writer.bytes : 0;
  w.writer = now;
  w.writer.bytes |= before;
  w.strong = strong;
  return {};
}

void GlobalOrder::acquire(const Clocks& clocks, uint32_t thread, uintptr_t address, bool fenced) {
  const auto found = released_.find(address);
  Acquired fresh{address, thread, clocks.epoch(thread / kWarp), fenced,
                 found == released_.end() ? nullptr : found->second};
  const uint64_t key = uint64_t{address} << 10 ^ thread;
  const auto [at, is_new] = acquired_by_.try_emplace(key, acquired_.size());
  if (is_new) {
    acquired_.push_back(std::move(fresh));
  } else if (acquired_[at->second].clock != fresh.clock) {
    acquired_[at->second] = std::move(fresh);
  }
}

void GlobalOrder::release(const Clocks& clocks, uint32_t thread, uintptr_t address, bool fenced) {
  const uint32_t warp = thread / kWarp;
  Released r{block_, thread, clocks.epoch(warp), std::vector<uint32_t>(warps_)};
  for (uint32_t w = 0; w < warps_; ++w) {
    r.epochs[w] = w == warp ? clocks.epoch(w) - 1 : clocks.known(warp, w);
    if (!fenced) r.epochs[w] = std::min(r.epochs[w], fenced_[w]);
  }
  if (!fenced) r.own_epoch = std::min(r.own_epoch, fenced_[warp]);
  std::shared_ptr<const Clock>& slot = released_[address];
  auto clock = slot == nullptr ? std::make_shared<Clock>() : std::make_shared<Clock>(*slot);
  for (const Acquired& a : acquired_) {
    if (!a.fenced || a.clock == nullptr || a.clock == slot) continue;
    if (clocks.ordered(thread, a.thread, a.epoch))
      clock->insert(clock->end(), a.clock->begin(), a.clock->end());
  }
  std::erase_if(*clock,
                [&](const Released& old) { return old.block == block_ && old.thread == thread; });
  clock->push_back(std::move(r));
  slot = std::move(clock);
}

void GlobalOrder::fence(const Clocks& clocks, uint32_t thread) {
  const uint32_t warp = thread / kWarp;
  for (uint32_t w = 0; w < warps_; ++w)
    fenced_[w] = std::max(fenced_[w], w == warp ? clocks.epoch(w) : clocks.known(warp, w));
  for (Acquired& a : acquired_) {
    if (clocks.ordered(thread, a.thread, a.epoch)) a.fenced = true;
  }
}

GlobalHazard GlobalOrder::access(const Clocks& clocks, uint32_t thread, uintptr_t address,
                                 uint32_t bytes, uint32_t kind, uint32_t site) {
  const bool atomic = (kind & PLUQ_EMU_ATOMIC) != 0;
  const bool strong = atomic || (kind & (PLUQ_EMU_ACQUIRE | PLUQ_EMU_RELEASE)) != 0;
  const bool writes = (kind & PLUQ_EMU_WRITE) != 0;
  Stamp now{block_, clocks.epoch(thread / kWarp), static_cast<uint16_t>(thread),
            static_cast<uint16_t>(site), 0};
  for (uintptr_t at = address / kWord * kWord; at < address + bytes; at += kWord) {
    const uintptr_t low = std::max(at, address) - at,
                    high = std::min(at + kWord, address + bytes) - at;
    now.bytes = static_cast<uint8_t>((1U << high) - (1U << low));
    Word& w = word(at);
    const GlobalHazard hazard =
        writes ? write(clocks, at, w, now, strong) : read(clocks, at, w, now, strong);
    if (hazard.what != nullptr) return hazard;
  }
  if (atomic || (kind & PLUQ_EMU_ACQUIRE) != 0)
    acquire(clocks, thread, address, (kind & PLUQ_EMU_ACQUIRE) != 0);
  if (atomic || (kind & PLUQ_EMU_RELEASE) != 0)
    release(clocks, thread, address, (kind & PLUQ_EMU_RELEASE) != 0);
  return {};
}

}  // namespace pluq::cuda_emulator
