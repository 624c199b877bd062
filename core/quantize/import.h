// SPDX-License-Identifier: Apache-2.0
// pluq import: a GGUF file as a model directory in HF layout, with plain 16- or 32-bit weights.
#pragma once

#include <boost/json/value.hpp>

#include <atomic>
#include <string>

#include "checkpoint/gguf.h"
#include "tokenizer/gguf_vocabulary.h"

namespace pluq {

struct ImportOptions {
  std::string input, output;
  uint32_t dtype_id = PLUQ_DTYPE_BF16;  // BF16, F16 or F32
  bool quiet = false;
  const std::atomic<bool>* cancel = nullptr;
};

struct ImportReport {
  int64_t tensors = 0;
  uint64_t bytes = 0;
};

// Throws Error naming file, tensor or key; leaves nothing behind on error.
ImportReport import_gguf(const ImportOptions& options);

GgufVocabulary read_gguf_vocabulary(const GgufFile& file);

}  // namespace pluq
