// SPDX-License-Identifier: Apache-2.0
// Global and shared memory as kernels see it. On a GPU gmem and smem are bare pointers; in
// emulation they carry their bounds, and every access is checked for bounds and alignment (and
// shared memory for races, see README.md). Indices count elements of T; `_as<U>` accesses move a U
// (up to 16 bytes) that begins at element i.
#pragma once

#include <type_traits>

#include "pluq/cuda/platform.hpp"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

template <class T>
using value_of = std::remove_const_t<T>;

#if PLUQ_CUDA_EMULATE

// Allocations that the threads of this OS thread touched last: the registry is asked for others.
struct KnownAllocations {
  uintptr_t begin[4], end[4];
  uint32_t next;
};
inline thread_local KnownAllocations known_allocations{};

// The device allocation that holds this address.
inline bool allocation_of(uintptr_t at, uintptr_t &begin, uintptr_t &end) {
  KnownAllocations &known = known_allocations;
  for (int i = 0; i < 4; ++i) {
    if (at < known.begin[i] || at >= known.end[i]) continue;
    begin = known.begin[i], end = known.end[i];
    return true;
  }
  const void *range = nullptr;
  uint64_t bytes = 0;
  pluq_emu_block *b = block_state();
  if (b->api->find_range(b->stream, reinterpret_cast<const void *>(at), &range, &bytes) == 0)
    return false;
  begin = reinterpret_cast<uintptr_t>(range), end = begin + bytes;
  known.begin[known.next] = begin, known.end[known.next] = end;
  known.next = (known.next + 1) % 4;
  return true;
}

// What is wrong with an access; not inlined into the accesses.
#define PLUQ_COLD __attribute__((noinline, cold))
[[noreturn]] PLUQ_COLD inline void not_allocated(uintptr_t at, size_t bytes, int64_t i,
                                                 const char *verb, const char *file,
                                                 uint32_t line) {
  char text[256];
  std::snprintf(text, sizeof text,
                "global %s of %zu bytes at index %lld: address 0x%llx is not, or not whole, in a "
                "device allocation",
                verb, bytes, static_cast<long long>(i), static_cast<unsigned long long>(at));
  emulator_fail(text, file, line);
}

[[noreturn]] PLUQ_COLD inline void global_out_of_bounds(uintptr_t at, uintptr_t begin,
                                                        uintptr_t end, size_t bytes, size_t element,
                                                        const char *verb, const char *file,
                                                        uint32_t line) {
  char text[256];
  const auto size = static_cast<long long>(element);
  long long index = static_cast<long long>(at) - static_cast<long long>(begin);
  index = (index < 0 ? index - size + 1 : index) / size;
  std::snprintf(
      text, sizeof text,
      "global %s of %zu bytes at element %lld of %lld (elements of %zu bytes) is out of bounds",
      verb, bytes, index, static_cast<long long>(end - begin) / size, element);
  emulator_fail(text, file, line);
}
[[noreturn]] PLUQ_COLD inline void global_misaligned(uintptr_t at, uintptr_t begin, size_t bytes,
                                                     size_t align, size_t element, const char *verb,
                                                     const char *file, uint32_t line) {
  char text[256];
  std::snprintf(text, sizeof text,
                "global %s of %zu bytes at element %lld: address 0x%llx is not a multiple of %zu",
                verb, bytes, static_cast<long long>((at - begin) / element),
                static_cast<unsigned long long>(at), align);
  emulator_fail(text, file, line);
}
[[noreturn]] PLUQ_COLD inline void shared_out_of_bounds(int64_t i, uint32_t count, size_t bytes,
                                                        size_t element, const char *verb,
                                                        const char *file, uint32_t line) {
  char text[200];
  std::snprintf(
      text, sizeof text,
      "shared %s of %zu bytes at index %lld of %u (elements of %zu bytes) is out of bounds", verb,
      bytes, static_cast<long long>(i), count, element);
  emulator_fail(text, file, line);
}
[[noreturn]] PLUQ_COLD inline void shared_misaligned(int64_t i, int64_t at, size_t bytes,
                                                     size_t align, const char *verb,
                                                     const char *file, uint32_t line) {
  char text[200];
  std::snprintf(text, sizeof text,
                "shared %s of %zu bytes at index %lld: byte %lld is not a multiple of %zu", verb,
                bytes, static_cast<long long>(i), static_cast<long long>(at), align);
  emulator_fail(text, file, line);
}
#undef PLUQ_COLD

// Whether a U may hold sums of a matrix product.
template <class U>
constexpr bool kHoldsSums =
    std::is_same_v<U, float> || std::is_same_v<U, int32_t> || std::is_same_v<U, f32x2> ||
    std::is_same_v<U, f32x4> || std::is_same_v<U, u32x2> || std::is_same_v<U, u32x4>;
template <class U>
inline void check_stored(const U &v, const char *file, uint32_t line) {
  if constexpr (kHoldsSums<U>) {
    uint32_t words[sizeof(U) / 4];
    std::memcpy(words, &v, sizeof words);
    check_finished(words, sizeof(U) / 4 PLUQ_HERE);
  }
}

template <class T>
class gmem {
 public:
  using element = T;
  gmem() = default;
  // The launcher's: `count` elements from p on. Without a count the bounds are those of the device
  // allocation.
  explicit gmem(T *p) : p_(p) {}
  gmem(T *p, int64_t count) : p_(p), begin_(p), end_(p + count) {}
  template <class U, class = std::enable_if_t<std::is_same_v<const U, T>>>
  gmem(const gmem<U> &other) : p_(other.get()), begin_(other.begin()), end_(other.end()) {}

  gmem operator+(int64_t n) const {
    gmem r = *this;
    r.p_ = reinterpret_cast<T *>(reinterpret_cast<uintptr_t>(p_) +
                                 static_cast<uintptr_t>(n) * sizeof(T));
    return r;
  }
  explicit operator bool() const { return p_ != nullptr; }
  T *get() const { return p_; }
  T *begin() const { return begin_; }
  T *end() const { return end_; }
  // The same memory as elements of U.
  template <class U>
  gmem<U> as() const {
    gmem<U> r(reinterpret_cast<U *>(p_));
    r.set_bounds(reinterpret_cast<U *>(begin_), reinterpret_cast<U *>(end_));
    return r;
  }
  void set_bounds(T *begin, T *end) { begin_ = begin, end_ = end; }

  value_of<T> load(int64_t i PLUQ_AT) const { return load_as<value_of<T>>(i PLUQ_HERE); }
  void store(int64_t i, const value_of<T> &v PLUQ_AT) const {
    store_as<value_of<T>>(i, v PLUQ_HERE);
  }
  template <class U>
  U load_as(int64_t i PLUQ_AT) const {
    const void *at = check(i, sizeof(U), alignof(U) > sizeof(U) ? alignof(U) : sizeof(U),
                           PLUQ_EMU_READ, "load" PLUQ_HERE);
    U v;
    std::memcpy(&v, at, sizeof v);
    return v;
  }
  template <class U>
  void store_as(int64_t i, const U &v PLUQ_AT) const {
    static_assert(!std::is_const_v<T>, "store to constant memory");
    store_with(i, v, PLUQ_EMU_WRITE, file, line);
  }
  u32x4 load16(int64_t i PLUQ_AT) const { return load_as<u32x4>(i PLUQ_HERE); }
  void store16(int64_t i, const u32x4 &v PLUQ_AT) const { store_as<u32x4>(i, v PLUQ_HERE); }
  // Cache hints: read-only data (ld.global.nc), read once (nc, not kept in L1), and bypassing L1
  // (ld.global.cg).
  template <class U = value_of<T>>
  U load_nc(int64_t i PLUQ_AT) const {
    return load_as<U>(i PLUQ_HERE);
  }
  template <class U = value_of<T>>
  U load_once(int64_t i PLUQ_AT) const {
    return load_as<U>(i PLUQ_HERE);
  }
  template <class U = value_of<T>>
  U load_cg(int64_t i PLUQ_AT) const {
    return load_as<U>(i PLUQ_HERE);
  }

  // A store of the kind PLUQ_EMU_WRITE, or more.
  template <class U>
  void store_with(int64_t i, const U &v, uint32_t kind, const char *file, uint32_t line) const {
    std::memcpy(const_cast<void *>(check(i, sizeof(U), sizeof(U), kind, "store" PLUQ_HERE)), &v,
                sizeof v);
    check_stored(v PLUQ_HERE);
  }
  // Address of `bytes` at element i after the checks. kind: how they are accessed, PLUQ_EMU_READ...
  const void *check(int64_t i, size_t bytes, size_t align, uint32_t kind, const char *verb,
                    const char *file, uint32_t line) const {
    const uintptr_t at = reinterpret_cast<uintptr_t>(p_) + static_cast<uintptr_t>(i) * sizeof(T);
    pluq_emu_block *b = block_state();
    uintptr_t begin = reinterpret_cast<uintptr_t>(begin_), end = reinterpret_cast<uintptr_t>(end_);
    if (begin_ == nullptr) {
      if (!allocation_of(at, begin, end)) not_allocated(at, bytes, i, verb, file, line);
    }
    if (at < begin || at > end || end - at < bytes)
      global_out_of_bounds(at, begin, end, bytes, sizeof(T), verb, file, line);
    if (begin_ != nullptr && (b->checks & PLUQ_EMU_CHECK_GLOBAL) != 0 &&
        (!allocation_of(at, begin, end) || end - at < bytes))  // the declared count is not true
      not_allocated(at, bytes, i, verb, file, line);
    if (at % align != 0) global_misaligned(at, begin, bytes, align, sizeof(T), verb, file, line);
    if ((b->checks & (PLUQ_EMU_CHECK_GLOBAL_INIT | PLUQ_EMU_CHECK_GLOBAL_RACES)) != 0)
      b->api->global_access(b, reinterpret_cast<const void *>(at), static_cast<uint32_t>(bytes),
                            kind, file, line);
    return reinterpret_cast<const void *>(at);
  }

 private:
  T *p_ = nullptr;
  T *begin_ = nullptr, *end_ = nullptr;
};

template <class T>
class smem {
 public:
  using element = T;
  smem() = default;
  smem(uint32_t offset, uint32_t count) : offset_(offset), count_(count) {}

  // A part of this array as elements of U: `count` of them from byte_offset on.
  template <class U = T>
  smem<U> view(uint32_t byte_offset, uint32_t count PLUQ_AT) const {
    const uint64_t bytes = static_cast<uint64_t>(count) * sizeof(U);
    char text[200];
    if (byte_offset + bytes > static_cast<uint64_t>(count_) * sizeof(T)) {
      std::snprintf(text, sizeof text,
                    "shared view of %llu bytes at byte %u is larger than its array of %llu bytes",
                    static_cast<unsigned long long>(bytes), byte_offset,
                    static_cast<unsigned long long>(count_) * sizeof(T));
      emulator_fail(text, file, line);
    }
    if ((offset_ + byte_offset) % alignof(U) != 0) {
      std::snprintf(
          text, sizeof text,
          "shared view at byte %u is not a multiple of %zu, the alignment of its elements",
          offset_ + byte_offset, alignof(U));
      emulator_fail(text, file, line);
    }
    return smem<U>(offset_ + byte_offset, count);
  }
  T load(int64_t i PLUQ_AT) const { return load_as<T>(i PLUQ_HERE); }
  void store(int64_t i, const T &v PLUQ_AT) const { store_as<T>(i, v PLUQ_HERE); }
  template <class U>
  U load_as(int64_t i PLUQ_AT) const {
    pluq_emu_block *b = block_state();
    const uint32_t at = check(i, sizeof(U), sizeof(U), "load" PLUQ_HERE);
    if ((b->checks & PLUQ_EMU_CHECK_SHARED) != 0)
      b->api->shared_access(b, b->thread, at, sizeof(U), PLUQ_EMU_READ, file, line);
    U v;
    std::memcpy(&v, b->shared + at, sizeof v);
    return v;
  }
  template <class U>
  void store_as(int64_t i, const U &v PLUQ_AT) const {
    pluq_emu_block *b = block_state();
    const uint32_t at = check(i, sizeof(U), sizeof(U), "store" PLUQ_HERE);
    if ((b->checks & PLUQ_EMU_CHECK_SHARED) != 0)
      b->api->shared_access(b, b->thread, at, sizeof(U), PLUQ_EMU_WRITE, file, line);
    std::memcpy(b->shared + at, &v, sizeof v);
    check_stored(v PLUQ_HERE);
  }
  u32x4 load16(int64_t i PLUQ_AT) const { return load_as<u32x4>(i PLUQ_HERE); }
  void store16(int64_t i, const u32x4 &v PLUQ_AT) const { store_as<u32x4>(i, v PLUQ_HERE); }

  // Offset in the block's shared memory of `bytes` at element i after the checks.
  uint32_t check(int64_t i, size_t bytes, size_t align, const char *verb, const char *file,
                 uint32_t line) const {
    const int64_t at = i * static_cast<int64_t>(sizeof(T));
    const int64_t size = static_cast<int64_t>(count_) * static_cast<int64_t>(sizeof(T));
    if (at < 0 || at + static_cast<int64_t>(bytes) > size)
      shared_out_of_bounds(i, count_, bytes, sizeof(T), verb, file, line);
    if ((offset_ + at) % static_cast<int64_t>(align) != 0)
      shared_misaligned(i, offset_ + at, bytes, align, verb, file, line);
    return static_cast<uint32_t>(offset_ + at);
  }
  uint32_t offset() const { return offset_; }
  uint32_t count() const { return count_; }

 private:
  uint32_t offset_ = 0, count_ = 0;
};

template <class T>
smem<T> static_shared(const void *key, uint32_t count, const char *file, uint32_t line) {
  pluq_emu_block *b = block_state();
  const uint32_t at = b->api->static_shared(b, key, count * static_cast<uint32_t>(sizeof(T)),
                                            alignof(T) < 16 ? 16 : alignof(T), file, line);
  return smem<T>(at, count);
}

#define PLUQ_DYNAMIC_SMEM(name)                  \
  const ::pluq::cuda::smem<unsigned char> name = \
      ::pluq::cuda::smem<unsigned char>(0, ::pluq::cuda::block_state()->dynamic_bytes)
#define PLUQ_STATIC_SMEM(T, name, N)        \
  static const char name##_shared_key_ = 0; \
  const ::pluq::cuda::smem<T> name =        \
      ::pluq::cuda::static_shared<T>(&name##_shared_key_, N, __FILE__, __LINE__)

template <class T, class U>
inline T shared_atomic(smem<T> s, int64_t i, U update, const char *file, uint32_t line) {
  pluq_emu_block *b = block_state();
  const uint32_t at = s.check(i, sizeof(T), sizeof(T), "atomic" PLUQ_HERE);
  if ((b->checks & PLUQ_EMU_CHECK_SHARED) != 0)
    b->api->shared_access(b, b->thread, at, sizeof(T), PLUQ_EMU_WRITE | PLUQ_EMU_ATOMIC, file,
                          line);
  T old, fresh;
  std::memcpy(&old, b->shared + at, sizeof old);
  fresh = update(old);
  std::memcpy(b->shared + at, &fresh, sizeof fresh);
  return old;
}
template <class T, class U>
inline T global_atomic(gmem<T> g, int64_t i, U update, const char *file, uint32_t line,
                       uint32_t kind = PLUQ_EMU_WRITE | PLUQ_EMU_ATOMIC) {
  T *at = static_cast<T *>(
      const_cast<void *>(g.check(i, sizeof(T), sizeof(T), kind, "atomic" PLUQ_HERE)));
  const T old = *at;
  *at = update(old);
  return old;
}

#else  // nvcc

template <class T>
struct gmem {
  using element = T;
  T *p;
  gmem() = default;
  PLUQ_HOST_DEVICE explicit gmem(T *q) : p(q) {}
  PLUQ_HOST_DEVICE gmem(T *q, int64_t) : p(q) {}
  template <class U, class = std::enable_if_t<std::is_same_v<const U, T>>>
  PLUQ_HOST_DEVICE gmem(const gmem<U> &other) : p(other.p) {}
  PLUQ_HOST_DEVICE gmem operator+(int64_t n) const { return gmem(p + n); }
  PLUQ_HOST_DEVICE explicit operator bool() const { return p != nullptr; }
  PLUQ_HOST_DEVICE T *get() const { return p; }
  template <class U>
  PLUQ_HOST_DEVICE gmem<U> as() const {
    return gmem<U>(reinterpret_cast<U *>(p));
  }
  PLUQ_DEVICE value_of<T> load(int64_t i) const { return p[i]; }
  PLUQ_DEVICE void store(int64_t i, const value_of<T> &v) const { p[i] = v; }
  template <class U>
  PLUQ_DEVICE U load_as(int64_t i) const {
    return *reinterpret_cast<const U *>(p + i);
  }
  template <class U>
  PLUQ_DEVICE void store_as(int64_t i, const U &v) const {
    *reinterpret_cast<U *>(p + i) = v;
  }
  PLUQ_DEVICE u32x4 load16(int64_t i) const { return load_as<u32x4>(i); }
  PLUQ_DEVICE void store16(int64_t i, const u32x4 &v) const { store_as<u32x4>(i, v); }
  template <class U = value_of<T>>
  PLUQ_DEVICE U load_nc(int64_t i) const {
    const void *at = p + i;
    U out;
    if constexpr (sizeof(U) == 16) {
      uint32_t v[4];
      asm volatile("ld.global.nc.v4.u32 {%0,%1,%2,%3}, [%4];"
                   : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                   : "l"(at));
      __builtin_memcpy(&out, v, 16);
    } else if constexpr (sizeof(U) == 8) {
      uint32_t v[2];
      asm volatile("ld.global.nc.v2.u32 {%0,%1}, [%2];" : "=r"(v[0]), "=r"(v[1]) : "l"(at));
      __builtin_memcpy(&out, v, 8);
    } else if constexpr (sizeof(U) == 4) {
      uint32_t v;
      asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(v) : "l"(at));
      __builtin_memcpy(&out, &v, 4);
    } else {
      out = *static_cast<const U *>(at);
    }
    return out;
  }
  template <class U = value_of<T>>
  PLUQ_DEVICE U load_once(int64_t i) const {
    if constexpr (sizeof(U) == 16) {
      const void *at = p + i;
      U out;
      uint32_t v[4];
      asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                   : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                   : "l"(at));
      __builtin_memcpy(&out, v, 16);
      return out;
    } else {
      return load_nc<U>(i);
    }
  }
  template <class U = value_of<T>>
  PLUQ_DEVICE U load_cg(int64_t i) const {
    const void *at = p + i;
    U out;
    if constexpr (sizeof(U) == 16) {
      uint32_t v[4];
      asm volatile("ld.global.cg.v4.u32 {%0,%1,%2,%3}, [%4];"
                   : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                   : "l"(at)
                   : "memory");
      __builtin_memcpy(&out, v, 16);
    } else if constexpr (sizeof(U) == 8) {
      uint32_t v[2];
      asm volatile("ld.global.cg.v2.u32 {%0,%1}, [%2];"
                   : "=r"(v[0]), "=r"(v[1])
                   : "l"(at)
                   : "memory");
      __builtin_memcpy(&out, v, 8);
    } else if constexpr (sizeof(U) == 4) {
      uint32_t v;
      asm volatile("ld.global.cg.u32 %0, [%1];" : "=r"(v) : "l"(at) : "memory");
      __builtin_memcpy(&out, &v, 4);
    } else {
      out = *static_cast<const volatile U *>(at);
    }
    return out;
  }
};

template <class T>
struct smem {
  using element = T;
  T *p;
  smem() = default;
  PLUQ_DEVICE explicit smem(T *q) : p(q) {}
  template <class U = T>
  PLUQ_DEVICE smem<U> view(uint32_t byte_offset, uint32_t) const {
    return smem<U>(reinterpret_cast<U *>(reinterpret_cast<unsigned char *>(p) + byte_offset));
  }
  PLUQ_DEVICE T load(int64_t i) const { return p[i]; }
  PLUQ_DEVICE void store(int64_t i, const T &v) const { p[i] = v; }
  template <class U>
  PLUQ_DEVICE U load_as(int64_t i) const {
    return *reinterpret_cast<const U *>(p + i);
  }
  template <class U>
  PLUQ_DEVICE void store_as(int64_t i, const U &v) const {
    *reinterpret_cast<U *>(p + i) = v;
  }
  PLUQ_DEVICE u32x4 load16(int64_t i) const { return load_as<u32x4>(i); }
  PLUQ_DEVICE void store16(int64_t i, const u32x4 &v) const { store_as<u32x4>(i, v); }
  // The address in the shared window, for inline PTX.
  PLUQ_DEVICE uint32_t address(int64_t i) const {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p + i));
  }
};

extern __shared__ __align__(1024) unsigned char pluq_dynamic_shared[];
#define PLUQ_DYNAMIC_SMEM(name) \
  const ::pluq::cuda::smem<unsigned char> name(::pluq::cuda::pluq_dynamic_shared)
#define PLUQ_STATIC_SMEM(T, name, N)            \
  __shared__ __align__(16) T name##_shared_[N]; \
  const ::pluq::cuda::smem<T> name(name##_shared_)

#endif

// Atomics return the old value. T: int32_t, uint32_t, float, and unsigned long long for add and
// compare-and-swap.
#if PLUQ_CUDA_EMULATE
template <class T>
inline T atomic_add(gmem<T> g, int64_t i, value_of<T> v PLUQ_AT) {
  return global_atomic(g, i, [v](T old) { return static_cast<T>(old + v); } PLUQ_HERE);
}
template <class T>
inline T atomic_add(smem<T> s, int64_t i, value_of<T> v PLUQ_AT) {
  return shared_atomic(s, i, [v](T old) { return static_cast<T>(old + v); } PLUQ_HERE);
}
template <class T>
inline T atomic_max(gmem<T> g, int64_t i, value_of<T> v PLUQ_AT) {
  return global_atomic(g, i, [v](T old) { return old < v ? v : old; } PLUQ_HERE);
}
template <class T>
inline T atomic_max(smem<T> s, int64_t i, value_of<T> v PLUQ_AT) {
  return shared_atomic(s, i, [v](T old) { return old < v ? v : old; } PLUQ_HERE);
}
template <class T>
inline T atomic_cas(gmem<T> g, int64_t i, value_of<T> expected, value_of<T> v PLUQ_AT) {
  return global_atomic(g, i, [=](T old) { return old == expected ? v : old; } PLUQ_HERE);
}
template <class T>
inline T atomic_exch(gmem<T> g, int64_t i, value_of<T> v PLUQ_AT) {
  return global_atomic(g, i, [v](T) { return v; } PLUQ_HERE);
}
// Orders this thread's global accesses before its later ones, for all threads of the device
// (membar.gl).
inline void thread_fence() {
  pluq_emu_block *b = block_state();
  if ((b->checks & PLUQ_EMU_CHECK_GLOBAL_RACES) != 0) b->api->thread_fence(b);
}
// Waits until flags[i] equals `value`, with acquire ordering; one thread per block does it, then a
// barrier follows. Only lower-numbered blocks may be waited for.
inline void wait_equal(gmem<int32_t> flags, int64_t i, int32_t value PLUQ_AT) {
  pluq_emu_block *b = block_state();
  const auto seen = [&] {
    return *static_cast<const int32_t *>(
        flags.check(i, 4, 4, PLUQ_EMU_READ | PLUQ_EMU_ACQUIRE, "load" PLUQ_HERE));
  };
  while (seen() != value) b->api->pause(b PLUQ_HERE);
}
// flags[i] += v with release ordering.
inline void release_add(gmem<int32_t> flags, int64_t i, int32_t v PLUQ_AT) {
  global_atomic(
      flags, i, [v](int32_t old) { return old + v; } PLUQ_HERE,
      PLUQ_EMU_WRITE | PLUQ_EMU_ATOMIC | PLUQ_EMU_RELEASE);
}
// flags[i] = v with release ordering.
inline void release_store(gmem<int32_t> flags, int64_t i, int32_t v PLUQ_AT) {
  flags.store_with(i, v, PLUQ_EMU_WRITE | PLUQ_EMU_RELEASE PLUQ_HERE);
}
#else
template <class T>
PLUQ_DEVICE T atomic_add(gmem<T> g, int64_t i, value_of<T> v) {
  return ::atomicAdd(g.p + i, v);
}
template <class T>
PLUQ_DEVICE T atomic_add(smem<T> s, int64_t i, value_of<T> v) {
  return ::atomicAdd(s.p + i, v);
}
template <class T>
PLUQ_DEVICE T max_of(T *at, T v) {
  if constexpr (std::is_same_v<T, float>) {  // order of the bits: as signed where positive,
                                             // reversed where negative
    return v >= 0.0F
               ? __int_as_float(::atomicMax(reinterpret_cast<int *>(at), __float_as_int(v)))
               : __uint_as_float(::atomicMin(reinterpret_cast<unsigned *>(at), __float_as_uint(v)));
  } else {
    return ::atomicMax(at, v);
  }
}
template <class T>
PLUQ_DEVICE T atomic_max(gmem<T> g, int64_t i, value_of<T> v) {
  return max_of(g.p + i, v);
}
template <class T>
PLUQ_DEVICE T atomic_max(smem<T> s, int64_t i, value_of<T> v) {
  return max_of(s.p + i, v);
}
template <class T>
PLUQ_DEVICE T atomic_cas(gmem<T> g, int64_t i, value_of<T> expected, value_of<T> v) {
  return ::atomicCAS(g.p + i, expected, v);
}
template <class T>
PLUQ_DEVICE T atomic_exch(gmem<T> g, int64_t i, value_of<T> v) {
  return ::atomicExch(g.p + i, v);
}
PLUQ_DEVICE void thread_fence() { __threadfence(); }
PLUQ_DEVICE void wait_equal(gmem<int32_t> flags, int64_t i, int32_t value) {
  int32_t seen;
  do {
    asm volatile("ld.global.acquire.gpu.b32 %0, [%1];" : "=r"(seen) : "l"(flags.p + i) : "memory");
  } while (seen != value);
}
PLUQ_DEVICE void release_add(gmem<int32_t> flags, int64_t i, int32_t v) {
  asm volatile("red.release.gpu.global.add.s32 [%0], %1;" ::"l"(flags.p + i), "r"(v) : "memory");
}
PLUQ_DEVICE void release_store(gmem<int32_t> flags, int64_t i, int32_t v) {
  asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(flags.p + i), "r"(v) : "memory");
}
#endif

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
