// SPDX-License-Identifier: Apache-2.0
// tokenizer_lines FILE: reads one JSON string per line, writes one JSON object per line: ids with
// and without special tokens and the texts they decode to. differential.py compares them with the
// `tokenizers` package.
#include <exception>
#include <iostream>
#include <string>

#include "base/json.h"
#include "tokenizer/tokenizer.h"

namespace {

boost::json::array ids_of(const std::vector<int32_t>& ids) {
  return boost::json::array(ids.begin(), ids.end());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  try {
    const auto tokenizer = pluq::Tokenizer::from_file(argv[1]);
    for (std::string line; std::getline(std::cin, line);) {
      const boost::json::value value = pluq::parse_json(line, "stdin");
      const std::string text(value.as_string().data(), value.as_string().size());
      const auto plain = tokenizer->encode(text, false);
      const auto special = tokenizer->encode(text, true);
      boost::json::object out;
      out["plain"] = ids_of(plain);
      out["special"] = ids_of(special);
      out["text"] = tokenizer->decode(special, false);
      out["skipped"] = tokenizer->decode(special, true);
      std::cout << boost::json::serialize(out) << "\n";
    }
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
  return 0;
}
