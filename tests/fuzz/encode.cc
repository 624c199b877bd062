// SPDX-License-Identifier: Apache-2.0
// A text, encoded by the tokenizer of tests/data/tiny; its ids decode
// to the same text at once and piece by piece.
#include "fuzz.h"
#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizer = pluq::Tokenizer::from_file(PLUQ_FUZZ_TOKENIZER);
  pluq::fuzz::taken([&] {
    const auto ids = tokenizer->encode(pluq::fuzz::text(data, size), false);
    std::string pieces;
    pluq::StreamDecoder stream(*tokenizer, false);
    for (const int32_t id : ids) pieces += stream.push(id);
    pieces += stream.finish();
    if (pieces != tokenizer->decode(ids, false)) {
      std::fprintf(stderr, "decoded piece by piece the text differs\n");
      std::abort();
    }
  });
  return 0;
}
