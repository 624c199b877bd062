// SPDX-License-Identifier: Apache-2.0
#include "gptq/grouped_int.h"

namespace gptq {

using namespace pluq;

GroupedInt::GroupedInt(const LayerDesc& layer, const Device& device, const Settings& settings,
                       const char* order_name)
    : IntLinear(layer, device, cpu::int_tables()), settings_(settings), order_name_(order_name) {
  bits_ = settings.bits;
  group_size_ = settings.group_size;
  file_groups_ = shard::runs({0, layer.in_features}, group_size_).end;
  column_begin_ = layer.in_begin;
  // With an order tensor any column may belong to any group, so a shard of K needs all scales.
  const shard::Range groups = has_order_tensor() ? shard::Range{0, file_groups_}
                                                 : shard::runs(shard::inputs(layer), group_size_);
  group_begin_ = groups.begin;
  num_groups_ = groups.size();
  zero_constant_ = 1 << (bits_ - 1);
  zero_kind_ = settings.sym ? cpu::IntZeroKind::kConstant : cpu::IntZeroKind::kInteger;
  choose_activation(settings.inputs);
}

MethodInfo GroupedInt::describe() const {
  MethodInfo info;
  const std::string group =
      settings_.group_size < 0 ? "channel" : "g" + std::to_string(settings_.group_size);
  info.scheme = "int" + std::to_string(bits_) + " " + group + (settings_.sym ? " sym" : " asym") +
                (settings_.desc_act ? " act-order" : "");
  describe_arithmetic(&info);
  const double per_group =
      static_cast<double>(layer().in_features) / static_cast<double>(file_groups_);
  info.bits_per_weight = bits_ + (16.0 + (settings_.sym ? 0 : bits_)) / per_group;
  return info;
}

std::vector<int32_t> GroupedInt::column_groups(const Tensors& tensors) const {
  std::vector<int32_t> out = natural_groups(group_size_);
  const Tensor* order = tensors.find(order_name_);
  if (order == nullptr || !orders(*order)) return out;
  for (size_t k = 0; k < out.size(); ++k) {
    out[k] = order->load<int32_t>(static_cast<int64_t>(k));
    if (out[k] < 0 || out[k] >= num_groups_) {
      throw invalid(format("layer %s: %s[%zu] is %d, expected 0 to %lld", layer().name.c_str(),
                           order_name_, k, out[k], static_cast<long long>(num_groups_ - 1)));
    }
  }
  return out;
}

// A g_idx that says k / group_size, or only zeros or -1, orders nothing, whatever the
// configuration's flags say.
bool GroupedInt::orders(const Tensor& t) const {
  if (t.data() == nullptr || t.elements() == 0) return false;
  bool natural = true, uniform = true;
  const int32_t first = t.load<int32_t>(0);
  for (int64_t k = 0; k < t.elements(); ++k) {
    const int32_t g = t.load<int32_t>(k);
    natural = natural && g == (group_size_ < 0 ? 0 : (column_begin_ + k) / group_size_);
    uniform = uniform && g == first;
  }
  // A short shard of an ordered layer may lie in one group; only a whole layer of zeros says
  // nothing.
  return !natural && !(uniform && (first == -1 || (first == 0 && !shard::splits_inputs(layer()))));
}

void GroupedInt::settle_order(const Tensors& tensors, bool required) {
  g_idx_.clear();
  const Tensor* t = tensors.find(order_name_);
  if (t == nullptr && required && settings_.desc_act && group_size_ > 0) {
    throw invalid("layer " + layer().name + ": the config says desc_act, but tensor '" +
                  order_name_ + "' is missing");
  }
  if (t != nullptr && orders(*t)) g_idx_ = column_groups(tensors);
}

WeightSpec GroupedInt::order_spec() const {
  const int64_t k = layer().in_features;
  WeightSpec s = shard::spec(order_name_, PLUQ_DTYPE_I32, {k}, {shard::inputs(layer())});
  s.sample = Sample::index(file_groups_, group_size_ < 0 ? k : group_size_);
  s.input_dim = 0;
  return s;
}

}  // namespace gptq
