// SPDX-License-Identifier: Apache-2.0
#include "quantize/import.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "base/progress.h"
#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "checkpoint/gguf_model.h"
#include "checkpoint/writer.h"
#include "pluq/gguf.hpp"

namespace pluq {
namespace {

namespace json = boost::json;

class Import {
 public:
  explicit Import(const ImportOptions& options)
      : options_(options), file_(GgufFile::open(options.input)) {}

  ImportReport run() {
    GgufModel model = describe_gguf(*file_);
    model.config.as_object()["dtype"] = dtype_text();
    const GgufVocabulary vocabulary = read_gguf_vocabulary(*file_);
    const json::value tokenizer = tokenizer_json_from_gguf(vocabulary, options_.input);

    ModelWriter writer(options_.output, options_.input);
    for (const GgufTensor& s : model.tensors)
      writer.declare(s.name, dtype_by_id(options_.dtype_id), s.view.shape);
    writer.open();
    Progress progress("importing", static_cast<int64_t>(model.tensors.size()), options_.quiet);
    for (const GgufTensor& s : model.tensors) {
      if (options_.cancel != nullptr && options_.cancel->load()) {
        throw Error(ErrorKind::kInterrupted, "interrupted; nothing was written");
      }
      convert(s, writer);
      progress.step(s.name);
    }
    writer.add_file("tokenizer.json", json::serialize(tokenizer) + "\n");
    writer.add_file("tokenizer_config.json", json::serialize(tokenizer_config(vocabulary)) + "\n");
    if (!vocabulary.chat_template.empty())
      writer.add_file("chat_template.jinja", vocabulary.chat_template);
    writer.add_file("generation_config.json",
                    json::serialize(generation_config(vocabulary)) + "\n");
    writer.add_file("config.json", json::serialize(model.config) + "\n");
    const uint64_t bytes = writer.total_bytes();
    writer.finish();
    return {static_cast<int64_t>(model.tensors.size()), bytes};
  }

 private:
  const char* dtype_text() const {
    return options_.dtype_id == PLUQ_DTYPE_F32   ? "float32"
           : options_.dtype_id == PLUQ_DTYPE_F16 ? "float16"
                                                 : "bfloat16";
  }

  void convert(const GgufTensor& s, ModelWriter& writer) const {
    const TensorView& v = s.view;
    // A vector is one row, so that its blocks stay whole.
    const int64_t k = v.shape.empty() ? 1 : v.shape.back();
    const int64_t rows = v.elements() / std::max<int64_t>(k, 1);
    const bool vector = v.shape.size() < 2;
    check_gguf_heads(*file_, s);
    const uint32_t type = v.dtype.id >= PLUQ_DTYPE_GGML_BASE ? v.dtype.id - PLUQ_DTYPE_GGML_BASE
                          : v.dtype.id == PLUQ_DTYPE_F32     ? gguf::kF32
                          : v.dtype.id == PLUQ_DTYPE_F16     ? gguf::kF16
                                                             : gguf::kBF16;
    const size_t row_bytes = rows > 0 ? v.data.size() / static_cast<size_t>(rows) : 0;
    const auto width = static_cast<size_t>(k) * dtype_by_id(options_.dtype_id).block_bytes;
    std::vector<float> values(static_cast<size_t>(k)), ordered(values.size());
    std::vector<std::byte> bytes(width);
    for (int64_t n = 0; n < rows; ++n) {
      const int64_t from = vector ? 0 : gguf_source_row(n, rows, s.heads);
      if (!gguf::dequantize_row(type, v.data.data() + static_cast<size_t>(from) * row_bytes,
                                values.data(), k)) {
        fail_input("{}: tensor '{}' of type {} cannot be decoded", options_.input, v.name,
                   dtype_name(v.dtype.id));
      }
      if (vector && s.heads > 0) {
        for (int64_t i = 0; i < k; ++i)
          ordered[static_cast<size_t>(i)] =
              values[static_cast<size_t>(gguf_source_row(i, k, s.heads))];
        values = ordered;
      }
      if (s.add != 0) {
        for (float& value : values) value += s.add;
      }
      from_f32(options_.dtype_id, values, bytes.data());
      writer.write(s.name, vector ? 0 : n, vector ? k : n + 1, bytes);
    }
  }

  static json::object tokenizer_config(const GgufVocabulary& v) {
    json::object out{{"tokenizer_class", "PreTrainedTokenizerFast"}};
    const auto token = [&](const char* name, const std::optional<int32_t>& id) {
      if (id && *id >= 0 && static_cast<size_t>(*id) < v.tokens.size())
        out[name] = v.tokens[static_cast<size_t>(*id)];
    };
    token("bos_token", v.bos);
    token("eos_token", v.eos);
    token("unk_token", v.unk);
    token("pad_token", v.pad);
    if (!v.chat_template.empty()) out["chat_template"] = v.chat_template;
    return out;
  }
  static json::object generation_config(const GgufVocabulary& v) {
    json::object out;
    if (v.bos) out["bos_token_id"] = *v.bos;
    if (v.eos) out["eos_token_id"] = *v.eos;
    return out;
  }

  const ImportOptions& options_;
  std::shared_ptr<const GgufFile> file_;
};

}  // namespace

ImportReport import_gguf(const ImportOptions& options) { return Import(options).run(); }

GgufVocabulary read_gguf_vocabulary(const GgufFile& file) {
  GgufVocabulary v;
  v.model = file.string("tokenizer.ggml.model").value_or("");
  v.pre = file.string("tokenizer.ggml.pre").value_or("");
  if (const auto* tokens = file.strings("tokenizer.ggml.tokens")) v.tokens = *tokens;
  if (const auto* merges = file.strings("tokenizer.ggml.merges")) v.merges = *merges;
  if (const auto* scores = file.reals("tokenizer.ggml.scores"))
    v.scores.assign(scores->begin(), scores->end());
  if (const auto* types = file.integers("tokenizer.ggml.token_type")) {
    for (const int64_t t : *types)
      v.token_types.push_back(checked_cast<int32_t>(t, "tokenizer.ggml.token_type"));
  }
  const auto id = [&](const char* name) -> std::optional<int32_t> {
    const auto value = file.integer(name);
    if (!value) return std::nullopt;
    return checked_cast<int32_t>(*value, name);
  };
  v.bos = id("tokenizer.ggml.bos_token_id");
  v.eos = id("tokenizer.ggml.eos_token_id");
  v.unk = id("tokenizer.ggml.unknown_token_id");
  v.pad = id("tokenizer.ggml.padding_token_id");
  v.add_bos = file.boolean("tokenizer.ggml.add_bos_token");
  v.add_eos = file.boolean("tokenizer.ggml.add_eos_token");
  v.add_space_prefix = file.boolean("tokenizer.ggml.add_space_prefix");
  v.chat_template = file.string("tokenizer.chat_template").value_or("");
  return v;
}

}  // namespace pluq
