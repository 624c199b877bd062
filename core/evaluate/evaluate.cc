// SPDX-License-Identifier: Apache-2.0
#include "evaluate/evaluate.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/progress.h"

namespace pluq {
namespace {

constexpr int64_t kMaxWindow = 1 << 20;

// ln(sum exp(x)) in double precision, and the place of the largest value (the lowest on a tie).
struct Distribution {
  double log_sum = 0;
  int64_t top = 0;
};

Distribution summarize(const float* x, int64_t n) {
  Distribution d;
  for (int64_t i = 1; i < n; ++i) {
    if (x[i] > x[d.top]) d.top = i;
  }
  const double largest = x[d.top];
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += std::exp(x[i] - largest);
  d.log_sum = largest + std::log(sum);
  return d;
}

// sum p (ln p - ln q), p the base's distribution.
double divergence(const float* p, const Distribution& dp, const float* q, const Distribution& dq,
                  int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double log_p = p[i] - dp.log_sum;
    sum += std::exp(log_p) * (log_p - (q[i] - dq.log_sum));
  }
  return std::max(sum, 0.0);
}

// What one position adds.
struct Score {
  double loss = 0, base_loss = 0, kl = 0;
  bool same_top = false;
};

class Evaluator {
 public:
  Evaluator(Session& model, Session* base)
      : model_(model), base_(base), vocab_(model.model().config().vocab_size) {}

  // Scores [window.size() - 1] positions of one window.
  void run(std::span<const int32_t> window, std::vector<Score>* scores) {
    model_.clear();
    if (base_ != nullptr) base_->clear();
    // Both models take the same rows in turn, so that only a few rows of logits are held.
    const auto step = static_cast<size_t>(std::min(
        model_.logit_rows(), base_ != nullptr ? base_->logit_rows() : model_.logit_rows()));
    const size_t scored = window.size() - 1;
    for (size_t at = 0; at < scored; at += step) {
      const size_t count = std::min(step, scored - at);
      const std::span<const int32_t> ids = window.subspan(at, count);
      collect(model_, ids, &logits_);
      if (base_ != nullptr) collect(*base_, ids, &base_logits_);
      const size_t first = scores->size();
      scores->resize(first + count);
      model_.model().pool().run([&](int worker, int workers) {
        for (size_t i = static_cast<size_t>(worker); i < count; i += static_cast<size_t>(workers)) {
          (*scores)[first + i] = score(static_cast<int64_t>(i), window[at + i + 1]);
        }
      });
    }
  }

 private:
  void collect(Session& session, std::span<const int32_t> ids, std::vector<float>* out) const {
    out->resize(ids.size() * static_cast<size_t>(vocab_));
    session.all_logits(ids, [&](int64_t first, int64_t count, const float* rows) {
      std::copy(rows, rows + count * vocab_, out->begin() + first * vocab_);
    });
  }

  Score score(int64_t row, int32_t next) const {
    const float* q = logits_.data() + row * vocab_;
    const Distribution dq = summarize(q, vocab_);
    Score s;
    s.loss = dq.log_sum - q[next];
    if (base_ == nullptr) return s;
    const float* p = base_logits_.data() + row * vocab_;
    const Distribution dp = summarize(p, vocab_);
    s.base_loss = dp.log_sum - p[next];
    s.kl = divergence(p, dp, q, dq, vocab_);
    s.same_top = dp.top == dq.top;
    return s;
  }

  Session& model_;
  Session* base_;
  int64_t vocab_;
  std::vector<float> logits_, base_logits_;  // [rows, vocab]
};

void check(const Session& model, const Session* base, const EvalProtocol& protocol) {
  for (const Session* s : {&model, base}) {
    if (s != nullptr && protocol.window > s->context()) {
      fail_input(
          "protocol {}: a window of {} tokens does not fit the context of {}; use a larger "
          "--context or smaller windows",
          protocol.name, protocol.window, s->context());
    }
  }
  if (protocol.bos && model.model().config().bos_id < 0) {
    fail_input("protocol {}: config.json names no bos_token_id; use raw-{}", protocol.name,
               protocol.window);
  }
  if (base != nullptr && base->model().config().vocab_size != model.model().config().vocab_size) {
    fail_input("the models have vocabularies of {} and {} tokens; a base must have the same",
               model.model().config().vocab_size, base->model().config().vocab_size);
  }
}

EvalResult total(std::vector<Score> scores, bool has_base) {
  EvalResult r;
  r.tokens = static_cast<int64_t>(scores.size());
  r.has_base = has_base;
  double loss = 0, base_loss = 0, kl = 0, same = 0;
  for (const Score& s : scores) {
    loss += s.loss;
    base_loss += s.base_loss;
    kl += s.kl;
    same += s.same_top;
  }
  const auto n = static_cast<double>(scores.size());
  r.perplexity = std::exp(loss / n);
  if (!has_base) return r;
  r.base_perplexity = std::exp(base_loss / n);
  r.kl_mean = kl / n;
  r.top1_agreement = same / n;
  const auto p99 = scores.begin() + static_cast<int64_t>(0.99 * (n - 1));
  std::nth_element(scores.begin(), p99, scores.end(),
                   [](const Score& a, const Score& b) { return a.kl < b.kl; });
  r.kl_p99 = p99->kl;
  return r;
}

}  // namespace

EvalProtocol parse_protocol(std::string_view text) {
  EvalProtocol p;
  p.name = std::string(text);
  const size_t dash = text.find('-');
  const std::string_view kind = text.substr(0, dash);
  const std::string_view number = dash == std::string_view::npos ? "" : text.substr(dash + 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), p.window);
  if ((kind != "bos" && kind != "raw") || error != std::errc{} ||
      end != number.data() + number.size() || p.window < 2 || p.window > kMaxWindow) {
    fail_usage(
        "--protocol is '{}'; accepted are bos-N (windows of BOS and N - 1 ids) and raw-N (windows "
        "of N ids), N from 2 to {}",
        printable(text), kMaxWindow);
  }
  p.bos = kind == "bos";
  return p;
}

EvalResult evaluate(Session& model, Session* base, std::span<const int32_t> ids,
                    const EvalOptions& options) {
  const EvalProtocol& p = options.protocol;
  check(model, base, p);
  int64_t windows = static_cast<int64_t>(ids.size()) / p.text_ids();
  if (windows == 0) {
    fail_input("the text has {} tokens, fewer than one window of protocol {} ({})", ids.size(),
               p.name, p.text_ids());
  }
  if (options.windows > 0) windows = std::min(windows, options.windows);

  Evaluator evaluator(model, base);
  Progress progress("evaluating", windows, options.quiet);
  std::vector<Score> scores;
  scores.reserve(static_cast<size_t>(windows * (p.window - 1)));
  std::vector<int32_t> window;
  double loss = 0;
  for (int64_t w = 0; w < windows; ++w) {
    if (options.cancel != nullptr && options.cancel->load())
      throw Error(ErrorKind::kInterrupted, "interrupted");
    window.clear();
    if (p.bos) window.push_back(model.model().config().bos_id);
    const auto part =
        ids.subspan(static_cast<size_t>(w * p.text_ids()), static_cast<size_t>(p.text_ids()));
    window.insert(window.end(), part.begin(), part.end());
    const size_t first = scores.size();
    evaluator.run(window, &scores);
    for (size_t i = first; i < scores.size(); ++i) loss += scores[i].loss;
    progress.step(fmt::format("perplexity so far {:.3f}",
                              std::exp(loss / static_cast<double>(scores.size()))));
  }
  EvalResult result = total(std::move(scores), base != nullptr);
  result.windows = windows;
  return result;
}

}  // namespace pluq
