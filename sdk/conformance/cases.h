// SPDX-License-Identifier: Apache-2.0
// Layers to test with: each format's own quantizer writes them from random rows, once per choice of
// its options, and formats that cannot quantize give samples. An Instance is one method over such a
// layer, ready to apply.
#pragma once

#include <boost/json/value.hpp>

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "conformance/harness.h"
#include "conformance/subject.h"
#include "device/thread_pool.h"

namespace pluq::conformance {

// One layer in checkpoint layout.
struct Case {
  const FormatHandle* format = nullptr;
  pluq_format raw{};
  std::string label;  // "gptq bits=3, [64, 256]"
  boost::json::value quantization;
  int64_t n = 0, k = 0;
  std::list<std::string> names;
  std::vector<Guarded> data;
  std::vector<pluq_tensor> tensors;
  std::vector<float> original;  // [n, k] that the format's quantizer was given; empty for samples

  // The container that such a layer comes in.
  const char* container() const {
    for (const pluq_tensor& t : tensors) {
      if (t.dtype.id >= PLUQ_DTYPE_GGML_BASE) return "gguf";
    }
    return "safetensors";
  }
};

// Layers of [n, k] of one format; `variants` = false: only the default options. Combinations that
// the format refuses with a reason are left out. The pool is used by the quantizer.
std::vector<Case> make_cases(const Ready& plugin, size_t format, ThreadPool& pool, int64_t n,
                             int64_t k, uint64_t seed, bool variants);
// The layers that a format gives by the extension pluq.samples/1, without `format` and `raw`.
std::vector<Case> make_samples(const pluq_format& format, int64_t n, int64_t k, uint64_t seed);
// make_cases over all formats and two shapes; throws Failure when a format gives no layer at all.
std::vector<Case> all_cases(const Ready& plugin, ThreadPool& pool, uint64_t seed, bool variants);

struct Setting {  // how a method is asked for
  uint64_t features = 0;
  uint32_t compute = PLUQ_COMPUTE_FAST;
  uint32_t activations = PLUQ_ACTIVATIONS_CHECKPOINT;
  int workers = 1;
  std::optional<pluq_device> device = {};  // instead of the CPU
  uint32_t activation_dtype = PLUQ_DTYPE_F32;
  const char* kind = "linear";
  std::string text() const;
};
// Every instruction set of this machine with exact and fast; and activations kept float.
std::vector<Setting> all_settings(int workers);
Setting best_setting(int workers);

// A part of the layer: rows [n0, n1) and columns [k0, k1).
struct Shard {
  int64_t n0, n1, k0, k1;
};

class Instance {
 public:
  // Refusals with a reason throw Skip; broken rules throw Failure.
  Instance(const Case& layer, const Setting& setting, const Shard* shard = nullptr);
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  const Case& layer() const { return layer_; }
  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  const pluq_method& raw() const { return method_; }
  const pluq_method_info& info() const { return info_; }
  const std::vector<pluq_tensor>& tensors() const { return tensors_; }
  const pluq_tensor* tensor(std::string_view suffix) const;
  std::string text() const;  // "gptq bits=3, [64, 256], avx2 fast"

  // process_plan and process_weights_after_loading; the buffer is read-only afterwards. False with
  // a reason when the plugin refuses the values.
  bool process(ThreadPool& pool, std::string* why);
  void refresh();  // asks for info() again, after processing
  // W as f32 [n, k].
  std::vector<float> dequantize() const;
  // y = x W^T + bias in the caller's exec.
  pluq_status* apply(const pluq_exec* exec, const float* x, int64_t ldx, int64_t m,
                     const float* bias, float* y, int64_t ldy) const;
  uint64_t workspace(int64_t m, int workers) const {
    return method_.api->workspace(method_.self, m, workers);
  }
  std::vector<pluq_weight_spec> specs() const;

 private:
  void slice(const std::vector<pluq_weight_spec>& specs);
  const Case& layer_;
  Setting setting_;
  pluq_config config_{};
  pluq_method method_{};
  pluq_method_info info_{};
  int64_t n_, k_;
  std::vector<pluq_tensor> tensors_;
  std::vector<Guarded> slices_;
  Guarded buffer_;
};

// One thread, no workspace: what dequantize is called with.
pluq_exec single_exec();

// A layer whose tensors are filled by each spec's own `sample` (bits of hostile = random bytes
// everywhere instead).
Case filled(const Instance& like, uint64_t seed, bool hostile);

}  // namespace pluq::conformance
