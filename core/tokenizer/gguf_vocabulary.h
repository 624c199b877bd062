// SPDX-License-Identifier: Apache-2.0
// The vocabulary of a GGUF file, and the tokenizer.json that does the same.
#pragma once

#include <boost/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pluq {

// The metadata tokenizer.ggml.* and tokenizer.chat_template of a GGUF file, unchecked. Arrays that
// the file lacks stay empty.
struct GgufVocabulary {
  std::string model;                // "gpt2" or "llama"
  std::string pre;                  // how "gpt2" cuts words; empty counts as "default"
  std::vector<std::string> tokens;  // by id
  std::vector<float> scores;        // by id; "llama" needs them
  std::vector<int32_t>
      token_types;  // by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  std::vector<std::string> merges;  // "gpt2" needs them: "a b", lowest rank first
  std::optional<int32_t> bos, eos, unk, pad;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
  std::string chat_template;  // not part of tokenizer.json; carried for who imports the file
};

// A document that Tokenizer::from_json accepts. Throws Error(kInput), naming `where`, for another
// model or `pre` and for a vocabulary that contradicts itself.
boost::json::value tokenizer_json_from_gguf(const GgufVocabulary& vocabulary,
                                            std::string_view where);

}  // namespace pluq
