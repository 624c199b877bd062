// SPDX-License-Identifier: Apache-2.0
// pluq run MODEL: text from a prompt.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <cstdio>

#include "base/error.h"
#include "cli/chat.h"
#include "cli/common.h"
#include "cli/interrupt.h"
#include "cli/model_flags.h"
#include "engine/generate.h"

namespace pluq::cli {
namespace {

struct Flags {
  std::string model;
  TextFlags text;
  bool chat = false;
  ChatFlags chat_flags;
  int64_t tokens = -1, seed = -1, top_k = -1;
  double temperature = -1, top_p = -1, min_p = -1, repeat_penalty = -1;
  std::vector<std::string> stop;
};

boost::json::object phase(const Phase& p) {
  return {
      {"tokens", p.tokens}, {"seconds", p.seconds}, {"tokens_per_second", p.tokens_per_second()}};
}

// Flags over YAML over the model's generation_config.json.
GenerateRequest make_request(const Flags& f, const OpenModel& open) {
  GenerateRequest request;
  const GenerationConfig& model = open.loaded.generation;
  const GenerationSettings& yaml = open.config.generation;
  SamplingOptions& s = request.sampling;
  s.temperature = f.temperature >= 0 ? f.temperature : yaml.temperature.value_or(model.temperature);
  s.top_k = static_cast<int32_t>(f.top_k >= 0 ? f.top_k : yaml.top_k.value_or(model.top_k));
  s.top_p = f.top_p >= 0 ? f.top_p : yaml.top_p.value_or(model.top_p);
  s.min_p = f.min_p >= 0 ? f.min_p : yaml.min_p.value_or(0);
  s.repeat_penalty = f.repeat_penalty >= 0 ? f.repeat_penalty
                                           : yaml.repeat_penalty.value_or(model.repetition_penalty);
  s.seed = static_cast<uint64_t>(f.seed >= 0 ? f.seed : yaml.seed.value_or(0));
  s.check();
  request.max_new_tokens = f.tokens >= 0 ? f.tokens : yaml.max_new_tokens.value_or(256);
  request.stop = f.stop.empty() ? yaml.stop : f.stop;
  request.eos_ids = model.eos_ids;
  return request;
}

void run_chat(const Flags& f, const CommonFlags& common) {
  if (common.json)
    fail_usage("--json: a conversation is text; use run -p TEXT --json for one answer");
  ChatFlags flags = f.chat_flags;
  flags.quiet = common.quiet;
  if (f.text.given()) flags.first = f.text.read();
  const OpenModel open = open_model(common, f.model);
  chat(open, make_request(f, open), flags);
}

void run(const Flags& f, const CommonFlags& common) {
  if (f.chat) return run_chat(f, common);
  const std::string prompt = f.text.read();
  OpenModel open = open_model(common, f.model);
  GenerateRequest request = make_request(f, open);
  request.prompt_ids = open.tokenizer->encode(prompt, /*add_special=*/true);
  request.cancel = &interrupted();
  if (!common.json) request.on_text = stream_text;
  Session session = open.session();
  const GenerateResult result = generate(session, *open.tokenizer, request);
  if (common.json) {
    print_json(boost::json::object{
        {"prompt_ids", boost::json::array(request.prompt_ids.begin(), request.prompt_ids.end())},
        {"output_ids", boost::json::array(result.output_ids.begin(), result.output_ids.end())},
        {"text", result.text},
        {"stop_reason", result.stop_reason},
        {"prefill", phase(result.prefill)},
        {"decode", phase(result.decode)}});
  } else {
    std::fputc('\n', stdout);
  }
  if (!common.quiet) {
    fmt::print(stderr,
               "prefill: {} tokens in {:.2f} s, {:.1f} tokens/s; decode: {} tokens in {:.2f} s, "
               "{:.1f} tokens/s\n",
               result.prefill.tokens, result.prefill.seconds, result.prefill.tokens_per_second(),
               result.decode.tokens, result.decode.seconds, result.decode.tokens_per_second());
  }
  stop_if_interrupted();
}

}  // namespace

Verb add_run(CLI::App& app, CommonFlags& common) {
  CLI::App* verb = app.add_subcommand("run", "Generate text from a prompt");
  verb->footer(
      "Examples:\n"
      "  pluq run ./model -p \"The capital of France is\"\n"
      "  pluq run ./model -f prompt.txt -n 64 --temperature 0.7 --top-p 0.9 --seed 1\n"
      "  pluq run ./model --chat --system \"Be brief.\"\n"
      "  pluq run --config run.yaml -p \"Once\" --json");
  static Flags f;
  verb->add_option("MODEL", f.model, "Model directory or .gguf file (or `model` of --config)");
  f.text.add(*verb);
  verb->add_option("-n", f.tokens, "Most tokens to generate (default 256)")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30));
  verb->add_option("--temperature", f.temperature,
                   "0: always the likeliest token (default: the model's, else 0)")
      ->check(CLI::NonNegativeNumber)
      ->type_name("T");
  verb->add_option("--top-k", f.top_k, "Sample from the K likeliest; 0: off")
      ->check(CLI::NonNegativeNumber)
      ->type_name("K");
  verb->add_option("--top-p", f.top_p, "Sample from the likeliest that make up P; 1: off")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("P");
  verb->add_option("--min-p", f.min_p, "Drop tokens below P times the likeliest; 0: off")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("P");
  verb->add_option("--repeat-penalty", f.repeat_penalty, "Make recent tokens less likely; 1: off")
      ->check(CLI::PositiveNumber)
      ->type_name("R");
  verb->add_option("--seed", f.seed, "Seed of the sampling (default 0)")
      ->check(CLI::NonNegativeNumber)
      ->type_name("S");
  verb->add_option("--stop", f.stop, "End before this text (repeatable)")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  CLI::Option* chat = verb->add_flag(
      "--chat", f.chat,
      "Converse, with the model's chat template; messages from stdin (-p: the first)");
  verb->add_option("--system", f.chat_flags.system, "System message of --chat")
      ->type_name("TEXT")
      ->needs(chat);
  verb->add_option("--chat-template", f.chat_flags.template_file,
                   "Jinja template for --chat instead of the model's own")
      ->type_name("FILE")
      ->needs(chat);
  add_common_flags(*verb, common);
  return {verb, [&common] { run(f, common); }};
}

}  // namespace pluq::cli
