// SPDX-License-Identifier: Apache-2.0
#include "quantize/import.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "base/progress.h"
#include "checkpoint/convert.h"
#include "checkpoint/dtype.h"
#include "checkpoint/writer.h"
#include "pluq/gguf.hpp"

namespace pluq {
namespace {

namespace json = boost::json;

// How one architecture of GGUF is named in HF. Tensors of a block are "blk.N.<from>.weight" there and
// "model.layers.N.<to>.weight" here.
struct BlockTensor {
  const char* from;
  const char* to;
  enum Permute { kNone, kQueryHeads, kKeyHeads } permute;  // llama.cpp interleaves the halves of each rotary head
};
constexpr BlockTensor kLlamaBlock[] = {
    {"attn_norm", "input_layernorm", BlockTensor::kNone},
    {"attn_q", "self_attn.q_proj", BlockTensor::kQueryHeads},
    {"attn_k", "self_attn.k_proj", BlockTensor::kKeyHeads},
    {"attn_v", "self_attn.v_proj", BlockTensor::kNone},
    {"attn_output", "self_attn.o_proj", BlockTensor::kNone},
    {"ffn_norm", "post_attention_layernorm", BlockTensor::kNone},
    {"ffn_gate", "mlp.gate_proj", BlockTensor::kNone},
    {"ffn_up", "mlp.up_proj", BlockTensor::kNone},
    {"ffn_down", "mlp.down_proj", BlockTensor::kNone},
};
struct Architecture {
  const char* gguf;
  const char* hf;
  const char* model_type;
};
constexpr Architecture kArchitectures[] = {{"llama", "LlamaForCausalLM", "llama"}};

struct Source {
  std::string name;  // HF
  const TensorView* view;
  int64_t heads = 0;  // > 0: undo the interleaving of this many heads
};

class Import {
 public:
  explicit Import(const ImportOptions& options) : options_(options), file_(GgufFile::open(options.input)) {}

  ImportReport run() {
    const std::string name = file_->string("general.architecture").value_or("");
    const auto it = std::find_if(std::begin(kArchitectures), std::end(kArchitectures), [&](const Architecture& a) { return name == a.gguf; });
    if (it == std::end(kArchitectures)) {
      std::string supported;
      for (const Architecture& a : kArchitectures) supported += (supported.empty() ? "" : ", ") + std::string(a.gguf);
      fail_input("{}: architecture '{}' is not supported; supported are {}", options_.input, printable(name), supported);
    }
    architecture_ = it;
    const json::value config = make_config();
    const std::vector<Source> sources = map_tensors();
    const GgufVocabulary vocabulary = read_gguf_vocabulary(*file_);
    const json::value tokenizer = tokenizer_json_from_gguf(vocabulary, options_.input);

    ModelWriter writer(options_.output, options_.input);
    for (const Source& s : sources) writer.declare(s.name, dtype_by_id(options_.dtype_id), s.view->shape);
    writer.open();
    Progress progress("importing", static_cast<int64_t>(sources.size()), options_.quiet);
    for (const Source& s : sources) {
      if (options_.cancel != nullptr && options_.cancel->load()) {
        throw Error(ErrorKind::kInterrupted, "interrupted; nothing was written");
      }
      convert(s, writer);
      progress.step(s.name);
    }
    writer.add_file("tokenizer.json", json::serialize(tokenizer) + "\n");
    writer.add_file("tokenizer_config.json", json::serialize(tokenizer_config(vocabulary)) + "\n");
    if (!vocabulary.chat_template.empty()) writer.add_file("chat_template.jinja", vocabulary.chat_template);
    writer.add_file("generation_config.json", json::serialize(generation_config(vocabulary)) + "\n");
    writer.add_file("config.json", json::serialize(config) + "\n");
    const uint64_t bytes = writer.total_bytes();
    writer.finish();
    return {static_cast<int64_t>(sources.size()), bytes};
  }

 private:
  std::string key(const char* name) const { return std::string(architecture_->gguf) + "." + name; }
  int64_t size(const char* name, std::optional<int64_t> otherwise = std::nullopt) const {
    const auto value = file_->integer(key(name));
    if (!value && !otherwise) fail_input("{}: key '{}' is missing", options_.input, key(name));
    const int64_t v = value ? *value : *otherwise;
    if (v < 1 || v > (int64_t{1} << 30)) fail_input("{}: key '{}' is {}, expected 1 to 2^30", options_.input, key(name), v);
    return v;
  }

  json::value make_config() {
    hidden_ = size("embedding_length");
    heads_ = size("attention.head_count");
    kv_heads_ = size("attention.head_count_kv", heads_);
    head_dim_ = size("attention.key_length", hidden_ / std::max<int64_t>(heads_, 1));
    layers_ = size("block_count");
    const TensorView* embedding = find("token_embd.weight");
    if (embedding == nullptr || embedding->shape.size() != 2) {
      fail_input("{}: tensor 'token_embd.weight' is missing or not a matrix", options_.input);
    }
    json::object config{{"architectures", json::array{architecture_->hf}},
                        {"model_type", architecture_->model_type},
                        {"hidden_size", hidden_},
                        {"intermediate_size", size("feed_forward_length")},
                        {"num_hidden_layers", layers_},
                        {"num_attention_heads", heads_},
                        {"num_key_value_heads", kv_heads_},
                        {"head_dim", head_dim_},
                        {"vocab_size", embedding->shape[0]},
                        {"max_position_embeddings", size("context_length")},
                        {"rms_norm_eps", shortest(file_->real(key("attention.layer_norm_rms_epsilon")).value_or(1e-5))},
                        {"hidden_act", "silu"},
                        {"attention_bias", find("blk.0.attn_q.bias") != nullptr},
                        {"mlp_bias", find("blk.0.ffn_up.bias") != nullptr},
                        {"tie_word_embeddings", find("output.weight") == nullptr},
                        {"dtype", dtype_text()}};
    config["rope_parameters"] = rope();
    for (const char* which : {"bos", "eos", "padding"}) {
      if (const auto id = file_->integer(fmt::format("tokenizer.ggml.{}_token_id", which))) {
        config[std::string(which == std::string("padding") ? "pad" : which) + "_token_id"] = *id;
      }
    }
    return config;
  }

  json::object rope() const {
    json::object rope{{"rope_type", "default"}, {"rope_theta", shortest(file_->real(key("rope.freq_base")).value_or(10000))}};
    const std::string scaling = file_->string(key("rope.scaling.type")).value_or("none");
    if (scaling == "linear" || scaling == "yarn") {
      rope["rope_type"] = scaling;
      rope["factor"] = shortest(file_->real(key("rope.scaling.factor")).value_or(1));
      if (const auto original = file_->integer(key("rope.scaling.original_context_length"))) {
        rope["original_max_position_embeddings"] = *original;
      }
    } else if (scaling != "none") {
      fail_input("{}: rope scaling '{}' is not supported; supported are none, linear, yarn", options_.input, printable(scaling));
    }
    if (find("rope_freqs.weight") != nullptr) {
      fail_input("{}: has a table of rotary factors (rope_freqs.weight), which a model directory states as llama3 parameters "
                 "that this file does not hold; import is not possible", options_.input);
    }
    return rope;
  }

  // GGUF stores reals as f32; the shortest decimal that means the same f32 is what was meant.
  static double shortest(double value) {
    const std::string text = fmt::format("{}", static_cast<float>(value));
    double out = value;
    std::from_chars(text.data(), text.data() + text.size(), out);
    return out;
  }
  const char* dtype_text() const {
    return options_.dtype_id == PLUQ_DTYPE_F32 ? "float32" : options_.dtype_id == PLUQ_DTYPE_F16 ? "float16" : "bfloat16";
  }

  const TensorView* find(const std::string& name) const {
    for (const TensorView& t : file_->tensors()) {
      if (t.name == name) return &t;
    }
    return nullptr;
  }

  std::vector<Source> map_tensors() const {
    std::vector<Source> out;
    for (const TensorView& t : file_->tensors()) out.push_back(map_tensor(t));
    std::sort(out.begin(), out.end(), [](const Source& a, const Source& b) { return a.name < b.name; });
    return out;
  }

  Source map_tensor(const TensorView& t) const {
    if (t.name == "token_embd.weight") return {"model.embed_tokens.weight", &t};
    if (t.name == "output_norm.weight") return {"model.norm.weight", &t};
    if (t.name == "output.weight") return {"lm_head.weight", &t};
    const size_t first = t.name.find('.'), second = t.name.find('.', first + 1), last = t.name.rfind('.');
    if (t.name.rfind("blk.", 0) == 0 && second != std::string::npos && last > second) {
      const std::string number = t.name.substr(first + 1, second - first - 1), middle = t.name.substr(second + 1, last - second - 1);
      const std::string tail = t.name.substr(last + 1);
      const bool digits = !number.empty() && number.size() < 6 && number.find_first_not_of("0123456789") == std::string::npos;
      for (const BlockTensor& b : kLlamaBlock) {
        if (!digits || middle != b.from || (tail != "weight" && tail != "bias")) continue;
        Source s{fmt::format("model.layers.{}.{}.{}", std::stoi(number), b.to, tail), &t};
        if (b.permute != BlockTensor::kNone) s.heads = b.permute == BlockTensor::kQueryHeads ? heads_ : kv_heads_;
        return s;
      }
    }
    fail_input("{}: tensor '{}' is not part of a {} model as pluq knows it", options_.input, printable(t.name), architecture_->gguf);
  }

  // Row n of the HF tensor is which row of the GGUF tensor? llama.cpp stores the rows of a head as pairs (i, i + half).
  static int64_t source_row(int64_t n, int64_t rows, int64_t heads) {
    if (heads == 0) return n;
    const int64_t dim = rows / heads, half = dim / 2, head = n / dim, i = n % dim;
    return head * dim + (i < half ? 2 * i : 2 * (i - half) + 1);
  }

  void convert(const Source& s, ModelWriter& writer) const {
    const TensorView& v = *s.view;
    // A vector is one row, so that its blocks stay whole.
    const int64_t k = v.shape.empty() ? 1 : v.shape.back();
    const int64_t rows = v.elements() / std::max<int64_t>(k, 1);
    const bool vector = v.shape.size() < 2;
    if (s.heads > 0 && ((vector ? k : rows) % (2 * s.heads)) != 0) {
      fail_input("{}: tensor '{}' has shape {}, which {} heads do not divide", options_.input, v.name, shape_text(v.shape), s.heads);
    }
    const uint32_t type = v.dtype.id >= PLUQ_DTYPE_GGML_BASE ? v.dtype.id - PLUQ_DTYPE_GGML_BASE
                          : v.dtype.id == PLUQ_DTYPE_F32     ? gguf::kF32
                          : v.dtype.id == PLUQ_DTYPE_F16     ? gguf::kF16
                                                             : gguf::kBF16;
    const size_t row_bytes = rows > 0 ? v.data.size() / static_cast<size_t>(rows) : 0;
    const auto width = static_cast<size_t>(k) * dtype_by_id(options_.dtype_id).block_bytes;
    std::vector<float> values(static_cast<size_t>(k)), ordered(values.size());
    std::vector<std::byte> bytes(width);
    for (int64_t n = 0; n < rows; ++n) {
      const int64_t from = vector ? 0 : source_row(n, rows, s.heads);
      if (!gguf::dequantize_row(type, v.data.data() + static_cast<size_t>(from) * row_bytes, values.data(), k)) {
        fail_input("{}: tensor '{}' of type {} cannot be decoded", options_.input, v.name, dtype_name(v.dtype.id));
      }
      if (vector && s.heads > 0) {
        for (int64_t i = 0; i < k; ++i) ordered[static_cast<size_t>(i)] = values[static_cast<size_t>(source_row(i, k, s.heads))];
        values = ordered;
      }
      from_f32(options_.dtype_id, values, bytes.data());
      writer.write(s.name, vector ? 0 : n, vector ? k : n + 1, bytes);
    }
  }

  static json::object tokenizer_config(const GgufVocabulary& v) {
    json::object out{{"tokenizer_class", "PreTrainedTokenizerFast"}};
    const auto token = [&](const char* name, const std::optional<int32_t>& id) {
      if (id && *id >= 0 && static_cast<size_t>(*id) < v.tokens.size()) out[name] = v.tokens[static_cast<size_t>(*id)];
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
  const Architecture* architecture_ = nullptr;
  int64_t hidden_ = 0, heads_ = 0, kv_heads_ = 0, head_dim_ = 0, layers_ = 0;
};

}  // namespace

ImportReport import_gguf(const ImportOptions& options) { return Import(options).run(); }

GgufVocabulary read_gguf_vocabulary(const GgufFile& file) {
  GgufVocabulary v;
  v.model = file.string("tokenizer.ggml.model").value_or("");
  v.pre = file.string("tokenizer.ggml.pre").value_or("");
  if (const auto* tokens = file.strings("tokenizer.ggml.tokens")) v.tokens = *tokens;
  if (const auto* merges = file.strings("tokenizer.ggml.merges")) v.merges = *merges;
  if (const auto* scores = file.reals("tokenizer.ggml.scores")) v.scores.assign(scores->begin(), scores->end());
  if (const auto* types = file.integers("tokenizer.ggml.token_type")) {
    for (const int64_t t : *types) v.token_types.push_back(checked_cast<int32_t>(t, "tokenizer.ggml.token_type"));
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
