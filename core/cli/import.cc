// SPDX-License-Identifier: Apache-2.0
// pluq import FILE.gguf -o OUT: a model directory in HF layout.
#include <boost/json/object.hpp>

#include <cstdio>

#include "base/error.h"
#include "cli/common.h"
#include "cli/interrupt.h"
#include "quantize/import.h"

namespace pluq::cli {
namespace {

struct Flags {
  std::string input, output, dtype = "bf16";
};

void import_file(const Flags& f, const CommonFlags& common) {
  ImportOptions options;
  options.input = f.input;
  options.output = f.output;
  options.dtype_id = f.dtype == "f32"   ? PLUQ_DTYPE_F32
                     : f.dtype == "f16" ? PLUQ_DTYPE_F16
                                        : PLUQ_DTYPE_BF16;
  options.quiet = common.quiet;
  options.cancel = &interrupted();
  const ImportReport report = import_gguf(options);
  if (common.json) {
    print_json(boost::json::object{
        {"out", f.output}, {"tensors", report.tensors}, {"bytes", report.bytes}});
  } else {
    fmt::print("{}: {} tensors, {:.1f} MiB\n", f.output, report.tensors,
               static_cast<double>(report.bytes) / (1 << 20));
  }
}

}  // namespace

Verb add_import(CLI::App& app, CommonFlags& common) {
  CLI::App* verb = app.add_subcommand("import", "Turn a GGUF file into a model directory");
  verb->footer("Example: pluq import model.Q4_K_M.gguf -o ./model --dtype bf16");
  static Flags f;
  verb->add_option("FILE", f.input, "GGUF file")->required();
  verb->add_option("-o,--out", f.output, "Directory to write; must not exist or be empty")
      ->required()
      ->type_name("DIR");
  verb->add_option("--dtype", f.dtype, "Type of the weights: bf16 (default), f16, f32")
      ->check(CLI::IsMember({"bf16", "f16", "f32"}))
      ->type_name("DTYPE");
  add_common_flags(*verb, common);
  return {verb, [&common] { import_file(f, common); }};
}

}  // namespace pluq::cli
