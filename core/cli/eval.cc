// SPDX-License-Identifier: Apache-2.0
// pluq eval MODEL: perplexity on a text, and the distance to a base model.
#include <boost/json/object.hpp>

#include <memory>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "cli/common.h"
#include "cli/interrupt.h"
#include "cli/model_flags.h"
#include "evaluate/evaluate.h"

namespace pluq::cli {
namespace {

struct Flags {
  std::string model, text, protocol = "bos-512", base;
  int64_t windows = 0;
};

void print(const EvalResult& r, const std::string& protocol) {
  fmt::print("perplexity {:.4f} on {} tokens ({} windows of {})\n", r.perplexity, r.tokens,
             r.windows, protocol);
  if (!r.has_base) return;
  fmt::print(
      "base perplexity {:.4f}; KL from the base: mean {:.6f}, 99th percentile {:.6f}; same top "
      "token {:.2f} %\n",
      r.base_perplexity, r.kl_mean, r.kl_p99, 100 * r.top1_agreement);
}

void eval(const Flags& f, const CommonFlags& common) {
  EvalOptions options;
  options.protocol = parse_protocol(f.protocol);
  options.windows = f.windows;
  options.quiet = common.quiet;
  options.cancel = &interrupted();
  const std::string text = read_file(f.text, size_t{1} << 30);
  const OpenModel open = open_model(common, f.model);
  const std::vector<int32_t> ids = open.tokenizer->encode(text, /*add_special=*/false);
  Session session = open.session();
  std::optional<OpenModel> base;
  std::unique_ptr<Session> base_session;
  if (!f.base.empty()) {
    base = open_beside(open, f.base, common.quiet);
    base_session = std::make_unique<Session>(base->loaded.model, base->session_options());
  }
  const EvalResult r = evaluate(session, base_session.get(), ids, options);
  if (!common.json) return print(r, f.protocol);
  boost::json::object out{{"perplexity", r.perplexity},
                          {"tokens", r.tokens},
                          {"windows", r.windows},
                          {"protocol", f.protocol},
                          {"text_sha256", sha256_hex(std::as_bytes(std::span(text)))}};
  if (r.has_base) {
    out["base_perplexity"] = r.base_perplexity;
    out["kl_mean"] = r.kl_mean;
    out["kl_p99"] = r.kl_p99;
    out["top1_agreement"] = r.top1_agreement;
  }
  print_json(out);
}

}  // namespace

Verb add_eval(CLI::App& app, CommonFlags& common) {
  CLI::App* verb =
      app.add_subcommand("eval", "Measure perplexity on a text, and the distance to a base model");
  verb->footer(
      "Examples:\n  pluq eval ./model-w4 --text wiki.test.raw\n"
      "  pluq eval ./model-w4 --base ./model --text wiki.test.raw --windows 8\n"
      "Protocols: bos-N cuts the text's ids into runs of N - 1 with a BOS before each; raw-N into "
      "runs of N. Each run\n"
      "starts with an empty cache, all its ids but the first are scored, an incomplete last run is "
      "dropped.");
  static Flags f;
  verb->add_option("MODEL", f.model, "Model directory or .gguf file (or `model` of --config)");
  verb->add_option("--text", f.text, "Text to predict")->required()->type_name("FILE");
  verb->add_option("--protocol", f.protocol, "bos-N or raw-N (default bos-512)")->type_name("P");
  verb->add_option("--windows", f.windows, "Only the first N windows")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  verb->add_option("--base", f.base, "Model to compare with: KL divergence and top token")
      ->type_name("MODEL2");
  add_common_flags(*verb, common);
  return {verb, [&common] { eval(f, common); }};
}

}  // namespace pluq::cli
