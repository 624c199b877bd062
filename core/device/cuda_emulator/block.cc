// SPDX-License-Identifier: Apache-2.0
#include "device/cuda_emulator/block.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace pluq::cuda_emulator {
namespace {

constexpr uint32_t kSharedAlign = 1024;
constexpr uint32_t kNamedBarriers = 16;
constexpr uint64_t kPausesBeforeStuck = 64;

thread_local Launch* running = nullptr;

StackPool& stacks() {
  thread_local StackPool pool;
  return pool;
}

const char* base_name(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

template <class... Args>
Text short_text(fmt::format_string<Args...> format, Args&&... args) {
  Text text;
  *fmt::format_to_n(text.characters, sizeof text.characters - 1, format,
                    std::forward<Args>(args)...)
       .out = 0;
  return text;
}

}  // namespace

Text text_of(const Place& place) { return short_text("{}:{}", base_name(place.file), place.line); }

bool Place::operator==(const Place& other) const {
  return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
}

Launch::Launch(Emulator& device, const pluq_emu_launch& launch)
    : state_{}, device_(device), launch_(launch) {
  const uint32_t n = launch.block_dim[0] * launch.block_dim[1] * launch.block_dim[2];
  state_.owner = this;
  state_.struct_size = sizeof(pluq_emu_block);
  state_.checks = device.checks();
  state_.api = table();
  state_.stream = device.stream();
  state_.sm = device.compute_capability();
  state_.n_threads = n;
  std::copy(launch.grid_dim, launch.grid_dim + 3, state_.grid_dim);
  std::copy(launch.block_dim, launch.block_dim + 3, state_.block_dim);
  state_.dynamic_bytes = launch.shared_bytes;
  // Static arrays come behind the dynamic part; together they stay below the device's limit.
  state_.shared_bytes = shared_limit(state_.sm);
  shared_.resize(state_.shared_bytes + kSharedAlign);
  const auto address = reinterpret_cast<uintptr_t>(shared_.data());
  state_.shared = shared_.data() + (kSharedAlign - address % kSharedAlign) % kSharedAlign;
  fibers_.resize(n);
  for (uint32_t t = 0; t < n; ++t) {
    fibers_[t].index[0] = t % launch.block_dim[0];
    fibers_[t].index[1] = t / launch.block_dim[0] % launch.block_dim[1];
    fibers_[t].index[2] = t / launch.block_dim[0] / launch.block_dim[1];
  }
  stacks().reserve(n);
  looks_at_order_ = (state_.checks & PLUQ_EMU_CHECK_GLOBAL_RACES) != 0;
  order_.reset((n + kWarp - 1) / kWarp);
}

Launch::~Launch() {
  for (Fiber& f : fibers_) forget_context(f.context);
}

Launch& Launch::of(pluq_emu_block* block) { return *static_cast<State*>(block)->owner; }

std::string Launch::run() {
  running = this;
  for (uint32_t z = 0; z < launch_.grid_dim[2]; ++z) {
    for (uint32_t y = 0; y < launch_.grid_dim[1]; ++y) {
      for (uint32_t x = 0; x < launch_.grid_dim[0]; ++x) {
        prepare(x, y, z);
        give_to(0);
        switch_context(main_, fibers_[0].context);
        if (!message_.empty()) return message_;
      }
    }
  }
  return {};
}

void Launch::prepare(uint32_t x, uint32_t y, uint32_t z) {
  state_.block_idx[0] = x;
  state_.block_idx[1] = y;
  state_.block_idx[2] = z;
  const uint32_t n = n_threads(), warps = (n + kWarp - 1) / kWarp;
  ready_.assign(warps, 0);
  for (uint32_t t = 0; t < n; ++t) {
    Fiber& fiber = fibers_[t];
    fiber.done = false;
    fiber.waits_for = nullptr;
    fiber.open.clear();
    fiber.groups.clear();
    fiber.wgmma = {};
    make_context(fiber.context, stacks(), t, &Launch::fiber_entry);
    make_ready(t);
  }
  gathers_.clear();
  barriers_.assign(kNamedBarriers, {});
  mbarriers_.clear();
  statics_.clear();
  static_end_ = state_.dynamic_bytes;
  done_ = 0;
  paused_in_a_row_ = 0;
  clocks_.reset(warps);
  const uint32_t checks = state_.checks;
  shadow_.reset(state_.shared_bytes, warps,
                {(checks & PLUQ_EMU_CHECK_RACES) != 0, (checks & PLUQ_EMU_CHECK_INIT) != 0,
                 (checks & PLUQ_EMU_CHECK_ASYNC) != 0,
                 (checks & PLUQ_EMU_CHECK_PROXY) != 0 && state_.sm >= 90});
  tile_reads_.clear();
  tile_readers_.clear();
  order_.begin_block(x + launch_.grid_dim[0] * (y + launch_.grid_dim[1] * z));
}

void Launch::fiber_entry(transfer_t transfer) {
  entered(transfer);
  Launch* self = running;
  self->launch_.entry(&self->state_, self->launch_.args);
  self->finish_thread();
}

void Launch::give_to(uint32_t thread) {
  state_.thread = thread;
  std::copy(fibers_[thread].index, fibers_[thread].index + 3, state_.thread_idx);
}

uint32_t Launch::next_ready() const {
  const uint32_t warps = static_cast<uint32_t>(ready_.size());
  const uint32_t warp = state_.thread / kWarp, lane = state_.thread % kWarp;
  const uint32_t above = lane == 31 ? 0 : ready_[warp] & (~0U << (lane + 1));
  if (above != 0) return warp * kWarp + static_cast<uint32_t>(__builtin_ctz(above));
  for (uint32_t i = 0; i < warps; ++i) {
    // The own warp's lower lanes first, then the other warps.
    const uint32_t w = (warp + i) % warps;
    if (ready_[w] != 0) return w * kWarp + static_cast<uint32_t>(__builtin_ctz(ready_[w]));
  }
  return n_threads();
}

__attribute__((always_inline)) inline void Launch::block(const char* what, Place place) {
  Fiber& me = fibers_[state_.thread];
  const uint32_t thread = state_.thread;
  me.waits_for = what;
  me.place = place;
  ready_[thread / kWarp] &= ~(1U << (thread % kWarp));
  paused_in_a_row_ = 0;
  const uint32_t next = next_ready();
  if (next == n_threads()) stuck();
  give_to(next);
  switch_context(me.context, fibers_[next].context);
  me.waits_for = nullptr;
}

void Launch::wait_here(const char* what, Place place) { block(what, place); }

void Launch::finish_thread() {
  const uint32_t thread = state_.thread;
  if (!fibers_[thread].wgmma.in_flight.empty()) {
    fail(fibers_[thread].wgmma.in_flight.front().place,
         "no wgmma_wait covers this wgmma before the thread leaves the kernel");
  }
  fibers_[thread].done = true;
  ready_[thread / kWarp] &= ~(1U << (thread % kWarp));
  ++done_;
  paused_in_a_row_ = 0;
  if (done_ == n_threads()) leave_context(fibers_[thread].context, main_);
  const uint32_t next = next_ready();
  if (next == n_threads()) stuck();
  give_to(next);
  leave_context(fibers_[thread].context, fibers_[next].context);
}

Text Launch::describe(uint32_t thread) const {
  const uint32_t* i = fibers_[thread].index;
  return short_text("thread ({}, {}, {}), warp {} lane {}", i[0], i[1], i[2], thread / kWarp,
                    thread % kWarp);
}

void Launch::note(const std::string& text, Place place) {
  const uint32_t* b = state_.block_idx;
  message_ = fmt::format("kernel {}, block ({}, {}, {}), {}, at {}: {}", launch_.name, b[0], b[1],
                         b[2], describe(state_.thread).c_str(), text_of(place).c_str(), text);
}

void Launch::abandon() { leave_context(fibers_[state_.thread].context, main_); }

std::string Launch::waiting_text() const {
  constexpr int kListed = 6;
  std::string text;
  int groups = 0;
  for (uint32_t t = 0; t < n_threads(); ++t) {
    const Fiber& f = fibers_[t];
    const auto same = [&](uint32_t other) {
      const Fiber& o = fibers_[other];
      if (o.done || f.done) return o.done == f.done;
      return o.waits_for == f.waits_for && o.place == f.place;
    };
    const uint32_t first = t / kWarp * kWarp, end = std::min(first + kWarp, n_threads());
    uint32_t lanes = 0, before = 0;
    for (uint32_t other = first; other < end; ++other) {
      if (!same(other)) continue;
      if (other < t) ++before;
      lanes |= 1U << (other - first);
    }
    if (before > 0 || ++groups > kListed) continue;
    text += fmt::format("; warp {} lanes {:#010x} ", t / kWarp, lanes);
    text += f.done
                ? "have returned"
                : fmt::format("wait in {} at {}", f.waits_for == nullptr ? "a poll" : f.waits_for,
                              text_of(f.place).c_str());
  }
  if (groups > kListed) text += "; ...";
  return text;
}

void Launch::note_stuck() {
  uint32_t waiting = 0;
  Place first;
  for (uint32_t t = 0; t < n_threads(); ++t) {
    const Fiber& f = fibers_[t];
    if (f.waits_for == nullptr || f.done) continue;
    if (++waiting == 1) first = f.place;
  }
  note(fmt::format("deadlock: no thread can go on; {} of {} have left the kernel, {} wait{}{}",
                   done_, n_threads(), waiting, waiting_text(), mbarrier_text()),
       first);
}

void Launch::stuck() {
  note_stuck();
  abandon();
}

uint32_t Launch::static_shared(const void* key, uint32_t bytes, uint32_t align, Place place) {
  for (const Static& s : statics_) {
    if (s.key == key) return s.offset;
  }
  const uint32_t offset = (static_end_ + align - 1) / align * align;
  if (offset + uint64_t{bytes} > state_.shared_bytes) {
    fail(place, "shared memory: {} bytes are asked for, sm_{} has {} per block",
         offset + uint64_t{bytes}, state_.sm, state_.shared_bytes);
  }
  statics_.push_back({key, offset});
  static_end_ = offset + bytes;
  return offset;
}

void Launch::check(const Hazard& hazard, Place place) {
  if (hazard.what == nullptr) return;
  if (hazard.other < 0) fail(place, "{}: byte {}", hazard.what, hazard.offset);
  const Text other = describe(static_cast<uint32_t>(hazard.other));
  if (hazard.site == 0) {
    fail(place, "{}: byte {}, the other is {}", hazard.what, hazard.offset, other.c_str());
  }
  fail(place, "{}: byte {}, the other is {}, at {}", hazard.what, hazard.offset, other.c_str(),
       text_of(sites_[hazard.site - 1]).c_str());
}

uint32_t Launch::site(Place place) {
  const auto is = [&](const Place& p) { return p.line == place.line && p.file == place.file; };
  if (last_site_ != 0 && is(sites_[last_site_ - 1])) return last_site_;
  for (uint32_t i = 0; i < sites_.size(); ++i) {
    if (is(sites_[i])) return last_site_ = i + 1;
  }
  if (sites_.size() >= 0xffff) return 0;
  sites_.push_back(place);
  return last_site_ = static_cast<uint32_t>(sites_.size());
}

void Launch::shared_access(uint32_t thread, uint32_t offset, uint32_t bytes, uint32_t kind,
                           Place place) {
  if (offset + uint64_t{bytes} > state_.shared_bytes) {
    fail(place, "shared memory: bytes {} to {} are outside of the block's {}", offset,
         offset + uint64_t{bytes}, state_.shared_bytes);
  }
  if ((kind & PLUQ_EMU_WRITE) != 0) check_tiles(offset, bytes, place);
  if (!shadow_.active()) return;
  if ((kind & PLUQ_EMU_ASYNC_PROXY) != 0) check(shadow_.async_proxy(offset, bytes), place);
  const bool atomic = (kind & PLUQ_EMU_ATOMIC) != 0;
  if (atomic || (kind & PLUQ_EMU_READ) != 0) {
    check(shadow_.read(clocks_, thread, offset, bytes, atomic), place);
  }
  if ((kind & PLUQ_EMU_WRITE) != 0) {
    check(shadow_.write(clocks_, thread, offset, bytes, atomic, site(place)), place);
  }
}

Launch::Gather& Launch::gather_for(const char* what, uint32_t group, uint32_t mask, Place place) {
  const uint32_t thread = state_.thread;
  const uint32_t first = thread / group * group;
  for (Gather& g : gathers_) {
    if (first + group <= g.first_thread || g.first_thread + g.group <= first) continue;
    const bool same = g.group == group && g.mask == mask && g.place == place &&
                      (g.what == what || std::strcmp(g.what, what) == 0);
    if (same) return g;
    // Each needs a thread that waits for the other: neither can go on. Else the other may finish by
    // itself; if it cannot, the deadlock is found.
    const auto lane_in = [](uint32_t lanes, uint32_t t) { return (lanes >> t % kWarp & 1) != 0; };
    const bool needs_me = g.group != kWarp || lane_in(g.mask, thread);
    const bool needed = std::any_of(g.waiting.begin(), g.waiting.end(), [&](uint32_t t) {
      return group != kWarp ? t - first < group : t / kWarp == thread / kWarp && lane_in(mask, t);
    });
    if (!needs_me || !needed) continue;
    fail(place, "divergence: {} meets {} of {} at {} (masks {:#010x} and {:#010x})", what, g.what,
         describe(g.waiting.empty() ? g.first_thread : g.waiting.front()).c_str(),
         text_of(g.place).c_str(), mask, g.mask);
  }
  Gather g = std::move(spare_);  // keeps its memory
  g.what = what;
  g.group = group;
  g.mask = mask;
  g.place = place;
  g.first_thread = first;
  g.arrived = 0;
  g.waiting.clear();
  const uint32_t present = std::min(group, n_threads() - first);
  g.expected = group == kWarp ? static_cast<uint32_t>(__builtin_popcount(mask)) : group;
  if (group != kWarp && present < group) {
    fail(place, "{} needs {} threads, the block has {} from thread {} on", what, group, present,
         first);
  }
  g.operands.assign(group, nullptr);
  gathers_.push_back(std::move(g));
  return gathers_.back();
}

void Launch::collective(const char* what, uint32_t group, uint32_t mask, void* operand,
                        pluq_emu_run perform, void* user, bool orders, Place place) {
  const uint32_t thread = state_.thread;
  if (group == kWarp && (mask >> (thread % kWarp) & 1) == 0) {
    fail(place, "{}: lane {} is not in its own mask {:#010x}", what, thread % kWarp, mask);
  }
  Gather& g = gather_for(what, group, mask, place);
  g.operands[thread - g.first_thread] = operand;
  if (++g.arrived < g.expected) {
    g.waiting.push_back(thread);
    block(what, place);
    return;
  }
  resolving_ = std::move(g);  // not on the fiber's stack: `perform` may find a mistake
  gathers_.erase(gathers_.begin() + (&g - gathers_.data()));
  if (orders) clocks_.sync_warp(thread / kWarp);
  if (perform != nullptr)
    perform(&state_, resolving_.first_thread, resolving_.operands.data(), user);
  for (const uint32_t t : resolving_.waiting) make_ready(t);
  spare_ = std::move(resolving_);
}

void Launch::barrier(uint32_t id, uint32_t count, bool arrive, Place place) {
  const uint32_t thread = state_.thread;
  if (count == 0) count = n_threads();
  if (id >= kNamedBarriers) fail(place, "barrier {}: there are 0 to 15", id);
  if (count % kWarp != 0 && count != n_threads()) {
    fail(place, "barrier {} of {} threads: whole warps are needed", id, count);
  }
  if (count > n_threads()) {
    fail(place, "barrier {} of {} threads in a block of {}", id, count, n_threads());
  }
  Barrier& b = barriers_[id];
  if (b.arrived == 0) {
    b.expected = count;
  } else if (b.expected != count) {
    fail(place, "barrier {}: {} threads here, {} where the others wait", id, count, b.expected);
  }
  ++b.arrived;
  const uint32_t warp = thread / kWarp;
  if (arrive) clocks_.release(warp, b.clock);
  if (b.arrived < b.expected) {
    if (arrive) return;
    b.waiting.push_back(thread);
    block("a barrier", place);
    return;
  }
  if (!arrive) b.waiting.push_back(thread);
  std::vector<bool> waits(clocks_.warps(), false);
  for (const uint32_t t : b.waiting) waits[t / kWarp] = true;
  for (uint32_t w = 0; w < clocks_.warps(); ++w) {
    if (waits[w]) clocks_.release(w, b.clock);
  }
  for (uint32_t w = 0; w < clocks_.warps(); ++w) {
    if (waits[w]) clocks_.acquire(w, b.clock);
  }
  for (const uint32_t t : b.waiting) make_ready(t);
  b = {};
}

void Launch::async_copy(uint32_t dst, const void* src, uint32_t dst_bytes, uint32_t src_bytes,
                        Place place) {
  if (dst + uint64_t{dst_bytes} > state_.shared_bytes) {
    fail(place, "cp.async: bytes {} to {} are outside of shared memory", dst,
         dst + uint64_t{dst_bytes});
  }
  check_tiles(dst, dst_bytes, place);
  if (shadow_.active())
    check(shadow_.begin_copy(clocks_, state_.thread, dst, dst_bytes, site(place), false), place);
  fibers_[state_.thread].open.push_back({dst, dst_bytes, src_bytes, src});
}

void Launch::async_commit() {
  Fiber& me = fibers_[state_.thread];
  me.groups.push_back(std::move(me.open));
  me.open.clear();
}

void Launch::async_wait(uint32_t pending, bool all, Place) {
  Fiber& me = fibers_[state_.thread];
  const auto finish = [&](const std::vector<Copy>& copies) {
    for (const Copy& c : copies) {
      if (c.src_bytes != 0) std::memcpy(state_.shared + c.dst, c.src, c.src_bytes);
      std::memset(state_.shared + c.dst + c.src_bytes, 0, c.dst_bytes - c.src_bytes);
      if (shadow_.active()) shadow_.end_copy(clocks_, state_.thread, c.dst, c.dst_bytes, false);
    }
  };
  if (all) {
    async_commit();
    pending = 0;
  }
  const size_t done = me.groups.size() > pending ? me.groups.size() - pending : 0;
  for (size_t i = 0; i < done; ++i) finish(me.groups[i]);
  me.groups.erase(me.groups.begin(), me.groups.begin() + static_cast<ptrdiff_t>(done));
}

void Launch::pause(Place place) {
  const uint32_t thread = state_.thread;
  uint32_t runnable = 0;
  for (const uint32_t mask : ready_) runnable += static_cast<uint32_t>(__builtin_popcount(mask));
  if (++paused_in_a_row_ > kPausesBeforeStuck * runnable) {
    fail(place,
         "waits for memory that nobody is left to change: a higher-numbered block, or for ever");
  }
  const uint32_t next = next_ready();
  if (next == thread) return;
  const uint32_t kept = paused_in_a_row_;
  give_to(next);
  switch_context(fibers_[thread].context, fibers_[next].context);
  paused_in_a_row_ = std::max(paused_in_a_row_, kept);
}

}  // namespace pluq::cuda_emulator
