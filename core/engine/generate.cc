// SPDX-License-Identifier: Apache-2.0
#include "engine/generate.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/error.h"
#include "engine/stop_text.h"

namespace pluq {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void check_fits(const Session& session, const GenerateRequest& request) {
  const auto prompt = static_cast<int64_t>(request.prompt_ids.size());
  if (prompt == 0) fail_input("the prompt has no tokens; give some text or ids");
  if (request.cached_tokens != session.length() || request.cached_tokens >= prompt) {
    fail(ErrorKind::kFailed, "the session holds {} tokens, the request counts on {} of {}",
         session.length(), request.cached_tokens, prompt);
  }
  if (prompt >= session.context()) {
    fail_input(
        "the prompt has {} tokens, the context holds {} and needs one more for the answer; use a "
        "shorter "
        "prompt or a larger --context",
        prompt, session.context());
  }
  for (const int32_t id : request.prompt_ids) session.model().check_id(id);
}

}  // namespace

GenerateResult generate(Session& session, const Tokenizer& tokenizer,
                        const GenerateRequest& request) {
  check_fits(session, request);
  GenerateResult result;
  Sampler sampler(request.sampling);
  StopText stop(request.stop);
  StreamDecoder decoder(tokenizer, /*skip_special=*/true);
  const auto show = [&](std::string text) {
    if (text.empty()) return;
    if (request.on_text) request.on_text(text);
    result.text += text;
  };
  const auto cancelled = [&] { return request.cancel != nullptr && request.cancel->load(); };

  for (const int32_t id : request.prompt_ids) sampler.accept(id);
  const std::span<const int32_t> fresh =
      std::span(request.prompt_ids).subspan(static_cast<size_t>(request.cached_tokens));
  auto start = std::chrono::steady_clock::now();
  NextLogits* next = &session.extend(fresh, request.cancel);
  result.prefill = {static_cast<int64_t>(fresh.size()), seconds_since(start)};

  start = std::chrono::steady_clock::now();
  result.stop_reason = "length";
  int64_t steps = 0;
  while (static_cast<int64_t>(result.output_ids.size()) < request.max_new_tokens) {
    if (cancelled()) {
      result.stop_reason = "cancelled";
      break;
    }
    const int32_t id = sampler.sample(*next);
    if (std::find(request.eos_ids.begin(), request.eos_ids.end(), id) != request.eos_ids.end()) {
      result.stop_reason = "eos";
      break;
    }
    result.output_ids.push_back(id);
    sampler.accept(id);
    show(stop.push(decoder.push(id)));
    if (stop.stopped()) {
      result.stop_reason = "stop";
      break;
    }
    // The last token needs no logits after it, and a full context can take no more.
    if (static_cast<int64_t>(result.output_ids.size()) == request.max_new_tokens) break;
    if (session.length() >= session.context()) break;
    next = &session.extend({&id, 1});
    ++steps;
  }
  result.decode = {steps, seconds_since(start)};
  if (!stop.stopped()) {
    show(stop.push(decoder.finish()));
    show(stop.finish());
  }
  return result;
}

}  // namespace pluq
