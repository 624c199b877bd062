// SPDX-License-Identifier: Apache-2.0
// pluq tokenize MODEL: text to ids and back.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <cstdio>

#include "base/error.h"
#include "base/file.h"
#include "cli/common.h"
#include "cli/model_flags.h"
#include "tokenizer/tokenizer.h"

namespace pluq::cli {
namespace {

struct Flags {
  std::string model, ids;
  TextFlags text;
  bool no_special = false, decode = false;
};

void tokenize(const Flags& f, const CommonFlags& common) {
  const auto tokenizer = load_tokenizer(f.model);
  if (f.decode) {
    if (f.ids.empty()) fail_usage("--decode needs --ids, as 0,5,9");
    const std::string text =
        tokenizer->decode(parse_ids(f.ids, "--ids"), /*skip_special=*/f.no_special);
    if (common.json) {
      print_json(boost::json::object{{"text", text}});
    } else {
      std::fwrite(text.data(), 1, text.size(), stdout);
      std::fputc('\n', stdout);
    }
    return;
  }
  if (!f.ids.empty()) fail_usage("--ids goes with --decode");
  const std::vector<int32_t> ids = tokenizer->encode(f.text.read(), !f.no_special);
  if (common.json) {
    print_json(boost::json::object{{"ids", boost::json::array(ids.begin(), ids.end())}});
  } else {
    fmt::print("{}\n", fmt::join(ids, ","));
  }
}

}  // namespace

Verb add_tokenize(CLI::App& app, CommonFlags& common) {
  CLI::App* verb = app.add_subcommand("tokenize", "Turn text into token ids, or ids into text");
  verb->footer(
      "Examples:\n  pluq tokenize ./model -p \"Hello\"\n  pluq tokenize ./model --decode --ids "
      "0,5,9");
  static Flags f;
  verb->add_option("MODEL", f.model,
                   "Model directory, or one with only a tokenizer.json, or a .gguf file")
      ->required();
  f.text.add(*verb);
  verb->add_flag("--no-special", f.no_special,
                 "Leave out what the post-processor adds; with --decode, leave out special tokens");
  verb->add_flag("--decode", f.decode, "From ids to text");
  verb->add_option("--ids", f.ids, "Token ids, as 0,5,9")->type_name("IDS");
  add_common_flags(*verb, common);
  return {verb, [&common] { tokenize(f, common); }};
}

}  // namespace pluq::cli
