// SPDX-License-Identifier: Apache-2.0
// A checkpoint: all tensors of a model directory (HF layout, one or several safetensors shards) by
// name.
#pragma once

#include <boost/json/value.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "checkpoint/safetensors.h"

namespace pluq {

class GgufFile;

class Checkpoint {
 public:
  // path: a directory with model.safetensors.index.json, model.safetensors or one other
  // *.safetensors file, or a .gguf file, whose tensors then have HF's names and row order. Throws
  // Error(kInput) naming what is wrong and what was found.
  static std::shared_ptr<const Checkpoint> open(const std::string& path);

  const std::string& path() const { return path_; }
  bool is_gguf() const { return gguf_ != nullptr; }
  // What config.json would say of a GGUF file; null for a directory.
  const boost::json::value& gguf_config() const { return gguf_config_; }

  const std::vector<TensorView>& tensors() const { return tensors_; }  // sorted by name
  const TensorView* find(std::string_view name) const;
  // Throws Error(kInput) naming the checkpoint and similar names.
  const TensorView& at(std::string_view name) const;
  // All tensors whose name begins with prefix, in order of name.
  std::vector<const TensorView*> with_prefix(std::string_view prefix) const;
  uint64_t total_bytes() const;

 private:
  Checkpoint() = default;
  void add(SafetensorsFile file);
  void finish();

  std::string path_;
  std::vector<std::shared_ptr<const MappedFile>> maps_;
  std::shared_ptr<const GgufFile> gguf_;
  boost::json::value gguf_config_;
  std::vector<TensorView> tensors_;
  std::vector<std::vector<std::byte>> changed_;  // GGUF: tensors that HF stores in another way
};

}  // namespace pluq
