// SPDX-License-Identifier: Apache-2.0
// A GGUF file seen as a model in HF layout: names, config, and the order of rows of rotary heads.
// Running and importing share it.
#pragma once

#include <boost/json/value.hpp>

#include <cstddef>
#include <string>
#include <vector>

#include "checkpoint/gguf.h"

namespace pluq {

struct GgufTensor {
  std::string name;   // HF
  TensorView view;    // of the file, under its GGUF name; one expert's part of a tensor of several
  int64_t heads = 0;  // > 0: rows of so many heads are interleaved, see gguf_source_row
  float add = 0;      // to every value: GGUF stores Gemma's norms with 1 added
  bool as_stored() const { return heads == 0 && add == 0; }
};

struct GgufModel {
  boost::json::value config;        // what config.json would say; its "dtype" is float32
  std::vector<GgufTensor> tensors;  // sorted by name
};

// Throws Error(kInput) naming the file and the key or tensor that is missing, wrong or not known.
GgufModel describe_gguf(const GgufFile& file);

// Row n of the HF tensor is which row of the GGUF tensor? llama.cpp stores the rows of a head as
// pairs (i, i + half).
int64_t gguf_source_row(int64_t n, int64_t rows, int64_t heads);

// Throws Error(kInput) when the heads do not divide the tensor's rows.
void check_gguf_heads(const GgufFile& file, const GgufTensor& t);

// The tensor's bytes as HF has them: rows in order, `add` added. Throws Error(kInput) as above, and
// when values are to be changed in a tensor that is not f32.
std::vector<std::byte> gguf_hf_bytes(const GgufFile& file, const GgufTensor& t);

}  // namespace pluq
