// SPDX-License-Identifier: Apache-2.0
// Boxes of split layers: which part of a packed or grouped tensor a shard needs. Every range is in
// elements as stored; a shard that is no box is refused here, with the multiples that would do.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "pluq/plugin.hpp"

namespace pluq {
namespace shard {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  // Elements [begin, end) of one dimension.
  struct Range {
    int64_t begin, end;                           // first, and one past the last
    int64_t size() const { return end - begin; }  // how many
  };

  // Columns (K) of the whole layer that this shard has.
  inline Range inputs(const LayerDesc& l) { return {l.in_begin, l.in_end}; }
  // Rows (N) of the whole layer that this shard has.
  inline Range outputs(const LayerDesc& l) { return {l.out_begin, l.out_end}; }
  // Whether the shard lacks columns.
  inline bool splits_inputs(const LayerDesc& l) {
    return l.in_begin != 0 || l.in_end != l.in_features;
  }
  // Whether the shard lacks rows.
  inline bool splits_outputs(const LayerDesc& l) {
    return l.out_begin != 0 || l.out_end != l.out_features;
  }

  // Refuses a range that begins or ends inside a run of `unit` of them; the layer's own end always
  // fits.
  inline void need_multiple(const LayerDesc& l, Range r, int64_t full, int64_t unit,
                            const char* what) {
    if (r.begin % unit == 0 && (r.end % unit == 0 || r.end == full)) return;
    throw unsupported(
        format("layer %s: a shard of %s %lld to %lld; they are stored in runs of %lld, so it must "
               "begin and end at a multiple",
               l.name.c_str(), what, static_cast<long long>(r.begin), static_cast<long long>(r.end),
               static_cast<long long>(unit)));
  }

  // The runs of `size` (-1: one run of all) that a range touches.
  inline Range runs(Range r, int64_t size) {
    if (size < 0) return {0, 1};
    return {r.begin / size, (r.end + size - 1) / size};
  }

  // The words of a bit stream, or of words with dead bits (per_word codes each), that hold codes
  // [begin, end) of it.
  inline Range stream_words(Range r, int bits) {
    return {r.begin * bits / 32, (r.end * bits + 31) / 32};
  }
  // Codes after which a bit stream of 32-bit words is back at a word's first bit.
  inline int64_t stream_unit(int bits) { return 32 % bits == 0 ? 32 / bits : 32; }

  // A spec of a tensor of which the shard needs one range per dimension.
  inline WeightSpec spec(const char* suffix, uint32_t dtype_id, std::vector<int64_t> shape,
                         const std::vector<Range>& box) {
    WeightSpec s;
    s.suffix = suffix;
    s.dtype_id = dtype_id;
    s.shape = std::move(shape);
    for (const Range& r : box) {
      s.box_begin.push_back(r.begin);
      s.box_end.push_back(r.end);
    }
    return s;
  }

}  // namespace )
}  // namespace shard
}  // namespace pluq
