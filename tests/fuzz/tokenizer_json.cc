// SPDX-License-Identifier: Apache-2.0
// tokenizer.json. When it is taken, a text is encoded and decoded: patterns in the file are run,
// too.
#include "base/json.h"
#include "fuzz.h"
#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  pluq::fuzz::taken([&] {
    const auto json = pluq::parse_json(pluq::fuzz::text(data, size), "tokenizer.json");
    const auto tokenizer = pluq::Tokenizer::from_json(json, "tokenizer.json");
    const auto ids =
        tokenizer->encode("Hello  world 123\n\xC3\xA9\xE4\xBD\xA0 aaaaaaaaaaaaaaaa", true);
    tokenizer->decode(ids, false);
    pluq::StreamDecoder stream(*tokenizer, true);
    for (const int32_t id : ids) stream.push(id);
    stream.finish();
  });
  return 0;
}
