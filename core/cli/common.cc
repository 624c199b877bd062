// SPDX-License-Identifier: Apache-2.0
#include "cli/common.h"

#include <boost/json/serialize.hpp>

#include <charconv>
#include <cstdio>

#include "base/error.h"

namespace pluq::cli {

void add_common_flags(CLI::App& verb, CommonFlags& flags) {
  auto* group = verb.add_option_group("Common flags");
  group->add_option("--config", flags.config, "YAML file with any of these settings; flags win")
      ->type_name("FILE");
  group
      ->add_option("--plugins", flags.plugins,
                   "Directory to look for format plugins in (repeatable)")
      ->type_name("DIR")
      ->allow_extra_args(false);
  group->add_option("--device", flags.device, "cpu, cuda[:N] or cuda-emulated[:SM] (default cpu)")
      ->type_name("D");
  group
      ->add_option("--compute", flags.compute,
                   "exact: f32 accuracy; fast: the format's error budget (default fast)")
      ->check(CLI::IsMember({"exact", "fast"}))
      ->type_name("MODE");
  group
      ->add_option("--activations", flags.activations,
                   "checkpoint: rounded as the checkpoint says (default); float: never rounded "
                   "below 16 bits")
      ->check(CLI::IsMember({"checkpoint", "float"}))
      ->type_name("MODE");
  group
      ->add_option("--context", flags.context,
                   "Most tokens of a sequence (default: the model's, at most 4096)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30))
      ->type_name("N");
  group
      ->add_option(
          "--kv-cache", flags.kv_cache,
          "Type of the KV cache: f32, f16, bf16, or fp8_e4m3, fp8_e5m2, int8 with scales per "
          ":tensor, :head or :token")
      ->type_name("DTYPE");
  group
      ->add_option("--threads", flags.threads,
                   "Worker threads (default: the CPUs this process may use)")
      ->check(CLI::Range(1, 1024))
      ->type_name("N");
  group->add_flag("--quiet", flags.quiet, "No progress and no timings on stderr");
  group->add_option("--log-level", flags.log_level, "debug, info, warning (default) or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->type_name("LEVEL");
  group->add_flag("--json", flags.json, "Print exactly one JSON document on stdout");
}

void print_json(const boost::json::value& value) {
  const std::string text = boost::json::serialize(value) + "\n";
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void stream_text(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

std::vector<int32_t> parse_ids(const std::string& text, const std::string& where) {
  std::vector<int32_t> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto skip = [&] {
    while (at != end && (*at == ' ' || *at == '\n' || *at == '\t' || *at == '\r')) ++at;
  };
  skip();
  while (at != end) {
    int32_t id = 0;
    const auto [next, ec] = std::from_chars(at, end, id);
    if (ec != std::errc() || id < 0) {
      fail_usage("{}: '{}' at position {} is not a token id; give ids from 0 as 0,5,9", where,
                 printable(std::string_view(at, static_cast<size_t>(end - at)), 20),
                 at - text.data());
    }
    ids.push_back(id);
    at = next;
    skip();
    if (at != end && *at == ',') {
      ++at;
      skip();
      if (at == end) fail_usage("{}: ends in a comma; give ids from 0 as 0,5,9", where);
    }
  }
  if (ids.empty()) fail_usage("{}: no ids; give them as 0,5,9", where);
  return ids;
}

}  // namespace pluq::cli
