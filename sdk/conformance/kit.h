// SPDX-License-Identifier: Apache-2.0
// The conformance kit: what a plugin must do, as tests that run on the finished .so, one process
// each. Used by `pluq plugins check`; sdk/conformance/README.md lists the tests.
#pragma once

#include <boost/json/value.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace pluq::conformance {

struct Result {
  std::string group, name;
  std::string status;  // "pass", "fail", "skip"
  std::string text;    // why it failed or was skipped; what was looked at when it passed
  double seconds = 0;
  std::string read = {};  // of a failure: where the rule is written
};

struct Options {
  std::string path;         // of the plugin
  std::string filter;       // only tests whose "group.name" contains this; empty: all
  uint64_t seed = 1;        // of all random data; printed with failures
  double time_limit = 120;  // seconds per test
  bool in_process = false;  // no child processes, for a debugger
};

struct Report {
  std::string path, sha256, id, version, abi;
  uint64_t seed = 0;
  std::vector<Result> results;
  int count(const std::string& status) const;
  boost::json::value to_json() const;  // pluq-conformance.json
};

// Runs the tests; `on_result` is called after each, may be empty. Throws Error(kInput) when the
// file cannot be read. The caller must be single-threaded: tests run in forked children.
Report check_plugin(const Options& options, const std::function<void(const Result&)>& on_result);

}  // namespace pluq::conformance
