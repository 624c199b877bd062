// SPDX-License-Identifier: Apache-2.0
// Stacks and switches of fibers (Boost.Context's fcontext), told to the sanitizers.
#pragma once

#include <boost/context/detail/fcontext.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define PLUQ_EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PLUQ_EMU_ASAN 1
#endif
#endif
#ifdef PLUQ_EMU_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#define PLUQ_EMU_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define PLUQ_EMU_TSAN 1
#endif
#endif
#ifdef PLUQ_EMU_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace pluq::cuda_emulator {

using boost::context::detail::fcontext_t;
using boost::context::detail::transfer_t;

// Stacks of one OS thread, with a guard page below each; kept for the next launch.
class StackPool {
 public:
  static constexpr size_t kStackBytes = 128 * 1024;

  ~StackPool();
  // At least `count` stacks.
  void reserve(size_t count);
  // Highest address of stack i (staggered: equal tops would share cache sets) and its lowest.
  uint8_t* top(size_t i) const { return bottom(i) + kStackBytes - (i % 32) * 192; }
  uint8_t* bottom(size_t i) const;

 private:
  struct Slab {
    uint8_t* base;
    size_t count;
    size_t first;
  };
  std::vector<Slab> slabs_;
  size_t count_ = 0;
};

// A context that control can be given to. One per fiber, one for whoever started them.
struct Context {
  fcontext_t handle = nullptr;
  const void* stack_bottom = nullptr;  // of a fiber; of the starter: learned at the first switch
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;    // AddressSanitizer's
  Context* came_from = nullptr;  // who switched here last
  void* tsan_fiber = nullptr;    // ThreadSanitizer's; owned by a fiber's context
};

// Tells ThreadSanitizer that `to` goes on instead of `from`.
__attribute__((always_inline)) inline void tell_switch([[maybe_unused]] Context& from,
                                                       [[maybe_unused]] Context& to) {
#ifdef PLUQ_EMU_TSAN
  if (from.tsan_fiber == nullptr) from.tsan_fiber = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.tsan_fiber, 0);
#endif
}
// A fiber will not run again.
inline void forget_context([[maybe_unused]] Context& context) {
#ifdef PLUQ_EMU_TSAN
  if (context.tsan_fiber != nullptr) __tsan_destroy_fiber(context.tsan_fiber);
  context.tsan_fiber = nullptr;
#endif
}

// Makes `context` start in `entry` on this stack.
void make_context(Context& context, const StackPool& stacks, size_t i, void (*entry)(transfer_t));
// Something came here; `transfer.data` is the context that goes on. Nothing on the stack of the one
// that left is touched, which may be gone already.
inline void arrived(transfer_t transfer) {
  Context& me = *static_cast<Context*>(transfer.data);
  me.came_from->handle = transfer.fctx;
#ifdef PLUQ_EMU_ASAN
  const void* bottom = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(me.fake_stack, &bottom, &bytes);
  if (me.came_from->stack_bottom == nullptr) {
    me.came_from->stack_bottom = bottom;
    me.came_from->stack_bytes = bytes;
  }
#endif
}

// Leaves `from`, runs `to`, and returns when somebody switches back to `from`. Inline: after a
// switch the processor predicts the returns of all frames wrongly, so there should be few.
inline void switch_context(Context& from, Context& to) {
  to.came_from = &from;
#ifdef PLUQ_EMU_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack_bottom, to.stack_bytes);
#endif
  tell_switch(from, to);
  arrived(boost::context::detail::jump_fcontext(to.handle, &to));
}
// First thing that a fiber's entry does.
void entered(transfer_t transfer);
// Leaves for good: the stack of `from` may be reused.
[[noreturn]] void leave_context(Context& from, Context& to);

}  // namespace pluq::cuda_emulator
