// SPDX-License-Identifier: Apache-2.0
// A chat template, parsed and rendered for two messages within small limits.
#include "tokenizer/chat/chat_template.h"

#include <boost/json.hpp>

#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const boost::json::object variables =
      boost::json::parse(R"({"messages":[{"role":"system","content":"Be brief."},
                            {"role":"user","content":"Hi"}],
                            "add_generation_prompt":true,"bos_token":"<s>","eos_token":"</s>"})")
          .as_object();
  pluq::fuzz::taken([&] {
    const auto parsed = pluq::ChatTemplate::parse(pluq::fuzz::text(data, size), "template");
    parsed->render(variables, 1'700'000'000);
  });
  return 0;
}
