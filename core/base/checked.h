// SPDX-License-Identifier: Apache-2.0
// Checked arithmetic for every number that comes from a file or a request. Overflow is an input
// error that names what was computed; raw + and * on such numbers are not allowed outside this
// header.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/error.h"

namespace pluq {

template <std::integral T>
T checked_add(T a, std::type_identity_t<T> b, std::string_view what) {
  T out;
  if (__builtin_add_overflow(a, b, &out)) fail_input("{}: {} + {} overflows", what, a, b);
  return out;
}

template <std::integral T>
T checked_mul(T a, std::type_identity_t<T> b, std::string_view what) {
  T out;
  if (__builtin_mul_overflow(a, b, &out)) fail_input("{}: {} * {} overflows", what, a, b);
  return out;
}

// `value` as a To, or an input error when it does not fit.
template <std::integral To, std::integral From>
To checked_cast(From value, std::string_view what) {
  if (!std::in_range<To>(value)) fail_input("{}: {} is out of range", what, value);
  return static_cast<To>(value);
}

// The smallest multiple of `alignment` (a power of two) that is >= value.
inline uint64_t checked_align_up(uint64_t value, uint64_t alignment, std::string_view what) {
  if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
    fail_input("{}: alignment {} is not a power of two", what, alignment);
  }
  return checked_add(value, alignment - 1, what) & ~(alignment - 1);
}

constexpr int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

}  // namespace pluq
