// SPDX-License-Identifier: Apache-2.0
// Which accesses of one launch to device memory are ordered: within a block by its barriers,
// between blocks by a release (release_add, release_store, or thread_fence and an atomic) that an
// acquire (wait_equal, or an atomic and thread_fence) has seen.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "device/cuda_emulator/shadow.h"

namespace pluq::cuda_emulator {

// A mistake with device memory, and who made the earlier access.
struct GlobalHazard {
  const char* what = nullptr;
  uint32_t block = 0, thread = 0, site = 0;  // block: linear
};

// Of one launch; blocks run one after the other. Threads are linear indices in their block, sites
// as in Shadow, kinds PLUQ_EMU_READ and so on. Accesses to parts of one aligned word of 4 bytes by
// more than two parties are kept for the last ones only: something may be missed, nothing is
// invented.
class GlobalOrder {
 public:
  void reset(uint32_t warps);
  void begin_block(uint32_t block);
  GlobalHazard access(const Clocks& clocks, uint32_t thread, uintptr_t address, uint32_t bytes,
                      uint32_t kind, uint32_t site);
  void fence(const Clocks& clocks, uint32_t thread);

 private:
  struct Stamp {
    uint32_t block = 0;  // linear + 1; 0: nobody
    uint32_t epoch = 0;
    uint16_t thread = 0, site = 0;
    uint8_t bytes = 0;  // of the word, a bit each
  };
  struct Word {
    Stamp writer, reader, other_reader;
    bool strong = false;  // last written by an atomic or a release
  };
  struct Page {
    Word words[256];
  };
  // What a block had done, and knew, when it released.
  struct Released {
    uint32_t block;
    uint32_t thread, own_epoch;    // of the releasing thread itself
    std::vector<uint32_t> epochs;  // of each warp
    bool covers(const Stamp& stamp) const;
  };
  using Clock = std::vector<Released>;
  struct Acquired {
    uintptr_t address;
    uint32_t thread, epoch;
    bool fenced;
    std::shared_ptr<const Clock> clock;  // null: nobody had released there
  };

  Word& word(uintptr_t address);
  bool ordered(const Clocks& clocks, uint32_t thread, uintptr_t address, const Stamp& earlier,
               bool strong) const;
  GlobalHazard read(const Clocks& clocks, uintptr_t address, Word& w, const Stamp& now,
                    bool strong);
  GlobalHazard write(const Clocks& clocks, uintptr_t address, Word& w, const Stamp& now,
                     bool strong);
  void acquire(const Clocks& clocks, uint32_t thread, uintptr_t address, bool fenced);
  void release(const Clocks& clocks, uint32_t thread, uintptr_t address, bool fenced);

  uint32_t warps_ = 0;
  uint32_t block_ = 0;  // linear + 1
  std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages_;
  uintptr_t last_page_ = 0;
  Page* last_ = nullptr;
  std::unordered_map<uintptr_t, std::shared_ptr<const Clock>> released_;  // by address
  // Of this block.
  std::vector<Acquired> acquired_;
  std::unordered_map<uint64_t, size_t> acquired_by_;  // thread and address to index
  std::vector<uint32_t> fenced_;                      // of each warp: epochs that a fence covers
};

}  // namespace pluq::cuda_emulator
