// SPDX-License-Identifier: Apache-2.0
// wgmma in flight. The product is formed when it is issued, beside the accumulators, which hold a
// NaN until a wait gives them the result: what uses them early is found when it stores or converts
// what it read, and what writes them early has overwritten the NaN. Shared memory that a wgmma
// reads belongs to it until all four warps have waited.
#include <algorithm>
#include <cstring>
#include <utility>

#include "device/cuda_emulator/block.h"

namespace pluq::cuda_emulator {
namespace {

// A kernel with a mistake may have left the scope of its registers, so these two look at memory
// that AddressSanitizer may hold to be dead.
__attribute__((no_sanitize("address"))) bool all_unfinished(const uint32_t* d, size_t words) {
  for (size_t i = 0; i < words; ++i) {
    if (d[i] != PLUQ_EMU_UNFINISHED) return false;
  }
  return true;
}
__attribute__((no_sanitize("address"))) bool same_words(const uint32_t* a, const uint32_t* b,
                                                        size_t words) {
  for (size_t i = 0; i < words; ++i) {
    if (a[i] != b[i]) return false;
  }
  return true;
}

}  // namespace

uint32_t* Launch::wgmma_accumulators(uint32_t thread, uint32_t* d, uint32_t words,
                                     const uint32_t* a, Place place) {
  Wgmma& w = fibers_[thread].wgmma;
  if (a != nullptr) w.fragments.push_back({a, {a[0], a[1], a[2], a[3]}, w.commits, place});
  for (Accumulators& in : w.in_flight) {
    if (in.d != d) continue;
    const Text at = text_of(in.place);
    if (in.sums.size() != words)
      fail(place, "adds to the accumulators of the wgmma at {}, which has another shape",
           at.c_str());
    if (!all_unfinished(d, words))
      fail(place, "the accumulators were written before a wgmma_wait covers the wgmma at {}",
           at.c_str());
    in.group = w.commits;
    in.place = place;
    return in.sums.data();
  }
  const auto old = std::find_if(w.finished.begin(), w.finished.end(),
                                [&](const Accumulators& f) { return f.d == d; });
  // Accumulators that nobody has written since the last wait need no fence.
  const bool untouched = old != w.finished.end() && old->sums.size() == words &&
                         same_words(d, old->sums.data(), words) && a == nullptr;
  if (!w.fenced && !untouched) {
    fail(place,
         "no wgmma_fence between other accesses to the registers of this wgmma and the wgmma");
  }
  if (old != w.finished.end()) w.finished.erase(old);
  w.in_flight.push_back({d, std::vector<uint32_t>(d, d + words), w.commits, place});
  std::fill_n(d, words, PLUQ_EMU_UNFINISHED);
  return w.in_flight.back().sums.data();
}

void Launch::wgmma_reads(uint32_t first_thread, uint32_t offset, Place place) {
  constexpr uint32_t kChunk = 16, kFourWarps = 15;
  if (tile_readers_.empty()) tile_readers_.assign(state_.shared_bytes / kChunk + 1, 0);
  const uint32_t group = fibers_[first_thread].wgmma.commits, chunk = offset / kChunk;
  ++tile_readers_[chunk];
  tile_reads_.push_back({chunk, first_thread, group, kFourWarps, place});
}

void Launch::check_tiles(uint32_t offset, uint32_t bytes, Place place) {
  if (tile_reads_.empty() || bytes == 0) return;
  for (uint32_t chunk = offset / 16; chunk <= (offset + bytes - 1) / 16; ++chunk) {
    if (tile_readers_[chunk] == 0) continue;
    const auto read = std::find_if(tile_reads_.begin(), tile_reads_.end(),
                                   [&](const TileRead& r) { return r.chunk == chunk; });
    const Text who = describe(read->first_thread), where = text_of(read->place);
    fail(
        place,
        "writes shared memory that a wgmma may still read (not every warp has waited for it): byte "
        "{}, the wgmma is that of {}, at {}",
        std::max(offset, chunk * 16), who.c_str(), where.c_str());
  }
}

void Launch::end_wgmma(Fiber& fiber, uint32_t groups, Place place) {
  Wgmma& w = fiber.wgmma;
  for (const FragmentA& f : w.fragments) {
    if (f.group >= groups || same_words(f.a, f.bits, 4)) continue;
    fail(place, "the registers of A were written before a wgmma_wait covers the wgmma at {}",
         text_of(f.place).c_str());
  }
  std::erase_if(w.fragments, [&](const FragmentA& f) { return f.group < groups; });
  for (Accumulators& in : w.in_flight) {
    if (in.group >= groups) continue;
    if (!all_unfinished(in.d, in.sums.size()))
      fail(place, "the accumulators were written before a wgmma_wait covers the wgmma at {}",
           text_of(in.place).c_str());
    std::memcpy(in.d, in.sums.data(), in.sums.size() * sizeof(uint32_t));
    std::erase_if(w.finished, [&](const Accumulators& f) { return f.d == in.d; });
    w.finished.push_back(std::move(in));
    in.d = nullptr;
    w.fenced = false;
  }
  std::erase_if(w.in_flight, [](const Accumulators& in) { return in.d == nullptr; });
}

// The warp of the running thread has waited for its groups below `groups`. One lane speaks for all:
// the instruction is the warp's.
void Launch::end_tile_reads(uint32_t groups) {
  const uint32_t thread = state_.thread, first = thread / 128 * 128;
  const uint32_t bit = 1U << (thread - first) / kWarp;
  bool some = false;
  for (TileRead& r : tile_reads_) {
    if (r.first_thread != first || r.group >= groups || (r.warps & bit) == 0) continue;
    if (shadow_.active()) shadow_.note_read(clocks_, thread, uint64_t{r.chunk} * 16, 16);
    r.warps &= ~bit;
    if (r.warps == 0) --tile_readers_[r.chunk], some = true;
  }
  if (some) std::erase_if(tile_reads_, [](const TileRead& r) { return r.warps == 0; });
}

void Launch::wgmma_order(uint32_t op, uint32_t pending, Place place) {
  Fiber& me = fibers_[state_.thread];
  Wgmma& w = me.wgmma;
  if (op == PLUQ_EMU_WGMMA_FENCE) w.fenced = true;
  if (op == PLUQ_EMU_WGMMA_COMMIT) ++w.commits;
  if (op != PLUQ_EMU_WGMMA_WAIT || w.commits <= pending) return;
  end_wgmma(me, w.commits - pending, place);
  end_tile_reads(w.commits - pending);
}

void Launch::wgmma_value(const uint32_t* value, uint32_t words, Place place) {
  const Wgmma& w = fibers_[state_.thread].wgmma;
  if (w.in_flight.empty()) return;
  const Place issued = w.in_flight.front().place;
  for (uint32_t i = 0; i < words; ++i) {
    if ((value[i] & PLUQ_EMU_UNFINISHED_BITS) != PLUQ_EMU_UNFINISHED) continue;
    if (*place.file == 0)
      fail(issued, "the accumulators of this wgmma are used before a wgmma_wait covers it");
    fail(place, "uses accumulators before a wgmma_wait covers the wgmma at {}",
         text_of(issued).c_str());
  }
}

}  // namespace pluq::cuda_emulator
