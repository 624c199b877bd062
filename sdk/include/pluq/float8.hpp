// SPDX-License-Identifier: Apache-2.0
// 8-bit floats, one value at a time: the truth for every kernel. Header-only C++17, no
// dependencies.
//            e4m3fn                        e5m2
//   bias     7                             15
//   largest  448 (0x7e)                    57344 (0x7b)
//   specials NaN 0x7f, 0xff; no infinity   infinity 0x7c, 0xfc; NaN 0x7d-0x7f, 0xfd-0xff
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace pluq {
namespace float8 {

// The value of an e4m3fn byte; NaN for 0x7f and 0xff.
inline float from_e4m3(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  float value;
  if (exponent == 15 && mantissa == 7) {
    value = std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<float>(mantissa), -9);
  } else {
    value = std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  }
  return (code & 0x80) != 0 ? -value : value;
}

// The value of an e5m2 byte.
inline float from_e5m2(uint8_t code) {
  const int exponent = code >> 2 & 31, mantissa = code & 3;
  float value;
  if (exponent == 31) {
    value = mantissa == 0 ? std::numeric_limits<float>::infinity()
                          : std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<float>(mantissa), -16);
  } else {
    value = std::ldexp(static_cast<float>(4 + mantissa), exponent - 17);
  }
  return (code & 0x80) != 0 ? -value : value;
}

// To nearest even, saturating at +-448; NaN to 0x7f.
inline uint8_t to_e4m3(float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return 0x7f;
  const float magnitude = std::fmin(std::fabs(value), 448.0F);
  if (magnitude < 0x1.0p-6F) {  // subnormal: multiples of 2^-9; rounding up gives the first normal
    return static_cast<uint8_t>(sign | static_cast<uint8_t>(std::nearbyint(magnitude * 512.0F)));
  }
  int exponent = 0;
  const float fraction = std::frexp(magnitude, &exponent);  // in [0.5, 1)
  int mantissa = static_cast<int>(std::nearbyint(fraction * 16.0F)) - 8;
  exponent += 6;
  if (mantissa == 8) {
    mantissa = 0;
    ++exponent;
  }
  return static_cast<uint8_t>(sign | exponent << 3 | mantissa);
}

}  // namespace float8
}  // namespace pluq
