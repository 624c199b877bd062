// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/bpe.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/error.h"
#include "tokenizer/json_node.h"
#include "tokenizer/unicode.h"

namespace pluq {
namespace {

namespace json = boost::json;

constexpr uint32_t kNone = 0xFFFFFFFFu;
constexpr char32_t kCharTable = 0x3000;
constexpr int64_t kMaxId = (int64_t{1} << 24) - 1;  // far above any vocabulary; bounds the id table
constexpr size_t kMaxCachedWord = 48;               // bytes
constexpr size_t kMaxCachedWords = size_t{1} << 15;

uint64_t pair_key(int32_t left, int32_t right) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
}

size_t hash_pair(uint64_t key) {
  key ^= key >> 33;
  key *= 0xff51afd7ed558ccdULL;
  key ^= key >> 33;
  key *= 0xc4ceb9fe1a85ec53ULL;
  return static_cast<size_t>(key ^ (key >> 33));
}

// The two halves of one entry of "merges": "a b" or ["a", "b"].
std::pair<std::string_view, std::string_view> merge_halves(const JsonNode& node,
                                                           const json::value& entry, size_t index) {
  if (const json::array* pair = entry.if_array()) {
    if (pair->size() == 2 && (*pair)[0].is_string() && (*pair)[1].is_string()) {
      return {(*pair)[0].get_string(), (*pair)[1].get_string()};
    }
  } else if (const json::string* text = entry.if_string()) {
    const std::string_view line(text->data(), text->size());
    const size_t space = line.find(' ');
    if (space != std::string_view::npos && line.find(' ', space + 1) == std::string_view::npos) {
      return {line.substr(0, space), line.substr(space + 1)};
    }
  }
  fail_input(
      "{}: {}[{}] is {}, it must be a string of two tokens with one space between or an array of "
      "two strings",
      node.file(), node.place("merges"), index, printable(json::serialize(entry)));
}

}  // namespace

BpeModel::BpeModel(const JsonNode& node) {
  const std::string type = node.string_or("type", "BPE");
  if (type != "BPE") node.unsupported("model", type, "BPE");
  if (const json::value* dropout = node.find("dropout");
      dropout != nullptr && !(dropout->is_number() && dropout->to_number<double>() == 0.0)) {
    node.wrong("dropout", "null or 0: random tokenization is not supported");
  }
  subword_prefix_ = node.string_or("continuing_subword_prefix", "");
  word_suffix_ = node.string_or("end_of_word_suffix", "");
  fuse_unk_ = node.boolean_or("fuse_unk", false);
  byte_fallback_ = node.boolean_or("byte_fallback", false);
  ignore_merges_ = node.boolean_or("ignore_merges", false);
  read_vocabulary(node);
  read_merges(node);
  if (node.has("unk_token")) {
    unk_ = token_to_id(node.string("unk_token"));
    if (!unk_) node.wrong("unk_token", "null or a token of the vocabulary");
  }
}

void BpeModel::read_vocabulary(const JsonNode& node) {
  const JsonNode vocab = node.child("vocab");
  ids_.reserve(vocab.object().size());
  for (const auto& entry : vocab.object()) {
    const std::string_view token = entry.key();
    const json::value& value = entry.value();
    if (!value.is_int64() || value.get_int64() < 0 || value.get_int64() > kMaxId) {
      fail_input("{}: {}['{}'] is {}, it must be an integer from 0 to {}", node.file(),
                 node.place("vocab"), printable(token), printable(json::serialize(value)), kMaxId);
    }
    const auto id = static_cast<int32_t>(value.get_int64());
    if (static_cast<size_t>(id) >= tokens_.size())
      tokens_.resize(static_cast<size_t>(id) + 1, nullptr);
    const auto [it, inserted] = ids_.emplace(std::string(token), id);
    if (!inserted) continue;  // the JSON reader has refused equal keys
    if (tokens_[static_cast<size_t>(id)] != nullptr) {
      fail_input("{}: {} gives the id {} to both '{}' and '{}', ids must be unique", node.file(),
                 node.place("vocab"), id, printable(*tokens_[static_cast<size_t>(id)]),
                 printable(token));
    }
    tokens_[static_cast<size_t>(id)] = &it->first;
  }
  char_ids_.assign(kCharTable, -1);
  for (const auto& [token, id] : ids_) {
    if (token.empty() || token.size() > 3 || !is_valid_utf8(token)) continue;
    size_t pos = 0;
    const char32_t c = next_char(token, pos);
    if (pos == token.size() && c < kCharTable) char_ids_[c] = id;
  }
  byte_ids_.assign(256, -1);
  for (size_t byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = token_to_id(fmt::format("<0x{:02X}>", byte)).value_or(-1);
  }
}

void BpeModel::read_merges(const JsonNode& node) {
  const json::array& entries = node.array("merges");
  size_t capacity = 16;
  while (capacity < entries.size() * 2) capacity *= 2;
  merges_.assign(capacity, Merge{});
  uint32_t rank = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].is_string() && std::string_view(entries[i].get_string()).starts_with("#version"))
      continue;
    const auto [left, right] = merge_halves(node, entries[i], i);
    if (!right.starts_with(subword_prefix_)) {
      fail_input("{}: {}[{}] merges '{}', which must start with the continuing_subword_prefix '{}'",
                 node.file(), node.place("merges"), i, printable(right),
                 printable(subword_prefix_));
    }
    const std::string joined = std::string(left).append(right.substr(subword_prefix_.size()));
    const auto need = [&](std::string_view token) {
      const auto id = token_to_id(token);
      if (!id) {
        fail_input("{}: {}[{}] needs the token '{}', which is not in {}", node.file(),
                   node.place("merges"), i, printable(token), node.place("vocab"));
      }
      return *id;
    };
    const int32_t left_id = need(left);
    const int32_t right_id = need(right);
    insert_merge(left_id, right_id, rank++, need(joined));
  }
}

void BpeModel::insert_merge(int32_t left, int32_t right, uint32_t rank, int32_t merged) {
  const uint64_t key = pair_key(left, right);
  const size_t mask = merges_.size() - 1;
  size_t slot = hash_pair(key) & mask;
  while (merges_[slot].pair != kNoPair && merges_[slot].pair != key) slot = (slot + 1) & mask;
  merges_[slot] = {key, rank,
                   merged};  // a repeated pair: the last one counts, as in the tokenizers package
}

const BpeModel::Merge* BpeModel::find_merge(int32_t left, int32_t right) const {
  const uint64_t key = pair_key(left, right);
  const size_t mask = merges_.size() - 1;
  for (size_t slot = hash_pair(key) & mask; merges_[slot].pair != kNoPair;
       slot = (slot + 1) & mask) {
    if (merges_[slot].pair == key) return &merges_[slot];
  }
  return nullptr;
}

std::optional<int32_t> BpeModel::token_to_id(std::string_view token) const {
  const auto it = ids_.find(token);
  return it == ids_.end() ? std::nullopt : std::optional<int32_t>(it->second);
}

const std::string* BpeModel::id_to_token(int32_t id) const {
  return id < 0 || static_cast<size_t>(id) >= tokens_.size() ? nullptr
                                                             : tokens_[static_cast<size_t>(id)];
}

bool BpeModel::push_byte_tokens(std::string_view bytes,
                                std::vector<Scratch::Symbol>& symbols) const {
  for (const char c : bytes) {
    if (byte_ids_[static_cast<unsigned char>(c)] < 0) return false;
  }
  for (const char c : bytes)
    symbols.push_back({byte_ids_[static_cast<unsigned char>(c)], 0, 0, true});
  return true;
}

// One symbol per character, byte tokens or unk for unknown ones. A pending unk is written only
// before the next known character, so byte tokens can overtake it: the order of the tokenizers
// package.
void BpeModel::first_symbols(std::string_view word, std::vector<Scratch::Symbol>& symbols) const {
  symbols.clear();
  const bool decorated = !subword_prefix_.empty() || !word_suffix_.empty();
  bool pending_unk = false;
  std::string dressed;
  for (size_t pos = 0; pos < word.size();) {
    const size_t begin = pos;
    const char32_t c = next_char(word, pos);
    std::string_view text = word.substr(begin, pos - begin);
    int32_t id = -1;
    if (decorated) {
      dressed.clear();
      if (begin > 0) dressed += subword_prefix_;
      dressed += text;
      if (pos == word.size()) dressed += word_suffix_;
      text = dressed;
      id = token_to_id(text).value_or(-1);
    } else {
      id = c < kCharTable ? char_ids_[c] : token_to_id(text).value_or(-1);
    }
    if (id >= 0) {
      if (pending_unk) symbols.push_back({*unk_, 0, 0, true});
      pending_unk = false;
      symbols.push_back({id, 0, 0, true});
      continue;
    }
    if (byte_fallback_ && push_byte_tokens(text, symbols)) continue;
    if (!unk_) continue;  // no way to write it: dropped
    if (pending_unk && !fuse_unk_) symbols.push_back({*unk_, 0, 0, true});
    pending_unk = true;
  }
  if (pending_unk) symbols.push_back({*unk_, 0, 0, true});
  for (size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = i == 0 ? kNone : static_cast<uint32_t>(i - 1);
    symbols[i].next = i + 1 == symbols.size() ? kNone : static_cast<uint32_t>(i + 1);
  }
}

// Merges the pair of lowest rank, leftmost first, until none is left. Places go stale when a
// neighbour merges; such a one is dropped when it surfaces. Places of one rank mostly arrive from
// left to right, so buckets read in order replace one large heap, whose cache misses dominate on
// words of megabytes.
void BpeModel::merge_symbols(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& buckets = scratch.buckets;
  buckets.clear();
  const auto consider = [&](uint32_t left) {
    const uint32_t right = symbols[left].next;
    if (right == kNone) return;
    const Merge* merge = find_merge(symbols[left].id, symbols[right].id);
    if (merge == nullptr) return;
    const uint64_t place = pair_key(static_cast<int32_t>(left), merge->merged);
    Scratch::Bucket& bucket = buckets[merge->rank];
    if (bucket.next > 0) {
      bucket.late.push_back(place);
      std::push_heap(bucket.late.begin(), bucket.late.end(), std::greater<>());
      return;
    }
    bucket.sorted = bucket.sorted && (bucket.places.empty() || bucket.places.back() <= place);
    bucket.places.push_back(place);
  };
  for (uint32_t i = 0; i + 1 < symbols.size(); ++i) consider(i);
  while (!buckets.empty()) {
    Scratch::Bucket& bucket = buckets.begin()->second;
    if (!bucket.sorted) std::sort(bucket.places.begin(), bucket.places.end());
    bucket.sorted = true;
    const bool more = bucket.next < bucket.places.size();
    if (!more && bucket.late.empty()) {
      buckets.erase(buckets.begin());
      continue;
    }
    uint64_t place;
    if (!bucket.late.empty() && (!more || bucket.late.front() < bucket.places[bucket.next])) {
      std::pop_heap(bucket.late.begin(), bucket.late.end(), std::greater<>());
      place = bucket.late.back();
      bucket.late.pop_back();
    } else {
      place = bucket.places[bucket.next++];
    }
    const auto at = static_cast<uint32_t>(place >> 32);
    const auto merged = static_cast<int32_t>(place & 0xFFFFFFFFu);
    Scratch::Symbol& left = symbols[at];
    if (!left.alive || left.next == kNone) continue;
    Scratch::Symbol& right = symbols[left.next];
    const Merge* now = find_merge(left.id, right.id);
    if (now == nullptr || now->merged != merged) continue;
    left.id = merged;
    right.alive = false;
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = at;
    if (left.previous != kNone) consider(left.previous);
    consider(at);
  }
}

void BpeModel::encode_word(std::string_view word, Scratch& scratch,
                           std::vector<int32_t>& out) const {
  if (word.empty()) return;
  if (word.size() >= kNone)
    fail_input("a word of {} bytes is too long to tokenize, at most {} are accepted", word.size(),
               kNone - 1);
  if (ignore_merges_) {
    if (const auto id = token_to_id(word)) {
      out.push_back(*id);
      return;
    }
  }
  const bool cacheable = word.size() <= kMaxCachedWord;
  if (cacheable) {
    if (const auto hit = scratch.seen.find(word); hit != scratch.seen.end()) {
      const auto begin = scratch.seen_ids.begin() + static_cast<std::ptrdiff_t>(hit->second.begin);
      out.insert(out.end(), begin, begin + static_cast<std::ptrdiff_t>(hit->second.count));
      return;
    }
  }
  first_symbols(word, scratch.symbols);
  merge_symbols(scratch);
  const size_t start = out.size();
  for (const Scratch::Symbol& symbol : scratch.symbols) {
    if (symbol.alive) out.push_back(symbol.id);
  }
  if (cacheable && scratch.seen.size() < kMaxCachedWords) {
    scratch.seen.emplace(std::string(word),
                         Scratch::Span{scratch.seen_ids.size(), out.size() - start});
    scratch.seen_ids.insert(scratch.seen_ids.end(),
                            out.begin() + static_cast<std::ptrdiff_t>(start), out.end());
  }
}

}  // namespace pluq
