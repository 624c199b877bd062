// SPDX-License-Identifier: Apache-2.0
// What a tensor of scales beside an unpacked weight [N, K] means, told from its shape: one scale,
// one per part of a weight that was fused on disk (q, k, v), per row, per row and group of columns,
// or per block. Also which part of it a shard needs. Shared by fp8 and w8a8.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "pluq/plugin.hpp"
#include "pluq/shard.hpp"

namespace pluq {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  // Element i of a tensor of scales; F8_E8M0 is a power of two, 2^(code - 127).
  inline float scale_value(const Tensor& t, int64_t i) {
    if (t.dtype_id() != PLUQ_DTYPE_F8_E8M0) return t.real(i);
    return std::ldexp(1.0F, t.data()[i] - 127);
  }

  // Which scale belongs to which element of W, by the shape of the tensor of scales.
  class ScaleTable {
   public:
    // One for all, one per part of a fused tensor, one per row, one per block.
    enum class Kind { kTensor, kPart, kRow, kBlock };

    ScaleTable() = default;
    // block_n, block_k: rows and columns that share a scale as the configuration says, 0: it names
    // no blocks. A group of columns is a block of one row. Throws pluq::invalid when the shape fits
    // nothing.
    ScaleTable(const LayerDesc& layer, const Tensor& header, int64_t block_n, int64_t block_k)
        : suffix_(header.name()),
          dtype_id_(header.dtype_id()),
          shape_(header.shape()),
          block_n_(block_n),
          block_k_(block_k) {
      const int64_t n = layer.out_features, count = header.elements(),
                    parts = static_cast<int64_t>(layer.output_parts.size());
      const bool column = shape_.size() == 1 || (shape_.size() == 2 && shape_[1] == 1);
      if (block_n > 0 && shape_ == grid(layer)) {
        kind_ = Kind::kBlock;
      } else if (count == 1) {
        kind_ = Kind::kTensor;
      } else if (column && count == n) {
        kind_ = Kind::kRow;
      } else if (column && count == parts) {
        kind_ = Kind::kPart;
      } else {
        throw invalid("layer " + layer.name + ": " + suffix_ + " is " + header.text() +
                      ", expected " + expected(layer));
      }
    }

    Kind kind() const { return kind_; }  // by the shape
    // Scales of the whole layer.
    int64_t count() const {
      int64_t out = 1;
      for (const int64_t d : shape_) out *= d;
      return out;
    }
    int64_t block_n() const { return block_n_; }  // rows that share a scale; 0: no blocks
    int64_t block_k() const { return block_k_; }  // columns that share a scale; 0: no blocks
    // "tensor", "channel", "block 128x128", "g128"
    std::string text() const {
      switch (kind_) {
        case Kind::kTensor:
          return "tensor";
        case Kind::kPart:
          return "tensor per part";
        case Kind::kRow:
          return "channel";
        case Kind::kBlock:
          break;
      }
      if (block_n_ == 1) return "g" + std::to_string(block_k_);
      return "block " + std::to_string(block_n_) + "x" + std::to_string(block_k_);
    }

    // The tensor's spec with the box that this shard needs. A block that the shard shares with
    // another is in both.
    WeightSpec spec(const LayerDesc& layer) const {
      std::vector<shard::Range> box;
      if (kind_ == Kind::kRow) {
        box.push_back(shard::outputs(layer));
        if (shape_.size() == 2) box.push_back({0, 1});
      } else if (kind_ == Kind::kBlock) {
        box = {shard::runs(shard::outputs(layer), block_n_),
               shard::runs(shard::inputs(layer), block_k_)};
      }
      WeightSpec out = shard::spec(suffix_.c_str(), dtype_id_, shape_, box);
      out.sample = Sample::real(1e-3, 2e-3);
      if (dtype_id_ == PLUQ_DTYPE_F8_E8M0)
        out.sample = Sample::zeros();  // 2^-127: any code is a number
      out.output_dim = kind_ == Kind::kTensor || kind_ == Kind::kPart ? -1 : 0;
      out.input_dim = kind_ == Kind::kBlock ? 1 : -1;
      out.group_size = kind_ == Kind::kBlock ? block_k_ : 0;
      return out;
    }

    // Where the scale of the shard's row n and column k lies in the shard's tensor.
    int64_t index(const LayerDesc& layer, const Tensor& shard_tensor, int64_t n, int64_t k) const {
      switch (kind_) {
        case Kind::kTensor:
          return 0;
        case Kind::kPart:
          return part_of(layer, layer.out_begin + n);
        case Kind::kRow:
          return n;
        case Kind::kBlock:
          break;
      }
      const int64_t row = (layer.out_begin + n) / block_n_ - layer.out_begin / block_n_;
      const int64_t column = (layer.in_begin + k) / block_k_ - layer.in_begin / block_k_;
      return row * shard_tensor.dim(1) + column;
    }

   private:
    std::vector<int64_t> grid(const LayerDesc& layer) const {
      return {(layer.out_features + block_n_ - 1) / block_n_,
              (layer.in_features + block_k_ - 1) / block_k_};
    }
    std::string expected(const LayerDesc& layer) const {
      std::string out = "one scale, [N] or [N, 1] with N = " + std::to_string(layer.out_features);
      if (!layer.output_parts.empty())
        out += ", one for each of " + std::to_string(layer.output_parts.size()) + " parts";
      if (block_n_ > 0) {
        const std::vector<int64_t> g = grid(layer);
        return out + ", or [" + std::to_string(g[0]) + ", " + std::to_string(g[1]) +
               "] for blocks of " + std::to_string(block_n_) + "x" + std::to_string(block_k_);
      }
      return out + "; the config names no blocks or groups";
    }
    static int64_t part_of(const LayerDesc& layer, int64_t n) {
      int64_t end = 0;
      for (size_t p = 0; p < layer.output_parts.size(); ++p) {
        end += layer.output_parts[p];
        if (n < end) return static_cast<int64_t>(p);
      }
      throw invalid("layer " + layer.name + ": its parts have fewer rows than the layer");
    }

    std::string suffix_;
    uint32_t dtype_id_ = PLUQ_DTYPE_UNKNOWN;
    std::vector<int64_t> shape_;
    int64_t block_n_ = 0, block_k_ = 0;
    Kind kind_ = Kind::kTensor;
  };

}  // namespace )
}  // namespace pluq
