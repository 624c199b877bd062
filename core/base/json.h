// SPDX-License-Identifier: Apache-2.0
// Strict JSON for files and requests: Boost.JSON with limits on bytes, depth and values, and with
// duplicate keys refused. Every error names `where` and the byte offset.
#pragma once

#include <boost/json.hpp>

#include <cstddef>
#include <string_view>

namespace pluq {

struct JsonLimits {
  size_t max_bytes = size_t{64} << 20;
  size_t max_depth = 64;
  size_t max_values = 8'000'000;  // scalars, arrays, objects and keys together
};

// Throws Error(kInput) on anything but one JSON document within the limits. Linear in the text's
// size.
boost::json::value parse_json(std::string_view text, std::string_view where,
                              const JsonLimits& limits = {});

// Reads and parses a whole file; the path is `where`.
boost::json::value parse_json_file(const std::string& path, const JsonLimits& limits = {});

}  // namespace pluq
