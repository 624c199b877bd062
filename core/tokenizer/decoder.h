// SPDX-License-Identifier: Apache-2.0
// The "decoder" of a tokenizer file as a chain of stages that tokens flow through. Decoding a whole
// sequence and streaming it run the same chain, so the joined pieces of a stream are the decoded
// text by construction.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace pluq {

class JsonNode;

// Takes text that is final.
class DecodeSink {
 public:
  virtual ~DecodeSink() = default;
  // A part of a token: begins / ends say whether it holds the token's first / last text.
  virtual void part(std::string_view text, bool begins, bool ends) = 0;
  // No more tokens come. Called once.
  virtual void finish() = 0;
};

// The immutable description of a chain; const use from many threads is safe.
class Decoder {
 public:
  virtual ~Decoder() = default;
  // A fresh stage that writes to `next`, which must outlive it. Stages are owned by the caller, in
  // `stages`.
  virtual DecodeSink& start(DecodeSink& next,
                            std::vector<std::unique_ptr<DecodeSink>>& stages) const = 0;

  // Throws Error(kInput) naming an unknown type and the supported ones.
  static std::unique_ptr<const Decoder> from_json(const JsonNode& node);
  // What the tokenizers package does without a decoder: tokens with a space between.
  static std::unique_ptr<const Decoder> spaces();
};

}  // namespace pluq
