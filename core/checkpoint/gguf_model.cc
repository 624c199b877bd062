// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/gguf_model.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"
#include "checkpoint/dtype.h"

namespace pluq {
namespace {

namespace json = boost::json;

// Tensors of a block are "blk.N.<from>.weight" in GGUF and "model.layers.N.<to>.weight" in HF.
struct BlockTensor {
  const char* from;
  const char* to;
};

constexpr BlockTensor kCommonBlock[] = {
    {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},      {"attn_qkv", "self_attn.qkv_proj"},
    {"attn_output", "self_attn.o_proj"}, {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"}, {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},           {"ffn_down", "mlp.down_proj"},
};
// Where the norms of a block are: before attention and MLP, after them, or on both sides.
constexpr BlockTensor kNormsBefore[] = {{"attn_norm", "input_layernorm"},
                                        {"ffn_norm", "post_attention_layernorm"}};
constexpr BlockTensor kNormsAfter[] = {{"post_attention_norm", "post_attention_layernorm"},
                                       {"post_ffw_norm", "post_feedforward_layernorm"}};
constexpr BlockTensor kNormsAround[] = {{"attn_norm", "input_layernorm"},
                                        {"post_attention_norm", "post_attention_layernorm"},
                                        {"ffn_norm", "pre_feedforward_layernorm"},
                                        {"post_ffw_norm", "post_feedforward_layernorm"}};

// One tensor holds all experts: [experts, N, K].
struct Experts {
  const char* router;
  const char* prefix;
  const char *gate, *up, *down;
  const char* count;  // keys of config.json
  const char* width;
};
constexpr Experts kMixtral{"block_sparse_moe.gate", "block_sparse_moe.experts", "w1", "w3", "w2",
                           "num_local_experts",     "intermediate_size"};
constexpr Experts kQwenMoe{
    "mlp.gate",    "mlp.experts",          "gate_proj", "up_proj", "down_proj",
    "num_experts", "moe_intermediate_size"};
constexpr Experts kOlmoe{"mlp.gate",  "mlp.experts", "gate_proj",        "up_proj",
                         "down_proj", "num_experts", "intermediate_size"};

// Facts of llama.cpp's converter (convert_hf_to_gguf.py) and of its graphs (src/llama-model.cpp).
struct Architecture {
  const char* gguf;
  const char* hf;
  const char* model_type;
  std::span<const BlockTensor> norms = kNormsBefore;
  bool interleaved = false;    // the halves of each rotary head of q and k
  bool norm_plus_one = false;  // norms are stored with 1 added
  int64_t full_every = 0;      // > 0: every so many-th layer attends to all, the others to a window
  int64_t layers_of_27b = 0;   // queries of that size scale by hidden / heads, not head_dim
  const Experts* experts = nullptr;
  const char* activation = "silu";
};
constexpr Architecture kArchitectures[] = {
    {.gguf = "llama", .hf = "LlamaForCausalLM", .model_type = "llama", .interleaved = true},
    {.gguf = "qwen2", .hf = "Qwen2ForCausalLM", .model_type = "qwen2"},
    {.gguf = "qwen3", .hf = "Qwen3ForCausalLM", .model_type = "qwen3"},
    {.gguf = "qwen3moe",
     .hf = "Qwen3MoeForCausalLM",
     .model_type = "qwen3_moe",
     .experts = &kQwenMoe},
    {.gguf = "phi3", .hf = "Phi3ForCausalLM", .model_type = "phi3"},
    {.gguf = "gemma",
     .hf = "GemmaForCausalLM",
     .model_type = "gemma",
     .norm_plus_one = true,
     .activation = "gelu_pytorch_tanh"},
    {.gguf = "gemma2",
     .hf = "Gemma2ForCausalLM",
     .model_type = "gemma2",
     .norms = kNormsAround,
     .norm_plus_one = true,
     .full_every = 2,
     .layers_of_27b = 46,
     .activation = "gelu_pytorch_tanh"},
    {.gguf = "gemma3",
     .hf = "Gemma3ForCausalLM",
     .model_type = "gemma3_text",
     .norms = kNormsAround,
     .norm_plus_one = true,
     .full_every = 6,
     .layers_of_27b = 62,
     .activation = "gelu_pytorch_tanh"},
    {.gguf = "granite", .hf = "GraniteForCausalLM", .model_type = "granite", .interleaved = true},
    {.gguf = "olmo2", .hf = "Olmo2ForCausalLM", .model_type = "olmo2", .norms = kNormsAfter},
    {.gguf = "olmoe", .hf = "OlmoeForCausalLM", .model_type = "olmoe", .experts = &kOlmoe},
    {.gguf = "smollm3", .hf = "SmolLM3ForCausalLM", .model_type = "smollm3", .interleaved = true},
};
// "llama" with experts.
constexpr Architecture kMixtralArchitecture{.gguf = "llama",
                                            .hf = "MixtralForCausalLM",
                                            .model_type = "mixtral",
                                            .interleaved = true,
                                            .experts = &kMixtral};

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
    const bool mixtral = name == "llama" && file_.integer("llama.expert_count").value_or(0) > 0;
    architecture_ = mixtral ? &kMixtralArchitecture : it;
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
        {"hidden_act", architecture_->activation},
        {"hidden_activation", architecture_->activation},
        {"attention_bias", find("blk.0.attn_q.bias") != nullptr},
        {"mlp_bias", find("blk.0.ffn_up.bias") != nullptr},
        {"tie_word_embeddings", find("output.weight") == nullptr},
        {"dtype", "float32"}};
    add_attention(config);
    add_experts(config);
    const json::object full = rope();
    if (architecture_->layers_of_27b == 62) {  // Gemma 3: windows have their own rotation
      const double local = file_.real(key("rope.freq_base_swa")).value_or(10000);
      config["rope_parameters"] = json::object{
          {"full_attention", full},
          {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", shortest(local)}}}};
    } else {
      config["rope_parameters"] = full;
    }
    if (const auto it = full.find("original_max_position_embeddings"); it != full.end()) {
      config["original_max_position_embeddings"] = it->value();
    }
    for (const char* which : {"bos", "eos", "padding"}) {
      if (const auto id = file_.integer(fmt::format("tokenizer.ggml.{}_token_id", which))) {
        config[std::string(which == std::string("padding") ? "pad" : which) + "_token_id"] = *id;
      }
    }
    return config;
  }

  void add_attention(json::object& config) const {
    const std::pair<const char*, const char*> reals[] = {
        {"attn_logit_softcapping", "attn_logit_softcapping"},
        {"final_logit_softcapping", "final_logit_softcapping"},
        {"embedding_scale", "embedding_multiplier"},
        {"residual_scale", "residual_multiplier"},
        {"attention.scale", "attention_multiplier"},
        {"logit_scale", "logits_scaling"},
        {"attention.clamp_kqv", "clip_qkv"}};
    for (const auto& [from, to] : reals) {
      if (const auto value = file_.real(key(from))) config[to] = shortest(*value);
    }
    if (const auto window = file_.integer(key("attention.sliding_window")); window && *window > 0) {
      config["sliding_window"] = *window;
    }
    if (architecture_->full_every > 0) {
      json::array types;
      for (int64_t i = 0; i < layers_; ++i) {
        const bool full = (i + 1) % architecture_->full_every == 0;
        types.emplace_back(full ? "full_attention" : "sliding_attention");
      }
      config["layer_types"] = std::move(types);
      config["query_pre_attn_scalar"] =
          layers_ == architecture_->layers_of_27b ? hidden_ / heads_ : head_dim_;
    }
  }

  void add_experts(json::object& config) {
    if (architecture_->experts == nullptr) return;
    experts_ = size("expert_count");
    config[architecture_->experts->count] = experts_;
    config["num_experts_per_tok"] = size("expert_used_count");
    config[architecture_->experts->width] =
        size("expert_feed_forward_length", size("feed_forward_length"));
    config["norm_topk_prob"] = architecture_->experts == &kQwenMoe;
  }

  json::object rope() const {
    json::object rope{{"rope_type", "default"},
                      {"rope_theta", shortest(file_.real(key("rope.freq_base")).value_or(10000))}};
    if (const auto dims = file_.integer(key("rope.dimension_count")); dims && *dims < head_dim_) {
      rope["partial_rotary_factor"] = static_cast<double>(*dims) / static_cast<double>(head_dim_);
    }
    const std::string scaling = file_.string(key("rope.scaling.type")).value_or("none");
    const auto original = file_.integer(key("rope.scaling.original_context_length"));
    if (original) rope["original_max_position_embeddings"] = *original;
    if (scaling == "linear" || scaling == "yarn") {
      rope["rope_type"] = scaling;
      rope["factor"] = shortest(file_.real(key("rope.scaling.factor")).value_or(1));
    } else if (scaling != "none" && scaling != "longrope") {
      fail_input(
          "{}: rope scaling '{}' is not supported; supported are none, linear, yarn, longrope",
          file_.path(), printable(scaling));
    }
    // Tables of divisors of the frequencies: one for all lengths (Llama 3), or two.
    const TensorView* all = find("rope_freqs.weight");
    const TensorView* shorts = all != nullptr ? all : find("rope_factors_short.weight");
    const TensorView* longs = all != nullptr ? all : find("rope_factors_long.weight");
    if (shorts != nullptr && longs != nullptr) {
      rope["rope_type"] = "longrope";
      rope["short_factor"] = factors(*shorts);
      rope["long_factor"] = factors(*longs);
      rope["attention_factor"] = shortest(file_.real(key("rope.scaling.attn_factor")).value_or(1));
      if (!original) rope["original_max_position_embeddings"] = size("context_length");
    }
    return rope;
  }

  json::array factors(const TensorView& t) const {
    if (t.dtype.id != PLUQ_DTYPE_F32 || t.shape.size() != 1 || t.shape[0] > 4096) {
      fail_input("{}: tensor '{}' is {} {}, expected at most 4096 f32", file_.path(),
                 printable(t.name), dtype_name(t.dtype.id), shape_text(t.shape));
    }
    json::array out;
    for (int64_t i = 0; i < t.shape[0]; ++i) {
      float value = 0;
      std::memcpy(&value, t.data.data() + static_cast<size_t>(i) * sizeof value, sizeof value);
      out.emplace_back(shortest(value));
    }
    return out;
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
    for (const TensorView& t : file_.tensors()) map_tensor(t, out);
    std::sort(out.begin(), out.end(),
              [](const GgufTensor& a, const GgufTensor& b) { return a.name < b.name; });
    return out;
  }

  // "blk.N.MIDDLE.TAIL"; nothing for other names.
  struct BlockName {
    int block;
    std::string middle, tail;
  };
  static std::optional<BlockName> block_name(const std::string& name) {
    const size_t first = name.find('.'), second = name.find('.', first + 1), last = name.rfind('.');
    if (name.rfind("blk.", 0) != 0 || second == std::string::npos || last <= second) return {};
    const std::string number = name.substr(first + 1, second - first - 1);
    if (number.empty() || number.size() > 5 ||
        number.find_first_not_of("0123456789") != std::string::npos) {
      return {};
    }
    return BlockName{std::stoi(number), name.substr(second + 1, last - second - 1),
                     name.substr(last + 1)};
  }

  void map_tensor(const TensorView& t, std::vector<GgufTensor>& out) const {
    const float norm = architecture_->norm_plus_one ? -1.0F : 0.0F;
    if (t.name == "token_embd.weight") {
      out.push_back({"model.embed_tokens.weight", t});
      return;
    }
    if (t.name == "output_norm.weight") {
      out.push_back({"model.norm.weight", t, 0, norm});
      return;
    }
    if (t.name == "output.weight") {
      out.push_back({"lm_head.weight", t});
      return;
    }
    if (t.name.rfind("rope_f", 0) == 0) return;  // in the config
    const auto name = block_name(t.name);
    if (name && (name->tail == "weight" || name->tail == "bias") && map_block(t, *name, out))
      return;
    fail_input("{}: tensor '{}' is not part of a {} model as pluq knows it", file_.path(),
               printable(t.name), architecture_->gguf);
  }

  bool map_block(const TensorView& t, const BlockName& name, std::vector<GgufTensor>& out) const {
    const auto add = [&](std::string_view to, int64_t heads, float plus) {
      out.push_back(
          {fmt::format("model.layers.{}.{}.{}", name.block, to, name.tail), t, heads, plus});
      return true;
    };
    const bool norm = name.middle.find("norm") != std::string::npos;
    const float plus = norm && architecture_->norm_plus_one ? -1.0F : 0.0F;
    for (const BlockTensor& b : architecture_->norms) {
      if (name.middle == b.from) return add(b.to, 0, plus);
    }
    if (architecture_->experts != nullptr && map_experts(t, name, out)) return true;
    const bool fused = find(fmt::format("blk.{}.attn_qkv.weight", name.block)) != nullptr;
    if (fused && name.middle == "ffn_up") return add("mlp.gate_up_proj", 0, 0);
    for (const BlockTensor& b : kCommonBlock) {
      if (name.middle != b.from) continue;
      const bool q = name.middle == "attn_q", k = name.middle == "attn_k";
      return add(b.to, !architecture_->interleaved ? 0 : q ? heads_ : k ? kv_heads_ : 0, plus);
    }
    return false;
  }

  bool map_experts(const TensorView& t, const BlockName& name, std::vector<GgufTensor>& out) const {
    const Experts& e = *architecture_->experts;
    const std::string layer = fmt::format("model.layers.{}", name.block);
    if (name.middle == "ffn_gate_inp") {
      out.push_back({fmt::format("{}.{}.{}", layer, e.router, name.tail), t});
      return true;
    }
    const char* to = name.middle == "ffn_gate_exps"   ? e.gate
                     : name.middle == "ffn_up_exps"   ? e.up
                     : name.middle == "ffn_down_exps" ? e.down
                                                      : nullptr;
    if (to == nullptr) return false;
    if (t.shape.size() != 3 || t.shape[0] != experts_) {
      fail_input("{}: tensor '{}' has shape {}, expected [{}, N, K], one matrix per expert",
                 file_.path(), printable(t.name), shape_text(t.shape), experts_);
    }
    const size_t bytes = t.data.size() / static_cast<size_t>(experts_);
    for (int64_t i = 0; i < experts_; ++i) {
      TensorView one = t;
      one.shape = {t.shape[1], t.shape[2]};
      one.data = t.data.subspan(static_cast<size_t>(i) * bytes, bytes);
      out.push_back({fmt::format("{}.{}.{}.{}.{}", layer, e.prefix, i, to, name.tail), one});
    }
    return true;
  }

  const GgufFile& file_;
  const Architecture* architecture_ = nullptr;
  int64_t hidden_ = 0, heads_ = 0, kv_heads_ = 0, head_dim_ = 0, layers_ = 0, experts_ = 0;
};

}  // namespace

GgufModel describe_gguf(const GgufFile& file) { return Description(file).run(); }

int64_t gguf_source_row(int64_t n, int64_t rows, int64_t heads) {
  if (heads == 0) return n;
  const int64_t dim = rows / heads, half = dim / 2, head = n / dim, i = n % dim;
  return head * dim + (i < half ? 2 * i : 2 * (i - half) + 1);
}

void check_gguf_heads(const GgufFile& file, const GgufTensor& t) {
  if (t.heads > 0 && (t.view.shape.empty() || t.view.shape[0] % (2 * t.heads) != 0)) {
    fail_input("{}: tensor '{}' has shape {}, which {} heads do not divide", file.path(),
               printable(t.view.name), shape_text(t.view.shape), t.heads);
  }
}

std::vector<std::byte> gguf_hf_bytes(const GgufFile& file, const GgufTensor& t) {
  check_gguf_heads(file, t);
  const std::span<const std::byte> data = t.view.data;
  const int64_t rows = t.view.shape[0];  // of a vector: elements, which are scalars
  const size_t width = rows > 0 ? data.size() / static_cast<size_t>(rows) : 0;
  if (t.view.shape.size() == 1 && t.view.dtype.block_elements != 1) {
    fail_input("{}: tensor '{}' is a vector of {}, expected plain floats", file.path(),
               printable(t.view.name), dtype_name(t.view.dtype.id));
  }
  if (t.add != 0 && t.view.dtype.id != PLUQ_DTYPE_F32) {
    fail_input("{}: tensor '{}' is {}, expected f32", file.path(), printable(t.view.name),
               dtype_name(t.view.dtype.id));
  }
  std::vector<std::byte> out(data.size());
  if (width == 0) return out;  // rows without columns, however many the file says there are
  for (int64_t n = 0; n < rows; ++n) {
    const auto from = static_cast<size_t>(gguf_source_row(n, rows, t.heads));
    std::memcpy(out.data() + static_cast<size_t>(n) * width, data.data() + from * width, width);
  }
  if (t.add == 0) return out;
  for (size_t i = 0; i + sizeof(float) <= out.size(); i += sizeof(float)) {
    float value = 0;
    std::memcpy(&value, out.data() + i, sizeof value);
    value += t.add;
    std::memcpy(out.data() + i, &value, sizeof value);
  }
  return out;
}

}  // namespace pluq
