// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/post_processor.h"

#include <string>
#include <utility>

#include "base/error.h"
#include "tokenizer/json_node.h"

namespace pluq {
namespace {

namespace json = boost::json;

constexpr std::string_view kSupported =
    "Sequence, TemplateProcessing, ByteLevel, BertProcessing, RobertaProcessing";

int32_t checked_id(const JsonNode& node, std::string_view key, const json::value& value,
                   int32_t end_id) {
  if (!value.is_int64() || value.get_int64() < 0 || value.get_int64() >= end_id) {
    fail_input("{}: {} holds {}, it must hold token ids from 0 to {}", node.file(), node.place(key),
               printable(json::serialize(value)), end_id - 1);
  }
  return static_cast<int32_t>(value.get_int64());
}

// "sep": ["</s>", 2]
int32_t id_of_pair(const JsonNode& node, std::string_view key, int32_t end_id) {
  const json::array& pair = node.array(key);
  if (pair.size() != 2) node.wrong(key, "an array of a token and its id");
  return checked_id(node, key, pair[1], end_id);
}

PostProcessor from_template(const JsonNode& node, int32_t end_id) {
  constexpr size_t kMaxAdded = 4096;
  PostProcessor out;
  bool seen_text = false;
  for (const JsonNode& item : node.children("single")) {
    if (item.has("Sequence")) {
      if (seen_text || item.child("Sequence").string("id") != "A") {
        node.wrong("single", "a template that holds the sequence 'A' once");
      }
      seen_text = true;
      continue;
    }
    const std::string name = item.child("SpecialToken").string("id");
    const JsonNode special = node.child("special_tokens").child(name);
    for (const json::value& id : special.array("ids")) {
      (seen_text ? out.after : out.before).push_back(checked_id(special, "ids", id, end_id));
    }
    if (out.before.size() + out.after.size() > kMaxAdded) {
      node.wrong("single", fmt::format("a template of at most {} special tokens", kMaxAdded));
    }
  }
  if (!seen_text) node.wrong("single", "a template that holds the sequence 'A' once");
  return out;
}

}  // namespace

PostProcessor PostProcessor::from_json(const JsonNode& node, int32_t end_id) {
  const std::string type = node.string("type");
  if (type == "ByteLevel") return {};  // adjusts offsets only
  if (type == "TemplateProcessing") return from_template(node, end_id);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    return {{id_of_pair(node, "cls", end_id)}, {id_of_pair(node, "sep", end_id)}};
  }
  if (type == "Sequence") {
    PostProcessor out;
    for (const JsonNode& part : node.children("processors")) {
      PostProcessor next = from_json(part, end_id);
      const bool adds = !next.before.empty() || !next.after.empty();
      if (!adds) continue;
      // The tokenizers package hands the tokens of the first one to the second as if they were a
      // text of their own.
      if (!out.before.empty() || !out.after.empty()) {
        node.wrong("processors", "processors of which at most one adds tokens");
      }
      out = std::move(next);
    }
    return out;
  }
  node.unsupported("post-processor", type, kSupported);
}

}  // namespace pluq
