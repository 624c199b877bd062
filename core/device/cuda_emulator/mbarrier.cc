// SPDX-License-Identifier: Apache-2.0
// mbarrier objects and bulk copies of sm_90. A phase is over when its arrivals have come and the
// bytes it expects have landed; copies land when somebody waits, so that a missing wait shows.
#include <algorithm>
#include <cstring>
#include <utility>

#include "device/cuda_emulator/block.h"

namespace pluq::cuda_emulator {

Launch::Mbarrier& Launch::mbarrier(uint32_t offset, Place place) {
  for (Mbarrier& m : mbarriers_) {
    if (m.offset == offset) return m;
  }
  fail(place, "no mbarrier was initialised at byte {} of shared memory", offset);
}

void Launch::mbar_init(uint32_t offset, uint32_t count, Place place) {
  constexpr uint32_t kMaxCount = (1U << 20) - 1;  // PTX ISA, "mbarrier.init"
  if (count == 0 || count > kMaxCount) {
    fail(place, "mbarrier of {} arrivals: accepted are 1 to {}", count, kMaxCount);
  }
  Mbarrier fresh{offset, count, count, state_.thread, false, 0, 0, {}, {}, {}, {}};
  for (Mbarrier& m : mbarriers_) {
    if (m.offset != offset) continue;
    m = std::move(fresh);
    return;
  }
  mbarriers_.push_back(std::move(fresh));
}

void Launch::end_phase_when_complete(Mbarrier& m) {
  if (m.pending != 0 || m.tx_bytes != 0) return;
  ++m.phase;
  m.pending = m.count;
  m.done.resize(clocks_.warps(), 0);
  for (size_t w = 0; w < m.clock.size(); ++w) m.done[w] = std::max(m.done[w], m.clock[w]);
  m.clock.clear();
  for (const uint32_t t : m.waiting) make_ready(t);
  m.waiting.clear();
}

void Launch::land_copies(Mbarrier& m) {
  for (const BulkCopy& c : m.copies) {
    std::memcpy(state_.shared + c.dst, c.src, c.bytes);
    if (shadow_.active()) shadow_.end_copy(clocks_, c.thread, c.dst, c.bytes, true);
    clocks_.release(c.thread / kWarp, m.clock);
    m.tx_bytes -= c.bytes;
  }
  m.copies.clear();
  end_phase_when_complete(m);
}

void Launch::mbar_arrive(uint32_t offset, uint32_t tx_bytes, Place place) {
  Mbarrier& m = mbarrier(offset, place);
  if (m.pending == 0) {
    fail(place, "mbarrier at byte {}: more than its {} arrivals in one phase", offset, m.count);
  }
  --m.pending;
  m.tx_bytes += tx_bytes;
  clocks_.release(state_.thread / kWarp, m.clock);
  paused_in_a_row_ = 0;
  if (!m.waiting.empty()) land_copies(m);
  end_phase_when_complete(m);
}

void Launch::mbar_wait(uint32_t offset, uint32_t parity, Place place) {
  const uint32_t thread = state_.thread;
  // A wait for a phase that is over passes at once and says nothing of the copies of the next.
  if ((mbarrier(offset, place).phase & 1) == (parity & 1)) land_copies(mbarrier(offset, place));
  while ((mbarrier(offset, place).phase & 1) == (parity & 1)) {
    mbarrier(offset, place).waiting.push_back(thread);
    wait_here("mbarrier wait", place);
  }
  const Mbarrier& m = mbarrier(offset, place);
  if (!m.done.empty()) clocks_.acquire(thread / kWarp, m.done);
}

void Launch::bulk_copy(uint32_t dst, const void* src, uint32_t bytes, uint32_t mbar, Place place) {
  Mbarrier& m = mbarrier(mbar, place);
  if (dst + uint64_t{bytes} > state_.shared_bytes) {
    fail(place, "bulk copy: bytes {} to {} are outside of shared memory", dst,
         dst + uint64_t{bytes});
  }
  if ((state_.checks & PLUQ_EMU_CHECK_PROXY) != 0 && !m.fenced) {
    fail(place, "the mbarrier at byte {} was initialised without fence_mbar_init after it", mbar);
  }
  check_tiles(dst, bytes, place);
  if (shadow_.active()) {
    check(shadow_.async_proxy(dst, bytes), place);
    check(shadow_.begin_copy(clocks_, state_.thread, dst, bytes, site(place), true), place);
  }
  m.copies.push_back({dst, bytes, state_.thread, src});
  paused_in_a_row_ = 0;
  if (!m.waiting.empty()) land_copies(m);
}

void Launch::proxy_fence(uint32_t kind) {
  for (Mbarrier& m : mbarriers_) {
    if (m.owner == state_.thread) m.fenced = true;
  }
  if (kind == PLUQ_EMU_FENCE_ASYNC_PROXY) shadow_.fence_proxy(clocks_, state_.thread);
}

std::string Launch::mbarrier_text() const {
  std::string text;
  for (const Mbarrier& m : mbarriers_) {
    if (m.waiting.empty()) continue;
    text += fmt::format("; the mbarrier at byte {} is in phase {} and lacks {} of {} arrivals",
                        m.offset, m.phase, m.pending, m.count);
    if (m.tx_bytes > 0) text += fmt::format(" and {} bytes that it was told to expect", m.tx_bytes);
    if (m.tx_bytes < 0)
      text += fmt::format("; {} bytes more have come than it was told to expect", -m.tx_bytes);
  }
  return text;
}

}  // namespace pluq::cuda_emulator
