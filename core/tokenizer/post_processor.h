// SPDX-License-Identifier: Apache-2.0
// The "post_processor" of a tokenizer file, reduced to what it does to one sequence of ids: special
// tokens before and after it.
#pragma once

#include <cstdint>
#include <vector>

namespace pluq {

class JsonNode;

struct PostProcessor {
  std::vector<int32_t> before;
  std::vector<int32_t> after;

  // Sequence, TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing. Throws
  // Error(kInput). ids must lie below end_id.
  static PostProcessor from_json(const JsonNode& node, int32_t end_id);
};

}  // namespace pluq
