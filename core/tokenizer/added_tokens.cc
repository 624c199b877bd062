// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "tokenizer/json_node.h"
#include "tokenizer/unicode.h"

namespace pluq {
namespace {

constexpr size_t kMaxContent = 1024;  // bytes; bounds the work per byte of text
constexpr int64_t kMaxId = (int64_t{1} << 24) - 1;

}  // namespace

AddedTokens::Matcher::Matcher() : nodes_(1), first_(256, 0) {}

uint32_t AddedTokens::Matcher::child(uint32_t node, unsigned char byte) const {
  if (node == 0) return first_[byte];
  const auto& next = nodes_[node].next;
  const auto it =
      std::lower_bound(next.begin(), next.end(), byte,
                       [](const auto& entry, unsigned char b) { return entry.first < b; });
  return it != next.end() && it->first == byte ? it->second : 0;
}

void AddedTokens::Matcher::add(std::string_view content, size_t token) {
  uint32_t node = 0;
  for (const char c : content) {
    const auto byte = static_cast<unsigned char>(c);
    uint32_t to = child(node, byte);
    if (to == 0) {
      to = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      if (node == 0) {
        first_[byte] = to;
      } else {
        auto& next = nodes_[node].next;
        next.insert(std::lower_bound(next.begin(), next.end(), std::make_pair(byte, uint32_t{0})),
                    {byte, to});
      }
    }
    node = to;
  }
  if (node != 0 && nodes_[node].token == kNoToken) nodes_[node].token = token;
}

std::optional<AddedTokens::Matcher::Match> AddedTokens::Matcher::find(std::string_view text,
                                                                      size_t from) const {
  for (size_t begin = from; begin < text.size(); ++begin) {
    uint32_t node = first_[static_cast<unsigned char>(text[begin])];
    std::optional<Match> best;
    for (size_t pos = begin + 1; node != 0; ++pos) {
      if (nodes_[node].token != kNoToken) best = Match{begin, pos, nodes_[node].token};
      if (pos == text.size()) break;
      node = child(node, static_cast<unsigned char>(text[pos]));
    }
    if (best) return best;
  }
  return std::nullopt;
}

AddedTokens::AddedTokens(const JsonNode& document, const BpeModel& model,
                         const Normalizer* normalizer) {
  if (!document.has("added_tokens")) return;
  for (const JsonNode& node : document.children("added_tokens")) {
    AddedToken token;
    token.content = node.string("content");
    token.id = static_cast<int32_t>(node.integer("id", 0, kMaxId));
    token.single_word = node.boolean_or("single_word", false);
    token.lstrip = node.boolean_or("lstrip", false);
    token.rstrip = node.boolean_or("rstrip", false);
    token.special = node.boolean_or("special", false);
    token.normalized = node.boolean_or("normalized", !token.special);
    if (token.content.empty()) continue;  // matches nothing
    if (token.content.size() > kMaxContent) {
      node.wrong("content", fmt::format("a string of at most {} bytes", kMaxContent));
    }
    if (const auto known = model.token_to_id(token.content)) {
      token.id = *known;
    } else if (const std::string* other = model.id_to_token(token.id)) {
      fail_input("{}: {} is {}, which the vocabulary gives to '{}'; ids must be unique",
                 node.file(), node.place("id"), token.id, printable(*other));
    }
    if (by_content_.contains(token.content)) continue;  // the first one counts
    if (const auto it = by_id_.find(token.id); it != by_id_.end()) {
      fail_input("{}: {} is {}, which '{}' has already; ids must be unique", node.file(),
                 node.place("id"), token.id, printable(tokens_[it->second].content));
    }
    by_content_.emplace(token.content, tokens_.size());
    by_id_.emplace(token.id, tokens_.size());
    end_id_ = std::max(end_id_, token.id + 1);
    tokens_.push_back(std::move(token));
  }
  for (size_t i = 0; i < tokens_.size(); ++i) {
    tokens_[i].decoded = tokens_[i].content;
    if (!tokens_[i].normalized) {
      raw_.add(tokens_[i].content, i);
      continue;
    }
    NormalText text{tokens_[i].content, false};
    if (normalizer != nullptr) normalizer->apply(text);
    if (text.text.size() > 4 * kMaxContent) {
      fail_input(
          "{}: the added token '{}' is {} bytes long after normalization, at most {} are accepted",
          document.file(), printable(tokens_[i].content), text.text.size(), 4 * kMaxContent);
    }
    normalized_.add(text.text, i);
    tokens_[i].decoded = std::move(text.text);
  }
}

const AddedToken* AddedTokens::by_content(std::string_view content) const {
  const auto it = by_content_.find(content);
  return it == by_content_.end() ? nullptr : &tokens_[it->second];
}

const AddedToken* AddedTokens::by_id(int32_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : &tokens_[it->second];
}

std::vector<TextPiece> AddedTokens::cut(const Matcher& matcher, std::string_view text) const {
  std::vector<TextPiece> pieces;
  size_t done = 0;
  size_t space_begin = 0;  // the last run of white space scanned to the right: each is read once
  size_t space_end = 0;
  size_t from = 0;
  while (!matcher.empty()) {
    const auto match = matcher.find(text, from);
    if (!match) break;
    from = match->end;
    size_t begin = match->begin;
    size_t end = match->end;
    const AddedToken& token = tokens_[match->token];
    if (token.single_word) {
      size_t before = begin;
      size_t after = end;
      if ((begin > 0 && is_word(previous_char(text, before))) ||
          (end < text.size() && is_word(next_char(text, after)))) {
        continue;
      }
    }
    if (token.lstrip) {
      while (begin > done) {
        size_t before = begin;
        if (!is_space(previous_char(text, before))) break;
        begin = before;
      }
    }
    if (token.rstrip) {
      if (end < space_begin || end >= space_end) {
        space_begin = space_end = end;
        while (space_end < text.size()) {
          size_t after = space_end;
          if (!is_space(next_char(text, after))) break;
          space_end = after;
        }
      }
      end = space_end;
    }
    if (done < begin) pieces.push_back({done, begin, std::nullopt});
    pieces.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) pieces.push_back({done, text.size(), std::nullopt});
  return pieces;
}

}  // namespace pluq
