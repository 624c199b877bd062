// SPDX-License-Identifier: Apache-2.0
// The three code tables of bitsandbytes. Source: bitsandbytes/functional.py (create_dynamic_map,
// get_4bit_type) and the constants of its kernels.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace nf4 {

// Values of the 16 codes.
extern const std::array<float, 16> kNf4, kFp4;

// The 256 values that nested statistics are rounded to, ascending from about -1 to 1: seven
// decades, the i-th with 2^i steps, then 0 and 1.
std::vector<float> dynamic_map();

// The index of the value nearest to x in an ascending table; the middle goes down.
int nearest(const std::vector<float>& table, float x);

}  // namespace nf4
