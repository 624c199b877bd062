// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/gguf_model.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>

#include "base/error.h"
#include "checkpoint/dtype.h"

namespace pluq {
namespace {

namespace json = boost::json;

// How one architecture of GGUF is named in HF. Tensors of a block are "blk.N.<from>.weight" there
// and "model.layers.N.<to>.weight" here.
struct BlockTensor {
  const char* from;
  const char* to;
  enum Permute {
    kNone,
    kQueryHeads,
    kKeyHeads
  } permute;  // llama.cpp interleaves the halves of each rotary head
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

class Description {
 public:
  explicit Description(const GgufFile& file) : file_(file) {}

  GgufModel run() {
    const std::string name = file_.string("general.architecture").value_or("");
    const auto it = std::find_if(std::begin(kArchitectures), std::end(kArchitectures),
                                 [&](const Architecture& a) { return name == a.gguf; });
    if (it == std::end(kArchitectures)) {
      std::string supported;
      for (const Architecture& a : kArchitectures)
        supported += (supported.empty() ? "" : ", ") + std::string(a.gguf);
      fail_input("{}: architecture '{}' is not supported; supported are {}", file_.path(),
                 printable(name), supported);
    }
    architecture_ = it;
    GgufModel out;
    out.config = make_config();
    out.tensors = map_tensors();
    return out;
  }

 private:
  std::string key(const char* name) const { return std::string(architecture_->gguf) + "." + name; }
  int64_t size(const char* name, std::optional<int64_t> otherwise = std::nullopt) const {
    const auto value = file_.integer(key(name));
    if (!value && !otherwise) fail_input("{}: key '{}' is missing", file_.path(), key(name));
    const int64_t v = value ? *value : *otherwise;
    if (v < 1 || v > (int64_t{1} << 30))
      fail_input("{}: key '{}' is {}, expected 1 to 2^30", file_.path(), key(name), v);
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
      fail_input("{}: tensor 'token_embd.weight' is missing or not a matrix", file_.path());
    }
    json::object config{
        {"architectures", json::array{architecture_->hf}},
        {"model_type", architecture_->model_type},
        {"hidden_size", hidden_},
        {"intermediate_size", size("feed_forward_length")},
        {"num_hidden_layers", layers_},
        {"num_attention_heads", heads_},
        {"num_key_value_heads", kv_heads_},
        {"head_dim", head_dim_},
        {"vocab_size", embedding->shape[0]},
        {"max_position_embeddings", size("context_length")},
        {"rms_norm_eps",
         shortest(file_.real(key("attention.layer_norm_rms_epsilon")).value_or(1e-5))},
        {"hidden_act", "silu"},
        {"attention_bias", find("blk.0.attn_q.bias") != nullptr},
        {"mlp_bias", find("blk.0.ffn_up.bias") != nullptr},
        {"tie_word_embeddings", find("output.weight") == nullptr},
        {"dtype", "float32"}};
    config["rope_parameters"] = rope();
    for (const char* which : {"bos", "eos", "padding"}) {
      if (const auto id = file_.integer(fmt::format("tokenizer.ggml.{}_token_id", which))) {
        config[std::string(which == std::string("padding") ? "pad" : which) + "_token_id"] = *id;
      }
    }
    return config;
  }

  json::object rope() const {
    json::object rope{{"rope_type", "default"},
                      {"rope_theta", shortest(file_.real(key("rope.freq_base")).value_or(10000))}};
    const std::string scaling = file_.string(key("rope.scaling.type")).value_or("none");
    if (scaling == "linear" || scaling == "yarn") {
      rope["rope_type"] = scaling;
      rope["factor"] = shortest(file_.real(key("rope.scaling.factor")).value_or(1));
      if (const auto original = file_.integer(key("rope.scaling.original_context_length"))) {
        rope["original_max_position_embeddings"] = *original;
      }
    } else if (scaling != "none") {
      fail_input("{}: rope scaling '{}' is not supported; supported are none, linear, yarn",
                 file_.path(), printable(scaling));
    }
    if (find("rope_freqs.weight") != nullptr) {
      fail_input(
          "{}: has a table of rotary factors (rope_freqs.weight), whose llama3 parameters are not "
          "in the file; "
          "such files are not supported",
          file_.path());
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
  const TensorView* find(const std::string& name) const {
    for (const TensorView& t : file_.tensors()) {
      if (t.name == name) return &t;
    }
    return nullptr;
  }

  std::vector<GgufTensor> map_tensors() const {
    std::vector<GgufTensor> out;
    for (const TensorView& t : file_.tensors()) out.push_back(map_tensor(t));
    std::sort(out.begin(), out.end(),
              [](const GgufTensor& a, const GgufTensor& b) { return a.name < b.name; });
    return out;
  }

  GgufTensor map_tensor(const TensorView& t) const {
    if (t.name == "token_embd.weight") return {"model.embed_tokens.weight", &t};
    if (t.name == "output_norm.weight") return {"model.norm.weight", &t};
    if (t.name == "output.weight") return {"lm_head.weight", &t};
    const size_t first = t.name.find('.'), second = t.name.find('.', first + 1),
                 last = t.name.rfind('.');
    if (t.name.rfind("blk.", 0) == 0 && second != std::string::npos && last > second) {
      const std::string number = t.name.substr(first + 1, second - first - 1),
                        middle = t.name.substr(second + 1, last - second - 1);
      const std::string tail = t.name.substr(last + 1);
      const bool digits = !number.empty() && number.size() < 6 &&
                          number.find_first_not_of("0123456789") == std::string::npos;
      for (const BlockTensor& b : kLlamaBlock) {
        if (!digits || middle != b.from || (tail != "weight" && tail != "bias")) continue;
        GgufTensor s{fmt::format("model.layers.{}.{}.{}", std::stoi(number), b.to, tail), &t};
        if (b.permute != BlockTensor::kNone)
          s.heads = b.permute == BlockTensor::kQueryHeads ? heads_ : kv_heads_;
        return s;
      }
    }
    fail_input("{}: tensor '{}' is not part of a {} model as pluq knows it", file_.path(),
               printable(t.name), architecture_->gguf);
  }

  const GgufFile& file_;
  const Architecture* architecture_ = nullptr;
  int64_t hidden_ = 0, heads_ = 0, kv_heads_ = 0, head_dim_ = 0, layers_ = 0;
};

}  // namespace

GgufModel describe_gguf(const GgufFile& file) { return Description(file).run(); }

int64_t gguf_source_row(int64_t n, int64_t rows, int64_t heads) {
  if (heads == 0) return n;
  const int64_t dim = rows / heads, half = dim / 2, head = n / dim, i = n % dim;
  return head * dim + (i < half ? 2 * i : 2 * (i - half) + 1);
}

void check_gguf_heads(const GgufFile& file, const GgufTensor& t) {
  if (t.heads > 0 && (t.view->shape.empty() || t.view->shape[0] % (2 * t.heads) != 0)) {
    fail_input("{}: tensor '{}' has shape {}, which {} heads do not divide", file.path(),
               printable(t.view->name), shape_text(t.view->shape), t.heads);
  }
}

std::vector<std::byte> gguf_rows_in_order(const GgufFile& file, const GgufTensor& t) {
  check_gguf_heads(file, t);
  const int64_t rows = t.view->shape[0];  // of a vector: elements, which are scalars
  const size_t width = rows > 0 ? t.view->data.size() / static_cast<size_t>(rows) : 0;
  if (t.view->shape.size() == 1 && t.view->dtype.block_elements != 1) {
    fail_input("{}: tensor '{}' is a vector of {}, expected plain floats", file.path(),
               printable(t.view->name), dtype_name(t.view->dtype.id));
  }
  std::vector<std::byte> out(t.view->data.size());
  for (int64_t n = 0; n < rows; ++n) {
    std::memcpy(
        out.data() + static_cast<size_t>(n) * width,
        t.view->data.data() + static_cast<size_t>(gguf_source_row(n, rows, t.heads)) * width,
        width);
  }
  return out;
}

}  // namespace pluq
