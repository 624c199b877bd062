// SPDX-License-Identifier: Apache-2.0
// The BPE model of a tokenizer file: vocabulary, merges, and the merging of one word.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace pluq {

class JsonNode;

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
};
template <class T>
using StringMap = std::unordered_map<std::string, T, StringHash, std::equal_to<>>;

// Immutable; const use from many threads is safe, each with its own Scratch.
class BpeModel {
 public:
  // Memory of one encode call: working arrays and the words already seen.
  class Scratch {
   public:
    Scratch() = default;

   private:
    friend class BpeModel;
    struct Symbol {
      int32_t id;
      uint32_t previous;  // index, kNone at the ends
      uint32_t next;
      bool alive;
    };
    // Places whose pair has one rank. `places` is read from `next` on; what comes while it is read
    // goes to `late`.
    struct Bucket {
      std::vector<uint64_t> places;  // left symbol's index << 32 | merged id
      std::vector<uint64_t> late;    // a min-heap
      size_t next = 0;
      bool sorted = true;
    };
    struct Span {
      size_t begin;
      size_t count;
    };
    std::vector<Symbol> symbols;
    std::map<uint32_t, Bucket> buckets;  // by rank
    StringMap<Span> seen;
    std::vector<int32_t> seen_ids;
  };

  // The "model" object. Throws Error(kInput).
  explicit BpeModel(const JsonNode& node);

  // Appends the ids of one word (valid UTF-8). O(n log n) in the word's length, no recursion.
  void encode_word(std::string_view word, Scratch& scratch, std::vector<int32_t>& out) const;

  std::optional<int32_t> token_to_id(std::string_view token) const;
  const std::string* id_to_token(int32_t id) const;  // null when there is none
  int32_t end_id() const { return static_cast<int32_t>(tokens_.size()); }

 private:
  struct Merge {
    uint64_t pair = kNoPair;
    uint32_t rank = 0;
    int32_t merged = 0;
  };
  static constexpr uint64_t kNoPair = ~uint64_t{0};

  void read_vocabulary(const JsonNode& node);
  void read_merges(const JsonNode& node);
  void insert_merge(int32_t left, int32_t right, uint32_t rank, int32_t merged);
  const Merge* find_merge(int32_t left, int32_t right) const;
  void first_symbols(std::string_view word, std::vector<Scratch::Symbol>& symbols) const;
  void merge_symbols(Scratch& scratch) const;
  bool push_byte_tokens(std::string_view bytes, std::vector<Scratch::Symbol>& symbols) const;

  StringMap<int32_t> ids_;
  std::vector<const std::string*> tokens_;  // by id; null for holes. Points into ids_
  std::vector<Merge> merges_;               // open addressing, a power of two
  std::vector<int32_t> char_ids_;           // id of a single character below kCharTable, -1: none
  std::vector<int32_t> byte_ids_;           // id of "<0xXX>", -1: none
  std::optional<int32_t> unk_;
  std::string subword_prefix_;
  std::string word_suffix_;
  bool fuse_unk_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
};

}  // namespace pluq
