// SPDX-License-Identifier: Apache-2.0
// A GGUF file: its metadata, and what it says as a model and as a vocabulary.
#include "checkpoint/gguf.h"

#include "checkpoint/gguf_model.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const pluq::fuzz::InputFile input;
  input.write(data, size);
  pluq::fuzz::taken([] {
    const auto file = pluq::GgufFile::open(input.path());
    for (const pluq::TensorView& t : file->tensors()) pluq::fuzz::touch(t.data);
    const pluq::GgufModel model = pluq::describe_gguf(*file);
    for (const pluq::GgufTensor& t : model.tensors) {
      pluq::check_gguf_heads(*file, t);
      pluq::fuzz::touch(pluq::gguf_hf_bytes(*file, t));
    }
  });
  return 0;
}
