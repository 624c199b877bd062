// SPDX-License-Identifier: Apache-2.0
// Turns a prompt into text: prefill, then one token at a time until a stop string, an end-of-text
// id or the length is reached.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/sampler.h"
#include "engine/session.h"
#include "tokenizer/tokenizer.h"

namespace pluq {

struct GenerateRequest {
  std::vector<int32_t> prompt_ids;
  int64_t cached_tokens =
      0;  // the first of prompt_ids, which the session already holds; fewer than all
  int64_t max_new_tokens = 256;
  SamplingOptions sampling;
  std::vector<std::string> stop;                  // stop strings; the text ends before them
  std::vector<int32_t> eos_ids;                   // end the text; not part of output_ids
  std::function<void(std::string_view)> on_text;  // called with each piece of final text, or empty
  const std::atomic<bool>* cancel = nullptr;      // looked at between tokens
};

struct Phase {
  int64_t tokens = 0;
  double seconds = 0;
  double tokens_per_second() const {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
  }
};

struct GenerateResult {
  std::vector<int32_t> output_ids;
  std::string text;
  std::string stop_reason;  // "length", "eos", "stop" or "cancelled"
  Phase prefill, decode;
};

// Runs the request on a session that holds exactly its cached tokens. Throws Error(kInput) when the
// prompt does not fit the context.
GenerateResult generate(Session& session, const Tokenizer& tokenizer,
                        const GenerateRequest& request);

}  // namespace pluq
