// SPDX-License-Identifier: Apache-2.0
#include "model/device_model.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/checked.h"
#include "device/exec.h"
#include "model/rounding.h"
#include "plugin/host_table.h"

namespace pluq {
namespace {

DeviceActivation device_activation(Activation activation) {
  switch (activation) {
    case Activation::kGeluTanh:
      return DeviceActivation::kGeluTanh;
    case Activation::kGelu:
      return DeviceActivation::kGelu;
    case Activation::kSilu:
      break;
  }
  return DeviceActivation::kSilu;
}

constexpr int64_t kLogitRows = 16;   // rows of logits computed at a time
constexpr size_t kMostRecords = 64;  // the least recently used one goes
constexpr int64_t kFewestKeys = 256;

// Lengths up to the same power of two share a record.
int64_t bucket(int64_t keys) {
  int64_t b = kFewestKeys;
  while (b < keys) b *= 2;
  return b;
}

// Whether the engine rounds inputs at all.
bool engine_rounds() {
  const char* text = std::getenv("PLUQ_CUDA_ROUNDING");
  const std::string_view word = text == nullptr ? "" : text;
  if (word.empty() || word == "engine") return true;
  if (word == "methods") return false;
  fail_usage("PLUQ_CUDA_ROUNDING={}: unknown; accepted are engine, methods", word);
}

const RoundedRows* pointer(const std::optional<RoundedRows>& rows) {
  return rows ? &*rows : nullptr;
}

// Parts of one buffer that is copied as a whole; each begins at a multiple of 64 bytes.
class Packer {
 public:
  explicit Packer(std::vector<std::byte>* bytes) : bytes_(*bytes) { bytes_.clear(); }
  template <class T>
  size_t add(const T* values, size_t count) {
    const size_t at = (bytes_.size() + 63) / 64 * 64;
    bytes_.resize(at + count * sizeof(T));
    if (count > 0) std::memcpy(bytes_.data() + at, values, count * sizeof(T));
    return at;
  }

 private:
  std::vector<std::byte>& bytes_;
};

}  // namespace

DeviceBuffer DeviceModel::upload(const std::vector<float>& values, const char* what) const {
  DeviceBuffer out(runtime_, values.size() * sizeof(float), what);
  if (!values.empty()) runtime_->upload(out.data(), values.data(), out.bytes());
  return out;
}

DeviceBuffer DeviceModel::scratch(int64_t width, uint64_t element) const {
  return {runtime_, static_cast<uint64_t>(model_.max_tokens_ * width) * element,
          "the buffers of the forward pass"};
}

DeviceModel::DeviceModel(const Model& model, uint64_t workspace)
    : model_(model),
      runtime_(model.device_),
      ops_(runtime_->ops(model.device_dtype_)),
      workspace_bytes_(workspace) {
  const ModelConfig& c = model.config_;
  for (const Model::Layer& l : model.layers_) {
    norms_.push_back({upload(l.attention_in, "norms"), upload(l.attention_out, "norms"),
                      upload(l.mlp_in, "norms"), upload(l.mlp_out, "norms"),
                      upload(l.q_norm, "norms"), upload(l.k_norm, "norms")});
  }
  final_norm_ = upload(model.final_norm_, "norms");
  for (const Model::Rotation& r : model.rotations_) {
    rotations_.push_back({upload(r.cos, "rotations"), upload(r.sin, "rotations"), r.half});
  }
  constexpr uint64_t kHalf = sizeof(uint16_t), kFloat = sizeof(float), kInt = sizeof(int32_t);
  workspace_ = DeviceBuffer(runtime_, workspace, "the workspace of the linear layers");
  x_ = scratch(c.hidden_size, kFloat);
  h_ = scratch(c.hidden_size, kHalf);
  qkv_ = scratch((c.num_attention_heads + 2 * c.num_key_value_heads) * c.head_dim, kHalf);
  a_ = scratch(c.num_attention_heads * c.head_dim, kHalf);
  gate_up_ = scratch(2 * std::max(c.intermediate_size, c.moe_intermediate_size), kHalf);
  logit_rows_ = std::min(kLogitRows, model.max_tokens_);
  logits_ = DeviceBuffer(runtime_, static_cast<uint64_t>(logit_rows_ * c.vocab_size) * kFloat,
                         "the logits");
  top_ = DeviceBuffer(runtime_, DeviceLogits::kScratchBytes, "the largest logits");
  // Ids, chunks of rows, rows of logits, and at most as many chunks as tokens, each with a table.
  const int64_t blocks = ceil_div(model.max_context_, kKvBlock);
  constexpr uint64_t kPerToken = 4 * kInt + sizeof(DeviceChunk), kParts = 5 * 64;
  inputs_ = DeviceBuffer(runtime_,
                         static_cast<uint64_t>(model.max_tokens_) * kPerToken +
                             static_cast<uint64_t>(blocks) * kInt + kParts,
                         "the inputs of the forward pass");
  partial_ = DeviceBuffer(runtime_,
                          static_cast<uint64_t>(attention_partial_floats(
                              runtime_->description().sm_count, c.head_dim)) *
                              kFloat,
                          "partial sums of attention");
  plan_rounding();
  if (c.num_experts == 0) return;
  router_ = scratch(c.num_experts, kFloat);
  order_ = scratch(c.experts_per_token, kInt);
  share_ = scratch(c.experts_per_token, kFloat);
  expert_x_ = scratch(c.hidden_size, kHalf);
  expert_y_ = scratch(c.hidden_size, kHalf);
  moe_ = scratch(c.hidden_size, kFloat);
}

DeviceModel::~DeviceModel() = default;

// f(rounding, layers that read the input, what makes it) for every input that layers read in 8
// bits.
template <class F>
void DeviceModel::visit_inputs(F f) {
  constexpr const char *kNorm = "with the norm", *kActivation = "with the activation";
  for (size_t i = 0; i < rounding_.size(); ++i) {
    const Model::Layer& layer = model_.layers_[i];
    LayerRounding& r = rounding_[i];
    f(r.qkv, {&layer.q, &layer.k, &layer.v}, kNorm);
    f(r.o, {&layer.o}, "after attention");
    if (layer.experts.empty()) {
      f(r.mlp.in, {&layer.mlp.gate, &layer.mlp.up}, kNorm);
      f(r.mlp.down, {&layer.mlp.down}, kActivation);
    }
    r.experts.resize(layer.experts.size());
    for (size_t e = 0; e < r.experts.size(); ++e) {
      const Model::Mlp& expert = layer.experts[e];
      f(r.experts[e].in, {&expert.gate, &expert.up}, "while rows are gathered");
      f(r.experts[e].down, {&expert.down}, kActivation);
    }
  }
  f(head_rounding_, {&model_.lm_head_}, kNorm);
}

// Which inputs the engine rounds, and one place for codes that holds any of them: they are read
// before the next are made.
void DeviceModel::plan_rounding() {
  using Readers = std::initializer_list<const Linear*>;
  rounding_.resize(model_.layers_.size());
  int64_t pitch = 0, groups = 0, zeros = 0;
  const bool wanted = engine_rounds();
  visit_inputs([&](Rounding& rounding, Readers readers, const char* maker) {
    std::vector<std::optional<RoundScheme>> schemes;
    for (const Linear* reader : readers) {
      // k, v and up are absent where they are fused.
      if (reader->in_features() > 0) schemes.push_back(reader->rounding());
    }
    const std::optional<RoundScheme> scheme = common_rounding(schemes);
    if (!wanted || !scheme) return;
    const int64_t columns = (*readers.begin())->in_features();
    pitch = std::max(pitch, cuda::byte_pitch(columns));
    groups = std::max(groups, scheme->groups(columns));
    if (scheme->has_zeros()) zeros = 1;
    rounding.emplace().scheme = *scheme;
    for (const Linear* reader : readers) {
      if (reader->in_features() > 0) rounded_inputs_[reader->report().name] = maker;
    }
  });
  codes_ = scratch(pitch, 1);
  code_scales_ = scratch(groups, sizeof(float));
  code_zeros_ = scratch(zeros, sizeof(int32_t));
  visit_inputs([&](Rounding& rounding, Readers, const char*) {
    if (!rounding) return;
    rounding->codes = codes_.as<uint8_t>();
    rounding->scales = code_scales_.as<float>();
    if (rounding->scheme.has_zeros()) rounding->zeros = code_zeros_.as<int32_t>();
  });
}

DeviceModel::Inputs DeviceModel::upload_inputs(const Batch& batch) {
  Inputs in;
  in.rows = static_cast<int64_t>(batch.ids.size());
  in.wanted = static_cast<int64_t>(batch.logit_rows.size());
  AttentionBatch& attention = in.attention;
  attention.rows = in.rows;
  attention.num_chunks = static_cast<int64_t>(batch.chunks.size());
  std::vector<int32_t> row_chunk, logit_rows, tables;
  std::vector<DeviceChunk> chunks;
  for (const SequenceChunk& from : batch.chunks) {
    const KvView& kv = from.kv;
    DeviceChunk to;
    to.k = kv.k;
    to.v = kv.v;
    to.k_scale = kv.k_scale;
    to.v_scale = kv.v_scale;
    to.num_blocks = kv.num_blocks;
    to.first_row = static_cast<int32_t>(from.first_row);
    to.count = static_cast<int32_t>(from.count);
    to.start = static_cast<int32_t>(from.start);
    to.table = static_cast<int32_t>(tables.size());
    tables.insert(tables.end(), kv.table, kv.table + ceil_div(from.start + from.count, kKvBlock));
    row_chunk.insert(row_chunk.end(), static_cast<size_t>(from.count),
                     static_cast<int32_t>(chunks.size()));
    chunks.push_back(to);
    if (chunks.size() > 1 &&
        (kv.dtype != attention.kv_dtype || kv.token_scales != attention.token_scales)) {
      fail(ErrorKind::kFailed, "sequences of one batch have KV caches of different types");
    }
    attention.kv_dtype = kv.dtype;
    attention.token_scales = kv.token_scales;
    attention.longest = std::max(attention.longest, from.count);
    attention.keys = std::max(attention.keys, from.start + from.count);
  }
  if (attention.longest == 1) attention.keys = bucket(attention.keys);
  for (const int64_t row : batch.logit_rows) logit_rows.push_back(static_cast<int32_t>(row));
  Packer pack(&packed_);
  const size_t at_ids = pack.add(batch.ids.data(), batch.ids.size()),
               at_rows = pack.add(row_chunk.data(), row_chunk.size()),
               at_logits = pack.add(logit_rows.data(), logit_rows.size()),
               at_chunks = pack.add(chunks.data(), chunks.size()),
               at_tables = pack.add(tables.data(), tables.size());
  if (packed_.size() > inputs_.bytes()) {
    steps_.clear();  // they know the old place
    inputs_ = DeviceBuffer(runtime_, packed_.size() * 2, "the inputs of the forward pass");
  }
  runtime_->upload(inputs_.data(), packed_.data(), packed_.size());
  const auto* base = inputs_.as<const std::byte>();
  in.ids = reinterpret_cast<const int32_t*>(base + at_ids);
  in.logit_rows = reinterpret_cast<const int32_t*>(base + at_logits);
  attention.row_chunk = reinterpret_cast<const int32_t*>(base + at_rows);
  attention.chunks = reinterpret_cast<const DeviceChunk*>(base + at_chunks);
  attention.tables = reinterpret_cast<const int32_t*>(base + at_tables);
  return in;
}

void DeviceModel::forward(const Batch& batch, float* logits) {
  const ModelConfig& c = model_.config_;
  const Inputs in = upload_inputs(batch);
  const auto fetch = [&](int64_t first, int64_t count) {
    runtime_->download(logits + first * c.vocab_size, logits_.data(),
                       static_cast<uint64_t>(count * c.vocab_size) * sizeof(float));
  };
  if (in.attention.longest == 1 && in.wanted <= logit_rows_ && c.num_experts == 0) {
    decode(in);
    if (in.wanted > 0 && logits != nullptr) fetch(0, in.wanted);
    return;
  }
  run_layers(in);
  for (int64_t at = 0; at < in.wanted; at += logit_rows_) {
    const int64_t n = std::min(logit_rows_, in.wanted - at);
    run_head(in, at, n);
    if (logits != nullptr) fetch(at, n);
  }
}

std::unique_ptr<NextLogits> DeviceModel::logits(int64_t row) {
  const int64_t vocab = model_.config_.vocab_size;
  return std::make_unique<DeviceLogits>(*runtime_, ops_, logits_.as<float>() + row * vocab, vocab,
                                        top_);
}

// The first step of a shape runs as it is, so that whatever is made lazily is there when the second
// one is recorded.
void DeviceModel::decode(const Inputs& in) {
  if (!can_record_) return run(in);
  const AttentionBatch& a = in.attention;
  Step& step = steps_[{in.rows, a.num_chunks, in.wanted, a.keys, a.kv_dtype, a.token_scales}];
  step.last_use = ++step_;
  if (++step.uses == 1) return run(in);
  if (step.recorded == nullptr) {
    try {
      step.recorded = runtime_->record([this, in] { run(in); });
    } catch (const std::exception& error) {
      log_line(LogLevel::kWarning,
               fmt::format("decode steps run kernel by kernel: {}", error.what()));
      can_record_ = false;
      steps_.clear();
      return run(in);
    }
  }
  step.recorded->run();
  if (steps_.size() <= kMostRecords) return;
  steps_.erase(std::min_element(steps_.begin(), steps_.end(), [](const auto& x, const auto& y) {
    return x.second.last_use < y.second.last_use;
  }));
}

void DeviceModel::run(const Inputs& in) {
  run_layers(in);
  if (in.wanted > 0) run_head(in, 0, in.wanted);
}

void DeviceModel::run_layers(const Inputs& in) {
  const ModelConfig& c = model_.config_;
  const DeviceExec exec(*runtime_, workspace_.data(), workspace_bytes_, &host_table());
  model_.embedding_.gather_on_device(exec.get(), in.ids, in.rows, h_.as<uint16_t>());
  ops_.embed(h_.as<uint16_t>(), x_.as<float>(), c.embedding_multiplier, in.rows * c.hidden_size);
  const RoundedRows* rounded = pointer(rounding_[0].qkv);
  ops_.rms_norm(x_.as<float>(), norms_[0].attention_in.as<float>(), nullptr,
                rounded == nullptr ? h_.as<uint16_t>() : nullptr, in.rows, c.hidden_size,
                c.rms_norm_eps, rounded);
  for (size_t i = 0; i < model_.layers_.size(); ++i) {
    attention_block(in, i);
    mlp_block(i, in.rows);
  }
}

// Logits of `count` wanted rows into logits_.
void DeviceModel::run_head(const Inputs& in, int64_t first, int64_t count) {
  const ModelConfig& c = model_.config_;
  const DeviceExec exec(*runtime_, workspace_.data(), workspace_bytes_, &host_table());
  const RoundedRows* rounded = pointer(head_rounding_);
  auto* h = rounded == nullptr ? h_.as<uint16_t>() : nullptr;
  ops_.rms_norm(x_.as<float>(), final_norm_.as<float>(), in.logit_rows + first, h, count,
                c.hidden_size, c.rms_norm_eps, rounded);
  model_.lm_head_.apply_on_device(exec.get(), {h, c.hidden_size, rounded}, count, logits_.data(),
                                  c.vocab_size, true);
  if (c.logit_divisor != 1 || c.logit_softcap > 0) {
    ops_.finish_logits(logits_.as<float>(), count * c.vocab_size, 1 / c.logit_divisor,
                       c.logit_softcap);
  }
}

// h, or the place of codes, holds the normed input, and afterwards that of the MLP.
void DeviceModel::attention_block(const Inputs& in, size_t index) {
  const ModelConfig& c = model_.config_;
  const Model::Layer& layer = model_.layers_[index];
  const Norms& norms = norms_[index];
  const LayerRounding& rounding = rounding_[index];
  const int64_t hidden = c.hidden_size, q_size = c.num_attention_heads * c.head_dim,
                kv_size = c.num_key_value_heads * c.head_dim, width = q_size + 2 * kv_size,
                rows = in.rows;
  const DeviceExec exec(*runtime_, workspace_.data(), workspace_bytes_, &host_table());
  auto* h = h_.as<uint16_t>();
  auto* qkv = qkv_.as<uint16_t>();
  const DeviceInput input{h, hidden, pointer(rounding.qkv)};
  layer.q.apply_on_device(exec.get(), input, rows, qkv, width, false);
  if (!layer.fused_qkv) {
    layer.k.apply_on_device(exec.get(), input, rows, qkv + q_size, width, false);
    layer.v.apply_on_device(exec.get(), input, rows, qkv + q_size + kv_size, width, false);
  }
  const auto norm = [&](const DeviceBuffer& weight, int64_t first, int64_t size) {
    if (weight.bytes() == 0) return;
    const auto k = static_cast<int64_t>(weight.bytes() / sizeof(float));
    ops_.norm_segments(qkv, rows, width, first, size / k, k, weight.as<float>(), c.rms_norm_eps);
  };
  norm(norms.q_norm, 0, q_size);
  norm(norms.k_norm, q_size, kv_size);
  if (c.clip_qkv > 0) ops_.clamp(qkv, rows * width, c.clip_qkv);
  const LayerConfig& own = c.layers[index];
  AttentionShape shape;
  shape.ld = width;
  shape.heads = c.num_attention_heads;
  shape.kv_heads = c.num_key_value_heads;
  shape.head_dim = c.head_dim;
  shape.layer = static_cast<int64_t>(index);
  shape.window = own.window;
  shape.scale = c.attention_scale;
  shape.softcap = c.attention_softcap;
  const Rotation none;
  const Rotation& r = own.rope >= 0 ? rotations_[static_cast<size_t>(own.rope)] : none;
  ops_.rotate_and_store(qkv, shape, in.attention, r.cos.as<float>(), r.sin.as<float>(), r.half);
  ops_.attention(qkv, shape, in.attention, partial_.as<float>(), a_.as<uint16_t>());
  const auto* a = a_.as<const uint16_t>();
  // A row's heads are made by several blocks, so that rounding is a launch of its own.
  if (rounding.o) ops_.round_rows(a, nullptr, 1, rows, q_size, *rounding.o);
  layer.o.apply_on_device(exec.get(), {a, q_size, pointer(rounding.o)}, rows, h, hidden, false);
  const RoundedRows* rounded = pointer(rounding.mlp.in);
  ops_.add_block(x_.as<float>(), h, norms.attention_out.as<float>(), rows, hidden, c.rms_norm_eps,
                 c.residual_multiplier, norms.mlp_in.as<float>(), rounded == nullptr ? h : nullptr,
                 rounded);
}

// h, or the place of codes, holds the normed input, and afterwards that of the next layer.
void DeviceModel::mlp_block(size_t index, int64_t rows) {
  const ModelConfig& c = model_.config_;
  const Model::Layer& layer = model_.layers_[index];
  const auto* out = norms_[index].mlp_out.as<const float>();
  // The last layer's result is normed for the wanted rows alone.
  const bool more = index + 1 < model_.layers_.size();
  const auto* next = more ? norms_[index + 1].attention_in.as<const float>() : nullptr;
  const RoundedRows* rounded = more ? pointer(rounding_[index + 1].qkv) : nullptr;
  auto* h = h_.as<uint16_t>();
  auto* next_h = more && rounded == nullptr ? h : nullptr;
  auto* x = x_.as<float>();
  if (layer.experts.empty()) {
    run_mlp(layer.mlp, rounding_[index].mlp, h, rows, h);
    ops_.add_block(x, h, out, rows, c.hidden_size, c.rms_norm_eps, c.residual_multiplier, next,
                   next_h, rounded);
    return;
  }
  run_experts(index, rows);
  ops_.add_block(x, moe_.as<const float>(), out, rows, c.hidden_size, c.rms_norm_eps,
                 c.residual_multiplier, next, next_h, rounded);
}

// y [rows, hidden] = mlp(x); y may be x.
void DeviceModel::run_mlp(const Model::Mlp& mlp, const MlpRounding& rounding, const uint16_t* x,
                          int64_t rows, uint16_t* y) {
  const int64_t hidden = model_.config_.hidden_size, ld = 2 * mlp.width;
  const DeviceExec exec(*runtime_, workspace_.data(), workspace_bytes_, &host_table());
  auto* gate = gate_up_.as<uint16_t>();
  const DeviceInput input{x, hidden, pointer(rounding.in)};
  mlp.gate.apply_on_device(exec.get(), input, rows, gate, ld, false);
  if (!mlp.fused) {
    mlp.up.apply_on_device(exec.get(), input, rows, gate + mlp.width, ld, false);
  }
  const RoundedRows* rounded = pointer(rounding.down);
  ops_.activate(gate, rows, mlp.width, ld, device_activation(model_.config_.activation), rounded);
  mlp.down.apply_on_device(exec.get(), {rounded == nullptr ? gate : nullptr, ld, rounded}, rows, y,
                           hidden, false);
}

// moe [rows, hidden] = sum over each row's experts, ascending, of share * expert(h).
void DeviceModel::run_experts(size_t index, int64_t rows) {
  const ModelConfig& c = model_.config_;
  const Model::Layer& layer = model_.layers_[index];
  const auto* h = h_.as<const uint16_t>();
  const int64_t hidden = c.hidden_size, per_row = c.experts_per_token;
  const DeviceExec exec(*runtime_, workspace_.data(), workspace_bytes_, &host_table());
  layer.router.apply_on_device(exec.get(), {h, hidden}, rows, router_.data(), c.num_experts, true);
  std::vector<float> logits(static_cast<size_t>(rows * c.num_experts));
  runtime_->download(logits.data(), router_.data(), logits.size() * sizeof(float));
  const auto count = static_cast<size_t>(rows * per_row);
  std::vector<int32_t> chosen(count), order;
  std::vector<float> shares(count);
  choose_experts(c, logits.data(), rows, chosen.data(), shares.data());
  std::vector<size_t> begin{0};
  for (int32_t e = 0; e < c.num_experts; ++e) {
    for (size_t i = 0; i < count; ++i) {
      if (chosen[i] == e) order.push_back(static_cast<int32_t>(i));
    }
    begin.push_back(order.size());
  }
  runtime_->upload(order_.data(), order.data(), count * sizeof(int32_t));
  runtime_->upload(share_.data(), shares.data(), count * sizeof(float));
  runtime_->zero(moe_.data(), static_cast<uint64_t>(rows * hidden) * sizeof(float));
  for (size_t e = 0; e < layer.experts.size(); ++e) {
    const auto n = static_cast<int64_t>(begin[e + 1] - begin[e]);
    if (n == 0) continue;
    const int32_t* list = order_.as<int32_t>() + begin[e];
    const MlpRounding& rounding = rounding_[index].experts[e];
    if (rounding.in) {
      ops_.round_rows(h, list, per_row, n, hidden, *rounding.in);
    } else {
      ops_.gather_rows(h, list, per_row, expert_x_.as<uint16_t>(), n, hidden);
    }
    run_mlp(layer.experts[e], rounding, expert_x_.as<uint16_t>(), n, expert_y_.as<uint16_t>());
    ops_.add_rows(moe_.as<float>(), list, per_row, share_.as<float>(), expert_y_.as<uint16_t>(), n,
                  hidden);
  }
}

}  // namespace pluq
