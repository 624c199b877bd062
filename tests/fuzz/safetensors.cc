// SPDX-License-Identifier: Apache-2.0
// A safetensors file.
#include "checkpoint/safetensors.h"

#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const pluq::fuzz::InputFile file;
  file.write(data, size);
  pluq::fuzz::taken([] {
    const pluq::SafetensorsFile read = pluq::read_safetensors(pluq::MappedFile::open(file.path()));
    for (const pluq::TensorView& t : read.tensors) pluq::fuzz::touch(t.data);
  });
  return 0;
}
