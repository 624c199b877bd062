// SPDX-License-Identifier: Apache-2.0
// NumPy .npy files of float32 matrices, little endian, C order (versions 1 to 3 of the format are
// read, 1 written).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace pluq {

struct Matrix {
  int64_t rows = 0, cols = 0;
  std::vector<float> data;  // [rows, cols]
};

// A two-dimensional float32 array. Throws Error(kInput) naming the file and what it holds instead.
Matrix read_npy(const std::string& path);

// Writes [rows, cols] durably (see write_file_durably).
void write_npy(const std::string& path, int64_t rows, int64_t cols, std::span<const float> data);

}  // namespace pluq
