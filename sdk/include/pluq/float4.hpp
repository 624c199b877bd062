// SPDX-License-Identifier: Apache-2.0
// 4-bit floats and their power-of-two scales, one value at a time: the truth for every kernel.
// Header-only C++17, no dependencies. Sources: OCP Microscaling Formats 1.0 (e2m1, e8m0).
//   e2m1   s ee m, bias 1, no infinity, no NaN     0 .5 1 1.5 2 3 4 6 and their negatives (bit 3)
//   e8m0   an exponent of bias 127, 2^(code - 127); 0xff is NaN
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace pluq {
namespace float4 {

// Twice the value, an integer from -12 to 12; code is taken modulo 16.
inline int doubled(unsigned code) {
  constexpr int magnitudes[8] = {0, 1, 2, 3, 4, 6, 8, 12};
  const int m = magnitudes[code & 7];
  return (code & 8) != 0 ? -m : m;
}

// The value of a code of 4 bits.
inline float from_e2m1(unsigned code) {
  const float magnitude = static_cast<float>(doubled(code & 7)) * 0.5F;
  return (code & 8) != 0 ? -magnitude : magnitude;
}

// To nearest, the middle to the even code; beyond 6 to 6. A value that is no number becomes 0.
inline uint8_t to_e2m1(float value) {
  const float m = std::fabs(value);
  uint8_t code = 0;
  if (m > 5.0F) {
    code = 7;
  } else if (m >= 3.5F) {
    code = 6;
  } else if (m > 2.5F) {
    code = 5;
  } else if (m >= 1.75F) {
    code = 4;
  } else if (m > 1.25F) {
    code = 3;
  } else if (m >= 0.75F) {
    code = 2;
  } else if (m > 0.25F) {
    code = 1;
  }
  return static_cast<uint8_t>(code | (std::signbit(value) ? 8 : 0));
}

// 2^(code - 127); NaN for 255.
inline float from_e8m0(uint8_t code) {
  if (code == 0xff) return std::numeric_limits<float>::quiet_NaN();
  return std::ldexp(1.0F, static_cast<int>(code) - 127);
}

}  // namespace float4
}  // namespace pluq
