// SPDX-License-Identifier: Apache-2.0
// The pluq program: declares the verbs, runs one, turns errors into a sentence on stderr and an
// exit code.
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cli/common.h"
#include "cli/explain.h"
#include "cli/interrupt.h"

namespace pluq::cli {
namespace {

// Verbs and flags that later versions will have; they are not in --help.
constexpr std::string_view kLaterVerbs[] = {"verify", "serve"};

constexpr const char* kFooter =
    "MODEL is a directory in HF layout or a .gguf file.\n"
    "Examples:\n"
    "  pluq run ./Llama-3.2-1B-GPTQ -p \"The capital of France is\"\n"
    "  pluq inspect ./Llama-3.2-1B-GPTQ\n"
    "  pluq quantize ./Llama-3.2-1B -o ./Llama-3.2-1B-w4 --format gptq --algorithm rtn\n"
    "Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 wrong input, 4 a plugin is missing or "
    "refused, "
    "130 interrupted.";

int run(int argc, char** argv) {
  if (argc > 1) {
    for (const std::string_view later : kLaterVerbs) {
      if (argv[1] == later) fail_usage("pluq {}: not built yet", later);
    }
  }
  CLI::App app("Runs large language models in any weight format", "pluq");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("pluq ") + PLUQ_VERSION);
  CommonFlags flags;
  std::vector<Verb> verbs;
  for (auto* add : {add_run, add_logits, add_layer, add_tokenize, add_eval, add_inspect,
                    add_explain, add_quantize, add_import, add_plugins, add_sdk, add_bench,
                    add_bench_linear, add_doctor, add_completion}) {
    verbs.push_back(add(app, flags));
  }
  if (argc > 1 && argv[1][0] != '-') {
    std::string names;
    bool known = false;
    for (const Verb& verb : verbs) {
      names += (names.empty() ? "" : ", ") + verb.app->get_name();
      known = known || verb.app->get_name() == argv[1];
    }
    if (!known) fail_usage("unknown verb '{}'; there are {}", printable(argv[1]), names);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    // --help and --version come here too, with code 0.
    return app.exit(e) == 0 ? 0 : 2;
  }
  for (const Verb& verb : verbs) {
    if (verb.app->parsed()) verb.run();
  }
  return 0;
}

}  // namespace
}  // namespace pluq::cli

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  pluq::cli::catch_interrupts();
  try {
    return pluq::cli::run(argc, argv);
  } catch (const pluq::Error& e) {
    std::fprintf(stderr, "pluq: %s\n", e.what());
    return e.exit_code();
  } catch (const std::bad_alloc&) {
    std::fputs("pluq: out of memory\n", stderr);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "pluq: internal error: %s\n", e.what());
  }
  return 1;
}
