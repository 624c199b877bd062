// SPDX-License-Identifier: Apache-2.0
// One launch: its blocks one after the other, each CUDA thread a fiber of the calling OS thread.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <vector>

#include "device/cuda_emulator/emulator.h"
#include "device/cuda_emulator/fibers.h"
#include "device/cuda_emulator/global_order.h"
#include "device/cuda_emulator/shadow.h"

namespace pluq::cuda_emulator {

// A place in a kernel's source.
struct Place {
  const char* file = "";
  uint32_t line = 0;
  bool operator==(const Place& other) const;
};

// Short text without memory of its own: what is alive when a fiber is abandoned is never freed.
struct Text {
  char characters[112];
  const char* c_str() const { return characters; }
};

Text text_of(const Place& place);  // "file.cu.inl:12"

// Not thread-safe; the functions below run() are called by the fibers that it runs. Those that find
// a mistake do not return: they keep the message, leave for the launch, and abandon all fibers.
class Launch {
 public:
  // The shape of `launch` has been checked.
  Launch(Emulator& device, const pluq_emu_launch& launch);
  ~Launch();
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;
  // Runs all blocks; the message of the first mistake, or nothing.
  std::string run();

  static Launch& of(pluq_emu_block* block);

  template <class... Args>
  [[noreturn]] void fail(Place place, fmt::format_string<Args...> format, Args&&... args) {
    note(fmt::format(format, std::forward<Args>(args)...), place);
    abandon();
  }
  uint32_t static_shared(const void* key, uint32_t bytes, uint32_t align, Place place);
  void shared_access(uint32_t thread, uint32_t offset, uint32_t bytes, uint32_t kind, Place place);
  void collective(const char* what, uint32_t group, uint32_t mask, void* operand,
                  pluq_emu_run perform, void* user, bool orders, Place place);
  void barrier(uint32_t id, uint32_t count, bool arrive, Place place);
  void async_copy(uint32_t dst, const void* src, uint32_t dst_bytes, uint32_t src_bytes,
                  Place place);
  void async_commit();
  void async_wait(uint32_t pending, bool all, Place place);
  void pause(Place place);
  // global_memory.cc
  void global_access(const void* p, uint32_t bytes, uint32_t kind, Place place);
  void thread_fence() { order_.fence(clocks_, state_.thread); }
  // mbarrier.cc
  void mbar_init(uint32_t offset, uint32_t count, Place place);
  void mbar_arrive(uint32_t offset, uint32_t tx_bytes, Place place);
  void mbar_wait(uint32_t offset, uint32_t parity, Place place);
  void bulk_copy(uint32_t dst, const void* src, uint32_t bytes, uint32_t mbar, Place place);
  void proxy_fence(uint32_t kind);
  // wgmma.cc
  uint32_t* wgmma_accumulators(uint32_t thread, uint32_t* d, uint32_t words, const uint32_t* a,
                               Place place);
  void wgmma_reads(uint32_t first_thread, uint32_t offset, Place place);
  void wgmma_order(uint32_t op, uint32_t pending, Place place);
  void wgmma_value(const uint32_t* value, uint32_t words, Place place);

 private:
  struct Copy {
    uint32_t dst, dst_bytes, src_bytes;
    const void* src;
  };
  // Accumulators of a wgmma of one thread, and what they will hold.
  struct Accumulators {
    uint32_t* d;
    std::vector<uint32_t> sums;
    uint32_t group;  // of the last wgmma that adds to them
    Place place;
  };
  struct FragmentA {
    const uint32_t* a;
    uint32_t bits[4];
    uint32_t group;
    Place place;
  };
  struct Wgmma {
    bool fenced = false;   // since the last wait that ended something
    uint32_t commits = 0;  // and so the group that a wgmma belongs to that is issued now
    std::vector<Accumulators> in_flight, finished;
    std::vector<FragmentA> fragments;
  };
  // 16 bytes of shared memory that a wgmma reads, until all four warps have waited for it.
  struct TileRead {
    uint32_t chunk;  // of 16 bytes
    uint32_t first_thread, group;
    uint32_t warps;  // bits of those that have not waited
    Place place;
  };
  struct Fiber {
    Context context;
    uint32_t index[3] = {0, 0, 0};
    bool done = false;
    const char* waits_for = nullptr;  // what it waits at, for messages
    Place place;
    std::vector<Copy> open;                 // copies not yet committed
    std::vector<std::vector<Copy>> groups;  // committed, oldest first
    Wgmma wgmma;
  };
  // Lanes that have come to one collective of one warp (or warpgroup).
  struct Gather {
    const char* what;
    uint32_t group, mask;
    Place place;
    uint32_t first_thread;
    uint32_t arrived = 0, expected = 0;
    std::vector<uint32_t> waiting;
    std::vector<void*> operands;
  };
  struct Barrier {
    uint32_t arrived = 0, expected = 0;
    std::vector<uint32_t> waiting;
    std::vector<uint32_t> clock;  // what those that came had done
  };
  struct BulkCopy {
    uint32_t dst, bytes, thread;
    const void* src;
  };
  struct Mbarrier {
    uint32_t offset, count, pending;
    uint32_t owner;  // the thread that initialised it
    bool fenced;     // by that thread, since then
    uint32_t phase = 0;
    int64_t tx_bytes = 0;               // expected less arrived
    std::vector<BulkCopy> copies;       // in flight
    std::vector<uint32_t> waiting;      // threads that wait for the present phase to end
    std::vector<uint32_t> clock, done;  // of this phase; of those that are over
  };
  struct Static {
    const void* key;
    uint32_t offset;
  };

  static void fiber_entry(transfer_t transfer);
  void prepare(uint32_t x, uint32_t y, uint32_t z);
  void give_to(uint32_t thread);
  // The next thread that can run, or n_threads.
  uint32_t next_ready() const;
  // The running thread cannot go on: others run until it is made ready.
  void block(const char* what, Place place);
  void wait_here(const char* what, Place place);  // block(), for other files
  void make_ready(uint32_t thread) { ready_[thread / kWarp] |= 1U << (thread % kWarp); }
  [[noreturn]] void finish_thread();
  [[noreturn]] void stuck();
  Gather& gather_for(const char* what, uint32_t group, uint32_t mask, Place place);
  Mbarrier& mbarrier(uint32_t offset, Place place);
  void land_copies(Mbarrier& m);
  void end_phase_when_complete(Mbarrier& m);
  // What mbarriers that are waited for still lack.
  std::string mbarrier_text() const;
  // Fails when a wgmma may still read these bytes that are to be written.
  void check_tiles(uint32_t offset, uint32_t bytes, Place place);
  void end_wgmma(Fiber& fiber, uint32_t groups, Place place);
  void end_tile_reads(uint32_t groups);
  // The allocation that holds this address, or null.
  Allocation* allocation_at(const void* p);
  // Number of a place, for the shadow.
  uint32_t site(Place place);
  void check(const Hazard& hazard, Place place);
  // What the threads of the block wait for, those of one warp at one place together.
  std::string waiting_text() const;
  // The message, without leaving; then leave with nothing alive that would have to be destroyed.
  void note(const std::string& text, Place place);
  void note_stuck();
  [[noreturn]] void abandon();
  Text describe(uint32_t thread) const;
  uint32_t n_threads() const { return state_.n_threads; }

  struct State : pluq_emu_block {
    Launch* owner;
  };
  State state_;
  Emulator& device_;
  const pluq_emu_launch& launch_;
  Context main_;
  std::vector<Fiber> fibers_;
  std::vector<uint32_t> ready_;  // a bit per lane of each warp
  std::vector<uint8_t> shared_;
  std::vector<Gather> gathers_;
  Gather resolving_{};
  Gather spare_{};
  std::vector<Barrier> barriers_;
  std::vector<Mbarrier> mbarriers_;
  std::vector<Static> statics_;
  std::vector<TileRead> tile_reads_;
  std::vector<uint16_t> tile_readers_;  // of each 16 bytes of shared memory
  std::vector<Place> sites_;            // [number - 1]
  uint32_t last_site_ = 0;
  uint32_t static_end_ = 0;
  uint32_t done_ = 0;
  uint32_t paused_in_a_row_ = 0;
  Allocation* known_[4] = {};  // touched last
  uint32_t next_known_ = 0;
  Clocks clocks_;
  Shadow shadow_;
  bool looks_at_order_;  // of accesses to device memory
  GlobalOrder order_;
  std::string message_;
};

}  // namespace pluq::cuda_emulator
