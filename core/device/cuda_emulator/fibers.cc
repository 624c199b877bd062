// SPDX-License-Identifier: Apache-2.0
#include "device/cuda_emulator/fibers.h"

#include <sys/mman.h>

#include <cstdlib>

#include "base/error.h"

#ifdef PLUQ_EMU_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace pluq::cuda_emulator {
namespace {

constexpr size_t kGuardBytes = 4096;
constexpr size_t kSlot = StackPool::kStackBytes + kGuardBytes;

}  // namespace

StackPool::~StackPool() {
  for (const Slab& slab : slabs_) ::munmap(slab.base, slab.count * kSlot);
}

void StackPool::reserve(size_t count) {
  if (count <= count_) return;
  const size_t more = count - count_;
  void* base = ::mmap(nullptr, more * kSlot, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED)
    fail(ErrorKind::kFailed, "cannot map {} stacks for emulated CUDA threads", more);
  auto* bytes = static_cast<uint8_t*>(base);
  for (size_t i = 0; i < more; ++i) ::mprotect(bytes + i * kSlot, kGuardBytes, PROT_NONE);
  slabs_.push_back({bytes, more, count_});
  count_ = count;
}

uint8_t* StackPool::bottom(size_t i) const {
  for (const Slab& slab : slabs_) {
    if (i < slab.first + slab.count) return slab.base + (i - slab.first) * kSlot + kGuardBytes;
  }
  std::abort();  // more fibers than reserved
}

void make_context(Context& context, const StackPool& stacks, size_t i, void (*entry)(transfer_t)) {
  uint8_t* bottom = stacks.bottom(i);
  uint8_t* top = stacks.top(i);
#ifdef PLUQ_EMU_ASAN
  __asan_unpoison_memory_region(bottom, StackPool::kStackBytes);
#endif
  context.stack_bottom = bottom;
  context.stack_bytes = static_cast<size_t>(top - bottom);
  context.fake_stack = nullptr;
#ifdef PLUQ_EMU_TSAN
  forget_context(context);
  context.tsan_fiber = __tsan_create_fiber(0);
#endif
  context.handle = boost::context::detail::make_fcontext(top, context.stack_bytes, entry);
}

void entered(transfer_t transfer) { arrived(transfer); }

void leave_context(Context& from, Context& to) {
  to.came_from = &from;
#ifdef PLUQ_EMU_ASAN
  __sanitizer_start_switch_fiber(nullptr, to.stack_bottom, to.stack_bytes);
#endif
  tell_switch(from, to);
  boost::context::detail::jump_fcontext(to.handle, &to);
  std::abort();  // nobody comes back
}

}  // namespace pluq::cuda_emulator
