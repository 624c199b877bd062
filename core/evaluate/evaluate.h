// SPDX-License-Identifier: Apache-2.0
// How well a model predicts a text, and how far it is from another model on the same text.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/session.h"

namespace pluq {

// How a text's ids become windows. The ids of a window are run through an empty cache; every id but
// its first one is predicted and scored. Ids that do not fill the last window are dropped.
struct EvalProtocol {
  std::string name;    // as given
  bool bos = false;    // each window begins with BOS
  int64_t window = 0;  // ids of a window, BOS included

  int64_t text_ids() const {
    return window - (bos ? 1 : 0);
  }  // of the text, per window; also the stride
};

// "bos-N": windows of BOS and N - 1 ids of the text; "raw-N": windows of N ids. Throws
// Error(kUsage).
EvalProtocol parse_protocol(std::string_view text);

struct EvalOptions {
  EvalProtocol protocol;
  int64_t windows = 0;  // at most so many; 0: all
  bool quiet = true;    // no progress
  const std::atomic<bool>* cancel = nullptr;
};

struct EvalResult {
  int64_t windows = 0, tokens = 0;  // tokens: ids that were scored
  double perplexity = 0;            // exp(mean of -ln p(id))
  // With a base, over the scored positions; KL divergence from the base's distribution to the
  // model's, in nats.
  bool has_base = false;
  double base_perplexity = 0, kl_mean = 0, kl_p99 = 0, top1_agreement = 0;
};

// ids: the text without special tokens. base: another model's session with the same vocabulary, or
// null; it may not be the same session. Throws Error(kInput) when the text fills no window, the
// model names no BOS that the protocol needs, a window exceeds a context, or the vocabularies
// differ.
EvalResult evaluate(Session& model, Session* base, std::span<const int32_t> ids,
                    const EvalOptions& options);

}  // namespace pluq
