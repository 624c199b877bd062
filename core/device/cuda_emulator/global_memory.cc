// SPDX-License-Identifier: Apache-2.0
// What kernels do to device memory: bounds are the twins' to check, here is looked whether what is
// read was ever written, and whether accesses to the same bytes are ordered.
#include "device/cuda_emulator/block.h"

namespace pluq::cuda_emulator {

Allocation* Launch::allocation_at(const void* p) {
  for (Allocation* a : known_) {
    if (a != nullptr && a->holds(p)) return a;
  }
  Allocation* a = device_.allocation_of(p);
  if (a != nullptr) {
    known_[next_known_] = a;
    next_known_ = (next_known_ + 1) % 4;
  }
  return a;
}

void Launch::global_access(const void* p, uint32_t bytes, uint32_t kind, Place place) {
  Allocation* a = allocation_at(p);
  if (a == nullptr) return;  // the bounds given to gmem were not those of an allocation
  const auto offset = static_cast<uint64_t>(static_cast<const uint8_t*>(p) - a->begin());
  if ((state_.checks & PLUQ_EMU_CHECK_GLOBAL_INIT) != 0) {
    if ((kind & (PLUQ_EMU_READ | PLUQ_EMU_ATOMIC)) != 0) {
      const int64_t missing = a->first_unwritten(offset, bytes);
      if (missing >= 0) {
        fail(place, "reads device memory that nobody has written: byte {} of {}{}{} bytes", missing,
             a->what(), a->what().empty() ? "" : ", ", a->bytes());
      }
    }
    if ((kind & PLUQ_EMU_WRITE) != 0) a->note_written(offset, bytes);
  }
  if (!looks_at_order_) return;
  const GlobalHazard h = order_.access(clocks_, state_.thread, reinterpret_cast<uintptr_t>(p),
                                       bytes, kind, site(place));
  if (h.what == nullptr) return;
  const Text who = describe(h.thread);
  const uint32_t* grid = launch_.grid_dim;
  fail(place, "{}: byte {} of {}{}{} bytes, the other is block ({}, {}, {}), {}, at {}", h.what,
       offset, a->what(), a->what().empty() ? "" : ", ", a->bytes(), h.block % grid[0],
       h.block / grid[0] % grid[1], h.block / grid[0] / grid[1], who.c_str(),
       h.site == 0 ? "a place not known" : text_of(sites_[h.site - 1]).c_str());
}

}  // namespace pluq::cuda_emulator
