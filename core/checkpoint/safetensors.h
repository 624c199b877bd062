// SPDX-License-Identifier: Apache-2.0
// Reads one safetensors file by mmap. Layout:
//   u64 little-endian N <= 100,000,000 | N bytes of JSON, padded with spaces | data
//   header: {"NAME": {"dtype": D, "shape": [..], "data_offsets": [begin, end]}, ...,
//   "__metadata__": {string: string}}
// Refused: duplicate names, offsets that leave holes, overlap or do not reach the end of the file,
// sizes that differ from shape x dtype, trailing bytes. Accepted: misaligned data, empty and rank-0
// tensors.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "pluq/dtype.h"

namespace pluq {

// A read-only tensor in a mapped file. The data may have any alignment.
struct TensorView {
  std::string name;
  pluq_dtype dtype{};
  std::vector<int64_t> shape;
  std::span<const std::byte> data;

  int64_t elements() const {
    int64_t n = 1;
    for (const int64_t dim : shape) n *= dim;
    return n;
  }
};

struct SafetensorsFile {
  std::shared_ptr<const MappedFile> map;
  std::vector<TensorView> tensors;  // in file order
  std::vector<std::pair<std::string, std::string>> metadata;
};

// Throws Error(kInput) naming the file, the tensor and the rule.
SafetensorsFile read_safetensors(std::shared_ptr<const MappedFile> map);

}  // namespace pluq
