// SPDX-License-Identifier: Apache-2.0
// A host of the plugin ABI in a few hundred lines, for tests of plugins: it loads a plugin into the
// test's process and calls the ABI's functions, with none of core in between. Statuses become
// exceptions of type Refusal.
#pragma once

#include <boost/json/value.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pluq/abi.h"

namespace pluq::test {

// A status that a plugin answered.
struct Refusal {
  int32_t code;  // PLUQ_STATUS_*
  std::string text;
};

// A tensor of a layer as the file holds it.
struct FileTensor {
  std::string name;  // suffix
  uint32_t dtype_id = PLUQ_DTYPE_UNKNOWN;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;  // row-major
};

// What the plugin is asked for.
struct LayerAsk {
  std::string name = "model.layers.0.self_attn.q_proj";
  std::string kind = "linear", module_class = "Linear";
  int64_t k = 0, n = 0;                                            // of the whole layer
  int64_t in_begin = 0, in_end = -1, out_begin = 0, out_end = -1;  // -1: to the end
  std::vector<int64_t> parts;
  bool exact = true, float_activations = false;
};

struct BoxSpec {
  std::string suffix;
  uint32_t dtype_id = 0;
  std::vector<int64_t> shape, begin, end;
  bool optional = false;
};

struct FakeDevice;

// One layer's method; destroyed with the object.
class FakeMethod {
 public:
  FakeMethod(pluq_method method, std::string format, LayerAsk ask)
      : method_(method), format_(std::move(format)), ask_(std::move(ask)) {}
  ~FakeMethod() { method_.api->destroy(method_.self); }
  FakeMethod(const FakeMethod&) = delete;
  FakeMethod& operator=(const FakeMethod&) = delete;

  pluq_method_info info() const;
  std::string scheme() const;
  std::string kernel() const;
  std::vector<BoxSpec> specs() const;
  // Cuts each declared tensor's box out of the file's tensors. Throws std::runtime_error when a
  // tensor that is not optional is missing or has another dtype or shape than declared.
  std::vector<FileTensor> cut(const std::vector<FileTensor>& file) const;
  // process_plan and process_weights_after_loading with the shard's tensors, which the object
  // keeps.
  void load(std::vector<FileTensor> shard, int n_workers = 1);
  // [n, k] of the shard.
  std::vector<float> dequantize() const;
  // y[m, n] of the shard after load; x is [m, k].
  std::vector<float> apply(const std::vector<float>& x, int64_t m, const float* bias = nullptr,
                           int n_workers = 1) const;

  // The same on an emulated CUDA device of this compute capability, of a method that was chosen for
  // it. x: [m, ldx] in F16 or BF16; answers y as stored, [m, ldy].
  void load_on_device(std::vector<FileTensor> shard, uint32_t sm);
  // Kernels that load_on_device launched.
  uint64_t load_launches() const { return load_launches_; }
  std::vector<uint8_t> apply_on_device(const std::vector<uint16_t>& x, uint32_t x_dtype, int64_t m,
                                       int64_t ldx, uint32_t y_dtype, int64_t ldy,
                                       const float* bias = nullptr) const;

  int64_t k() const { return ask_.in_end - ask_.in_begin; }
  int64_t n() const { return ask_.out_end - ask_.out_begin; }
  const LayerAsk& ask() const { return ask_; }

 private:
  std::vector<pluq_tensor> views() const;
  struct Free {
    void operator()(void* p) const;
  };
  static std::unique_ptr<uint8_t, Free> aligned(uint64_t bytes);

  pluq_method method_;
  std::string format_;
  LayerAsk ask_;
  std::vector<FileTensor> tensors_;
  std::unique_ptr<uint8_t, Free> buffer_;
  std::shared_ptr<FakeDevice> device_;
  uint64_t load_launches_ = 0;
};

struct FakeChoice {
  uint32_t verdict = 0;  // PLUQ_VERDICT_*
  int32_t score = 0;
  std::string reason;
  std::unique_ptr<FakeMethod> method;
};

// A configuration; the format must outlive it.
class FakeConfig {
 public:
  FakeConfig(pluq_config config, std::string format)
      : config_(config), format_(std::move(format)) {}
  ~FakeConfig() { config_.api->destroy(config_.self); }
  FakeConfig(const FakeConfig&) = delete;
  FakeConfig& operator=(const FakeConfig&) = delete;
  // isa: "portable", "avx2" or "avx512", or "sm80", "sm89", "sm90" for an emulated CUDA device;
  // what the machine lacks must not be asked for (see isas()).
  FakeChoice choose(const LayerAsk& ask, const std::vector<FileTensor>& file,
                    const std::string& isa = "portable", bool with_data = true) const;

 private:
  pluq_config config_;
  std::string format_;
};

// The format of the plugin build/lib/pluq/plugins/<id>.so, loaded once per process and never
// unloaded.
class FakeFormat {
 public:
  static const FakeFormat& get(const std::string& id);
  // Of a checkpoint's quantization JSON.
  std::unique_ptr<FakeConfig> config(const std::string& quantization) const;
  // The score of probe, and its reason.
  int32_t probe(const std::string& quantization, std::string* reason = nullptr) const;
  // Quantizes w [n, k] with these options (JSON): the tensors, and the quantization_config in
  // *config.
  std::vector<FileTensor> quantize(const std::vector<float>& w, int64_t n, int64_t k,
                                   const std::string& options, std::string* config) const;

 private:
  std::string id_;
  pluq_format format_{};
};

// The instruction sets that this machine has.
std::vector<std::string> isas();

// What plugins logged since the last call.
std::vector<std::string> take_logs();

// Bytes of one element.
uint64_t element_bytes(uint32_t dtype_id);

}  // namespace pluq::test
