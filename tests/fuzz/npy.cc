// SPDX-License-Identifier: Apache-2.0
// A .npy file of --x.
#include "base/npy.h"

#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const pluq::fuzz::InputFile input;
  input.write(data, size);
  pluq::fuzz::taken([] { pluq::read_npy(input.path()); });
  return 0;
}
