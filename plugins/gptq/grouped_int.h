// SPDX-License-Identifier: Apache-2.0
// What both layouts of format gptq share: groups, the order of columns, zero points in common, the
// description.
#pragma once

#include <string>
#include <vector>

#include "gptq/method.h"
#include "pluq/cpu/int_linear.hpp"
#include "pluq/cpu/tables.hpp"

namespace gptq {

class GroupedInt : public pluq::cpu::IntLinear {
 public:
  // order_name: the tensor that may hold each column's group.
  GroupedInt(const pluq::LayerDesc& layer, const pluq::Device& device, const Settings& settings,
             const char* order_name);
  pluq::MethodInfo describe() const override;

 protected:
  std::vector<int32_t> column_groups(const pluq::Tensors& tensors) const override;
  // Fills g_idx_, or leaves it empty when the columns lie in order. required: without the tensor
  // the layer cannot be read.
  void settle_order(const pluq::Tensors& tensors, bool required);
  // The spec of the order's tensor, [K].
  pluq::WeightSpec order_spec() const;

  bool has_order_tensor() const { return layer().tensors.has(order_name_); }
  int64_t file_groups() const { return file_groups_; }
  // Groups that the shard's tensors hold: all of them when columns may lie in any order.
  pluq::shard::Range group_range() const { return {group_begin_, group_begin_ + num_groups_}; }

  const Settings settings_;

 private:
  bool orders(const pluq::Tensor& t) const;
  const char* order_name_;
  int64_t file_groups_;
};

}  // namespace gptq
