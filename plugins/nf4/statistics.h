// SPDX-License-Identifier: Apache-2.0
// The tensors of one bitsandbytes layer that say what its codes mean, read and checked once.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "pluq/plugin.hpp"

namespace nf4 {

struct Statistics {
  int64_t blocksize = 64, nested_blocksize = 256;
  float nested_offset = 0;
  bool nested = false;
  std::array<float, 16> map{};

  // The scale of a block; the tensors must be bound.
  float scale(int64_t block) const {
    if (!nested) return load(absmax_, block);
    const float product =
        load(nested_map_, absmax_[block]) * load(nested_absmax_, block / nested_blocksize);
    return product + nested_offset;
  }
  // Points at the data of these tensors, which must outlive the calls of scale.
  void bind(const pluq::Tensors& tensors) {
    absmax_ = tensors.at("weight.absmax").data();
    nested_map_ = nested ? tensors.at("weight.nested_quant_map").data() : nullptr;
    nested_absmax_ = nested ? tensors.at("weight.nested_absmax").data() : nullptr;
  }

 private:
  static float load(const uint8_t* data, int64_t i) {
    float value;
    std::memcpy(&value, data + i * 4, sizeof value);
    return value;
  }
  const uint8_t *absmax_ = nullptr, *nested_map_ = nullptr, *nested_absmax_ = nullptr;
};

// The suffix of the quant state among the layer's tensors, or empty.
std::string state_suffix(const pluq::Tensors& tensors);

// Reads them for a layer of `elements` weights. Throws pluq::invalid, with the layer's name, for
// what is missing or, with check_values, no finite number.
Statistics read_statistics(const std::string& layer, const pluq::Tensors& tensors, int64_t elements,
                           bool check_values);

}  // namespace nf4
