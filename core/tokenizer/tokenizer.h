// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back, as a tokenizer.json describes it: the ids of the `tokenizers`
// package, in time linear in the text (up to a logarithm).
#pragma once

#include <boost/json.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pluq {

// Immutable; const use from many threads is safe.
class Tokenizer {
 public:
  // All throw Error(kInput) with a sentence that names the file, the key and what is accepted.
  static std::shared_ptr<const Tokenizer> from_file(const std::string& path);
  static std::shared_ptr<const Tokenizer> from_directory(
      const std::string& directory);  // its tokenizer.json
  static std::shared_ptr<const Tokenizer> from_json(const boost::json::value& document,
                                                    std::string_view where);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // The ids of `text`; invalid UTF-8 in it counts as U+FFFD. Added tokens are recognised in the
  // text either way; add_special puts those of the post-processor around it. Throws Error(kInput)
  // for a text above 1 GiB or when a pattern of the file exhausts its step limit.
  std::vector<int32_t> encode(std::string_view text, bool add_special) const;

  // The text of `ids`. Ids that name no token are skipped, as the tokenizers package does;
  // skip_special leaves out special tokens too.
  std::string decode(std::span<const int32_t> ids, bool skip_special) const;

  int32_t vocab_size() const;  // one more than the largest id, added tokens included
  std::optional<int32_t> token_to_id(std::string_view token) const;
  std::optional<std::string> id_to_token(int32_t id) const;
  bool is_special(int32_t id) const;

 private:
  friend class StreamDecoder;
  struct Parts;
  explicit Tokenizer(std::unique_ptr<const Parts> parts);
  std::unique_ptr<const Parts> parts_;
};

// Decodes ids one by one. push and finish return only text that no later id can change, so never
// half a character; joined, the pieces are what decode gives for all ids. Constant work per id for
// the usual decoders; a run of byte-fallback tokens comes out when it ends. One thread at a time;
// the tokenizer must outlive it.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  std::string push(int32_t id);
  // What was held back. Call it once, after the last push; push must not follow.
  std::string finish();

 private:
  friend class Tokenizer;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pluq
