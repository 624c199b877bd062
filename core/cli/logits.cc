// SPDX-License-Identifier: Apache-2.0
// pluq logits MODEL: the logits of every position as a .npy file.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <cstdio>

#include "base/error.h"
#include "base/file.h"
#include "base/npy.h"
#include "cli/common.h"
#include "cli/interrupt.h"
#include "cli/model_flags.h"

namespace pluq::cli {
namespace {

struct Flags {
  std::string model, ids, ids_file, out;
  TextFlags text;
};

std::vector<int32_t> read_ids(const Flags& f, const Tokenizer* tokenizer) {
  const int given = !f.ids.empty() + !f.ids_file.empty() + f.text.given();
  if (given != 1) fail_usage("give exactly one of --ids, --ids-file, -p, -f");
  if (!f.ids.empty()) return parse_ids(f.ids, "--ids");
  if (!f.ids_file.empty()) return parse_ids(read_file(f.ids_file, size_t{64} << 20), f.ids_file);
  return tokenizer->encode(f.text.read(), /*add_special=*/true);
}

void logits(const Flags& f, const CommonFlags& common) {
  const bool need_tokenizer = f.text.given();
  OpenModel open = open_model(common, f.model, need_tokenizer);
  const std::vector<int32_t> ids = read_ids(f, open.tokenizer.get());
  Session session = open.session();
  const auto rows = static_cast<int64_t>(ids.size());
  const int64_t vocab = session.model().config().vocab_size;
  std::vector<float> all(static_cast<size_t>(rows * vocab));
  session.all_logits(ids, [&](int64_t first, int64_t count, const float* values) {
    std::copy(values, values + count * vocab, all.begin() + first * vocab);
    stop_if_interrupted();
  });
  write_npy(f.out, rows, vocab, all);
  if (common.json) {
    print_json(boost::json::object{{"ids", boost::json::array(ids.begin(), ids.end())},
                                   {"out", f.out},
                                   {"shape", boost::json::array{rows, vocab}}});
  } else {
    fmt::print("{}: float32 [{}, {}]\n", f.out, rows, vocab);
  }
}

}  // namespace

Verb add_logits(CLI::App& app, CommonFlags& common) {
  CLI::App* verb =
      app.add_subcommand("logits", "Write the logits of every position as a .npy file");
  verb->footer("Example: pluq logits ./model --ids 0,5,9 --out logits.npy");
  static Flags f;
  verb->add_option("MODEL", f.model, "Model directory or .gguf file (or `model` of --config)");
  verb->add_option("--ids", f.ids, "Token ids, as 0,5,9")->type_name("IDS");
  verb->add_option("--ids-file", f.ids_file, "File with token ids")->type_name("FILE");
  f.text.add(*verb);
  verb->add_option("--out", f.out, "File to write, float32 [T, vocab]")
      ->required()
      ->type_name("FILE.npy");
  add_common_flags(*verb, common);
  return {verb, [&common] { logits(f, common); }};
}

}  // namespace pluq::cli
