// SPDX-License-Identifier: Apache-2.0
// Writes a model directory in HF layout: safetensors shards, an index when there are several, and
// small files. Nothing bears its final name before everything is on disk; a writer that is
// destroyed unfinished leaves nothing behind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pluq/dtype.h"

namespace pluq {

class ModelWriter {
 public:
  // The directory is created. Throws Error(kUsage) when it is not empty or is `input` itself.
  ModelWriter(std::string directory, const std::string& input,
              uint64_t max_shard_bytes = uint64_t{4} << 30);
  ~ModelWriter();
  ModelWriter(const ModelWriter&) = delete;
  ModelWriter& operator=(const ModelWriter&) = delete;

  // All tensors are declared before open(). Throws Error(kInput) for a name declared twice.
  void declare(const std::string& name, const pluq_dtype& dtype, std::vector<int64_t> shape);
  // Lays out the shards and makes room on disk. Throws Error(kFailed) with the numbers when there
  // is not enough.
  void open();

  // Rows [row_begin, row_end) along dimension 0 (a rank-0 tensor has one row), as stored. Any
  // order, any thread; every byte exactly once. Throws Error(kFailed) naming file and reason,
  // Error(kPlugin) for rows outside the tensor.
  void write(std::string_view name, int64_t row_begin, int64_t row_end,
             std::span<const std::byte> data);

  // A small file beside the tensors.
  void add_file(const std::string& name, std::string_view content);

  // Checks that every tensor is complete, syncs, and gives all files their names. Throws Error.
  void finish();

  uint64_t total_bytes() const { return total_; }

 private:
  struct Tensor;
  struct Shard;
  void give_up();

  std::string directory_;
  uint64_t max_shard_;
  uint64_t total_ = 0;
  bool created_ = false, finished_ = false;
  std::vector<Tensor> tensors_;
  std::vector<Shard> shards_;
  std::map<std::string, size_t, std::less<>> index_;
  std::vector<std::string> files_;  // small files, under their temporary names
  std::vector<std::string> named_;  // what has its final name already
};

}  // namespace pluq
