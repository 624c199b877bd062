// SPDX-License-Identifier: Apache-2.0
// The C++ face of the plugin ABI, for authors of formats. Header-only C++17, needs nothing but the
// standard library.
//
// A format is three classes and one macro, with vLLM's names:
//   Format              what the plugin registers: ids, options, "is this checkpoint mine?"
//   QuantizationConfig  one checkpoint's settings: get_quant_method(layer) answers with a
//   LinearMethod        one layer: create_weights (the tensors on disk), dequantize (slow, exact),
//                       for speed process_weights_after_loading (repack) and apply (the kernel)
//   PLUQ_PLUGIN("id", "1.0.0", "format_a,format_b", FormatA, FormatB)
// A format with only create_weights and dequantize already runs: apply has a correct default.
// Errors are thrown (pluq::invalid, pluq::unsupported); nothing that is thrown leaves the plugin.
#pragma once

#include <algorithm>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pluq/abi.h"
#include "pluq/ext/kv_cache.h"
#include "pluq/ext/samples.h"

namespace pluq {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {

  // ------------------------------------------------------------------ texts and errors

  // The same characters; valid as long as s is.
  inline std::string_view view(pluq_str s) {
    return {s.data == nullptr ? "" : s.data, s.data == nullptr ? 0 : s.size};
  }
  // The same the other way round.
  inline pluq_str str(std::string_view s) { return {s.data(), s.size()}; }

  // Writes as much as fits.
  inline void put(pluq_text & out, std::string_view s) {
    out.size = std::min(out.capacity, s.size());
    if (out.size > 0) std::memcpy(out.data, s.data(), out.size);
  }

  // printf-style text.
  __attribute__((format(printf, 1, 2))) inline std::string format(const char* pattern, ...) {
    char buffer[1024];
    va_list args;
    va_start(args, pattern);
    const int n = std::vsnprintf(buffer, sizeof buffer, pattern, args);
    va_end(args);
    return std::string(buffer,
                       n < 0 ? 0 : std::min<size_t>(static_cast<size_t>(n), sizeof buffer - 1));
  }

  // What this face throws; the trampolines make a status of it.
  struct PluginError {
    int32_t code;      // PLUQ_STATUS_*
    std::string text;  // one sentence: the place, the offending value, the accepted ones
  };
  // throw invalid("..."): an argument, configuration or tensor is wrong.
  inline PluginError invalid(std::string text) { return {PLUQ_STATUS_INVALID, std::move(text)}; }
  // throw unsupported("..."): right, but not built here.
  inline PluginError unsupported(std::string text) {
    return {PLUQ_STATUS_UNSUPPORTED, std::move(text)};
  }
  // throw not_found("..."): something named is absent.
  inline PluginError not_found(std::string text) {
    return {PLUQ_STATUS_NOT_FOUND, std::move(text)};
  }

  // ------------------------------------------------------------------ the host

  // The host's table, set by the entry call before anything else of the plugin runs.
  inline const pluq_host*& host_slot() {
    static const pluq_host* host = nullptr;
    return host;
  }
  // The table; valid once the entry was called.
  inline const pluq_host& host() { return *host_slot(); }

  // A line in the host's log, PLUQ_LOG_*; never while computing.
  inline void log(int32_t level, std::string_view text) { host().log(&host(), level, str(text)); }

  // Turns a status from a host call into an exception.
  inline void check(pluq_status * status) {
    if (status == nullptr) return;
    PluginError error{host().status_code(status), std::string(view(host().status_text(status)))};
    host().status_free(&host(), status);
    throw error;
  }

  // A cursor into JSON that the host has parsed; valid during the call that received it. A missing
  // node is falsy.
  class Json {
   public:
    Json() = default;
    // A cursor at node; path is for messages.
    explicit Json(const pluq_json* node, std::string path = "")
        : node_(node), path_(std::move(path)) {}
    explicit operator bool() const { return node_ != nullptr; }  // whether the node is there
    const pluq_json* node() const { return node_; }              // the ABI's cursor, or null
    const std::string& path() const { return path_; }            // "a.b[2]", for messages

    // PLUQ_JSON_*; null when missing.
    int32_t type() const { return node_ == nullptr ? PLUQ_JSON_NULL : api().type(node_); }
    bool is_null() const { return type() == PLUQ_JSON_NULL; }      // null or missing
    bool is_object() const { return type() == PLUQ_JSON_OBJECT; }  // {...}
    bool is_array() const { return type() == PLUQ_JSON_ARRAY; }    // [...]
    bool is_string() const { return type() == PLUQ_JSON_STRING; }  // "..."
    bool is_int() const { return type() == PLUQ_JSON_INT; }        // fits int64
    bool is_bool() const { return type() == PLUQ_JSON_BOOL; }      // true, false
    // Members of an array or object, else 0.
    size_t size() const { return node_ == nullptr ? 0 : api().size(node_); }

    // The member of an object, missing when it is not there.
    Json get(std::string_view key) const {
      const std::string path = path_.empty() ? std::string(key) : path_ + "." + std::string(key);
      return Json(node_ == nullptr ? nullptr : api().get(node_, str(key)), path);
    }
    // Element of an array or value of an object, in file order.
    Json at(size_t i) const {
      return Json(node_ == nullptr ? nullptr : api().at(node_, i),
                  path_ + "[" + std::to_string(i) + "]");
    }
    // Key i of an object, in file order.
    std::string_view key_at(size_t i) const {
      return node_ == nullptr ? "" : view(api().key_at(node_, i));
    }
    // The first of several spellings that is there and not null.
    Json any_of(std::initializer_list<std::string_view> keys) const {
      for (const std::string_view key : keys) {
        Json found = get(key);
        if (!found.is_null()) return found;
      }
      return Json(nullptr, std::string(*keys.begin()));
    }

    // The as_* calls throw invalid, naming the path, when the type is another.
    int64_t as_int() const {
      if (type() != PLUQ_JSON_INT) wrong("an integer");
      return api().as_int(node_);
    }
    // true or false.
    bool as_bool() const {
      if (type() != PLUQ_JSON_BOOL) wrong("true or false");
      return api().as_int(node_) != 0;
    }
    // An integer or a real number.
    double as_real() const {
      if (type() != PLUQ_JSON_INT && type() != PLUQ_JSON_REAL) wrong("a number");
      return api().as_real(node_);
    }
    // A copy.
    std::string as_string() const {
      if (type() != PLUQ_JSON_STRING) wrong("a string");
      return std::string(view(api().as_string(node_)));
    }
    // The *_or calls give `value` when the node is null or missing.
    int64_t int_or(int64_t value) const { return is_null() ? value : as_int(); }
    // true, false, or `value`.
    bool bool_or(bool value) const { return is_null() ? value : as_bool(); }
    // A string, or `value`.
    std::string string_or(std::string value) const { return is_null() ? value : as_string(); }
    // A list of strings; absent and null are empty.
    std::vector<std::string> strings() const {
      std::vector<std::string> out;
      if (is_null()) return out;
      if (!is_array()) wrong("a list of strings");
      for (size_t i = 0; i < size(); ++i) out.push_back(at(i).as_string());
      return out;
    }

   private:
    [[noreturn]] void wrong(const char* expected) const {
      static const char* const names[] = {"null",     "a boolean", "an integer", "a real number",
                                          "a string", "a list",    "an object"};
      const int32_t t = type();
      throw invalid("'" + path_ + "' is " +
                    (node_ == nullptr   ? "missing"
                     : t >= 0 && t <= 6 ? names[t]
                                        : "unknown") +
                    ", expected " + expected);
    }
    static const pluq_host_json& api() {
      const void* table = host().get_extension(&host(), PLUQ_HOST_JSON);
      if (table == nullptr) throw unsupported("the host lacks " PLUQ_HOST_JSON);
      return *static_cast<const pluq_host_json*>(table);
    }

    const pluq_json* node_ = nullptr;
    std::string path_;
  };

  // One of the three ways checkpoints name layers (PLUQ_MATCH_*).
  inline bool match(int32_t kind, std::string_view pattern, std::string_view name) {
    const void* table = host().get_extension(&host(), PLUQ_HOST_MATCH);
    if (table == nullptr) throw unsupported("the host lacks " PLUQ_HOST_MATCH);
    int32_t matched = 0;
    check(static_cast<const pluq_host_match*>(table)->match(&host(), kind, str(pattern), str(name),
                                                            &matched));
    return matched != 0;
  }

  // ------------------------------------------------------------------ element types

  // The type with its block; block sizes of 0 for ids that the SDK does not know.
  constexpr pluq_dtype dtype(uint32_t id) {
    switch (id) {
      case PLUQ_DTYPE_BOOL:
      case PLUQ_DTYPE_U8:
      case PLUQ_DTYPE_I8:
      case PLUQ_DTYPE_F8_E4M3:
      case PLUQ_DTYPE_F8_E5M2:
      case PLUQ_DTYPE_F8_E8M0:
      case PLUQ_DTYPE_F8_E4M3FNUZ:
      case PLUQ_DTYPE_F8_E5M2FNUZ:
        return {id, 1, 1};
      case PLUQ_DTYPE_U16:
      case PLUQ_DTYPE_I16:
      case PLUQ_DTYPE_F16:
      case PLUQ_DTYPE_BF16:
        return {id, 1, 2};
      case PLUQ_DTYPE_U32:
      case PLUQ_DTYPE_I32:
      case PLUQ_DTYPE_F32:
        return {id, 1, 4};
      case PLUQ_DTYPE_U64:
      case PLUQ_DTYPE_I64:
      case PLUQ_DTYPE_F64:
        return {id, 1, 8};
      case PLUQ_DTYPE_F4_E2M1:
        return {id, 2, 1};
      default:
        return {id, 0, 0};
    }
  }
  // "BF16", as safetensors spells it; "an unknown type".
  inline const char* dtype_name(uint32_t id) {
    switch (id) {
      case PLUQ_DTYPE_BOOL:
        return "BOOL";
      case PLUQ_DTYPE_U8:
        return "U8";
      case PLUQ_DTYPE_I8:
        return "I8";
      case PLUQ_DTYPE_U16:
        return "U16";
      case PLUQ_DTYPE_I16:
        return "I16";
      case PLUQ_DTYPE_U32:
        return "U32";
      case PLUQ_DTYPE_I32:
        return "I32";
      case PLUQ_DTYPE_U64:
        return "U64";
      case PLUQ_DTYPE_I64:
        return "I64";
      case PLUQ_DTYPE_F16:
        return "F16";
      case PLUQ_DTYPE_BF16:
        return "BF16";
      case PLUQ_DTYPE_F32:
        return "F32";
      case PLUQ_DTYPE_F64:
        return "F64";
      case PLUQ_DTYPE_F8_E4M3:
        return "F8_E4M3";
      case PLUQ_DTYPE_F8_E5M2:
        return "F8_E5M2";
      case PLUQ_DTYPE_F8_E8M0:
        return "F8_E8M0";
      case PLUQ_DTYPE_F4_E2M1:
        return "F4";
      default:
        return "an unknown type";
    }
  }
  // Whether it is F32, F16 or BF16.
  inline bool is_float_weight(uint32_t id) {
    return id == PLUQ_DTYPE_F32 || id == PLUQ_DTYPE_F16 || id == PLUQ_DTYPE_BF16;
  }

  // Round to nearest even; beyond the range to infinity.
  inline uint16_t float_to_half(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    bits &= 0x7fffffffU;
    if (bits > 0x7f800000U) return static_cast<uint16_t>(sign | 0x7e00);
    if (bits >= 0x477ff000U) return static_cast<uint16_t>(sign | 0x7c00);
    if (bits < 0x38800000U) {  // subnormal: the float adder rounds
      float magnitude;
      std::memcpy(&magnitude, &bits, 4);
      magnitude += 0.5F;
      uint32_t out;
      std::memcpy(&out, &magnitude, 4);
      return static_cast<uint16_t>(sign | (out - 0x3f000000U));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return static_cast<uint16_t>(sign | ((bits - 0x38000000U) >> 13));
  }
  // As float_to_half, to bf16.
  inline uint16_t float_to_bfloat(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }

  // ------------------------------------------------------------------ tensors

  // A read-only tensor of a layer. data() may be null (headers only) and has no alignment: read
  // through load<T>().
  class Tensor {
   public:
    Tensor() = default;
    // A view: the data stay the host's.
    explicit Tensor(const pluq_tensor& t)
        : name_(view(t.name)),
          dtype_(t.dtype),
          shape_(t.shape, t.shape + std::min<uint32_t>(t.rank, PLUQ_MAX_RANK)),
          data_(static_cast<const uint8_t*>(t.data)),
          bytes_(t.data_bytes) {}
    const std::string& name() const { return name_; }             // the suffix
    uint32_t dtype_id() const { return dtype_.id; }               // PLUQ_DTYPE_*
    pluq_dtype dtype() const { return dtype_; }                   // with its block
    const std::vector<int64_t>& shape() const { return shape_; }  // in elements as stored
    size_t rank() const { return shape_.size(); }                 // dimensions
    int64_t dim(size_t i) const { return i < shape_.size() ? shape_[i] : 1; }  // 1 beyond the rank
    // Product of the shape.
    int64_t elements() const {
      int64_t n = 1;
      for (const int64_t d : shape_) n *= d;
      return n;
    }
    const uint8_t* data() const { return data_; }  // null: headers only
    uint64_t bytes() const { return bytes_; }      // of the whole tensor
    // Element i, read as a T whatever the dtype is.
    template <class T>
    T load(int64_t i) const {
      T value;
      std::memcpy(&value, data_ + static_cast<size_t>(i) * sizeof(T), sizeof(T));
      return value;
    }
    // An F32, F16 or BF16 element as f32.
    float real(int64_t i) const {
      switch (dtype_.id) {
        case PLUQ_DTYPE_F32:
          return load<float>(i);
        case PLUQ_DTYPE_BF16: {
          const uint32_t bits = static_cast<uint32_t>(load<uint16_t>(i)) << 16;
          float value;
          std::memcpy(&value, &bits, 4);
          return value;
        }
        case PLUQ_DTYPE_F16:
          return half(load<uint16_t>(i));
        default:
          throw invalid("tensor '" + name_ + "' is " + dtype_name(dtype_.id) +
                        ", expected F32, F16 or BF16");
      }
    }
    // "I32 [32, 256]"
    std::string text() const {
      std::string out = std::string(dtype_name(dtype_.id)) + " [";
      for (size_t i = 0; i < shape_.size(); ++i)
        out += (i > 0 ? ", " : "") + std::to_string(shape_[i]);
      return out + "]";
    }

    // Bits of an f16 as f32.
    static float half(uint16_t h) {
      const uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16;
      uint32_t mantissa = h & 0x3ff, exponent = (h >> 10) & 0x1f, bits;
      if (exponent == 31) {
        bits = sign | 0x7f800000 | mantissa << 13;
      } else if (exponent != 0) {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
      } else if (mantissa == 0) {
        bits = sign;
      } else {
        exponent = 113;
        while ((mantissa & 0x400) == 0) {
          mantissa <<= 1;
          --exponent;
        }
        bits = sign | exponent << 23 | (mantissa & 0x3ff) << 13;
      }
      float value;
      std::memcpy(&value, &bits, 4);
      return value;
    }

   private:
    std::string name_;
    pluq_dtype dtype_{};
    std::vector<int64_t> shape_;
    const uint8_t* data_ = nullptr;
    uint64_t bytes_ = 0;
  };

  // The tensors of one layer, found by suffix.
  class Tensors {
   public:
    Tensors() = default;
    // Views of `count` tensors, `stride` bytes apart.
    Tensors(const pluq_tensor* first, size_t stride, size_t count) {
      for (size_t i = 0; i < count; ++i) {
        pluq_tensor t{};
        const auto* from =
            reinterpret_cast<const pluq_tensor*>(reinterpret_cast<const char*>(first) + i * stride);
        std::memcpy(&t, from, std::min<size_t>(sizeof t, from->struct_size));
        all_.emplace_back(t);
      }
    }
    // Null when there is none.
    const Tensor* find(std::string_view suffix) const {
      for (const Tensor& t : all_) {
        if (t.name() == suffix) return &t;
      }
      return nullptr;
    }
    bool has(std::string_view suffix) const { return find(suffix) != nullptr; }  // is it there?
    // Throws not_found when there is none.
    const Tensor& at(std::string_view suffix) const {
      if (const Tensor* t = find(suffix)) return *t;
      throw not_found("tensor '" + std::string(suffix) + "' is missing");
    }
    const std::vector<Tensor>& all() const { return all_; }  // in the host's order

   private:
    std::vector<Tensor> all_;
  };

  // How the host may fill a tensor with random contents.
  struct Sample {
    uint32_t kind = PLUQ_SAMPLE_BITS;    // PLUQ_SAMPLE_*
    double lo = 0, hi = 0;               // of real
    int64_t below = 0, per = 0;          // of index
    static Sample bits() { return {}; }  // uniform random bits
    // All bits 0.
    static Sample zeros() { return {PLUQ_SAMPLE_ZEROS, 0, 0, 0, 0}; }
    // Uniform in [lo, hi], converted to the dtype.
    static Sample real(double lo, double hi) { return {PLUQ_SAMPLE_REAL, lo, hi, 0, 0}; }
    // Integers 0 .. below - 1, each `per` times in order, as g_idx.
    static Sample index(int64_t below, int64_t per) {
      return {PLUQ_SAMPLE_INDEX, 0, 0, below, per};
    }
    // The layer's [N, K], as weight_shape.
    static Sample shape() { return {PLUQ_SAMPLE_SHAPE, 0, 0, 0, 0}; }
    // LinearMethod::fill writes them.
    static Sample bytes() { return {PLUQ_SAMPLE_BYTES, 0, 0, 0, 0}; }
  };

  // One tensor of a layer in checkpoint layout.
  struct WeightSpec {
    std::string suffix;                      // after the layer's name and a dot
    uint32_t dtype_id = PLUQ_DTYPE_UNKNOWN;  // of its elements as stored
    // Of a block type that the SDK does not know by its id: elements and bytes of a block.
    uint32_t block_elements = 0, block_bytes = 0;
    std::vector<int64_t> shape;  // of the whole tensor in the file
    Sample sample;               // plausible contents
    bool optional = false;       // may be absent from the file
    // This shard's box in elements as stored; empty: the whole tensor.
    std::vector<int64_t> box_begin, box_end;
    // For inspect and other engines: the dimensions along K, along N and the packed one; -1: none.
    int input_dim = -1, output_dim = -1, packed_dim = -1;
    // A ratio: 3 bits store 32 elements in 3 words.
    int pack_elements = 1, pack_words = 1;
    int64_t group_size = 0;  // along K; 0: no groups, -1: one over all of K
  };

  // ------------------------------------------------------------------ layers and devices

  // One linear layer, or a shard of it, that a method is wanted for.
  struct LayerDesc {
    // "model.layers.0.self_attn.q_proj"; "linear", "lm_head", "embedding", "expert"; "Linear".
    std::string name, kind, module_class;
    bool exact = true;               // compute asked for
    bool float_activations = false;  // activations asked for
    bool has_bias = false;           // apply may get one
    uint32_t activation_dtype_id = 0;                              // of x and y: PLUQ_DTYPE_*
    int64_t in_features = 0, out_features = 0;                     // of the whole layer: K, N
    int64_t in_begin = 0, in_end = 0, out_begin = 0, out_end = 0;  // this shard
    std::vector<int64_t> output_parts;  // rows of each part of a tensor fused on disk
    int64_t max_tokens = 0;             // largest M that apply will see
    uint64_t max_workspace_bytes = 0;   // 0: no limit
    bool tensors_known = false;         // false: no list; decide by name
    Tensors tensors;  // headers; data may be null

    int64_t k() const { return in_end - in_begin; }    // columns of this shard
    int64_t n() const { return out_end - out_begin; }  // rows of this shard
    // Whether the layer is not split.
    bool whole() const {
      return in_begin == 0 && out_begin == 0 && in_end == in_features && out_end == out_features;
    }
    // "q_proj.weight BF16 [..]" for messages.
    std::string tensors_text() const {
      std::string out;
      for (const Tensor& t : tensors.all())
        out += (out.empty() ? "" : ", ") + t.name() + " " + t.text();
      return out.empty() ? "no tensors" : out;
    }
  };

  // Instruction sets that kernels are chosen by.
  enum class Isa { kPortable, kAvx2, kAvx512 };

  // The device that a method is wanted for.
  struct Device {
    uint32_t kind = PLUQ_DEVICE_CPU;  // PLUQ_DEVICE_*
    int n_workers = 1;                // CPU: threads that share an apply
    uint64_t cpu_features = 0;        // PLUQ_CPU_* bits
    // CPU caches: per core, per core, shared; 0 unknown.
    uint64_t l1d_bytes = 0, l2_bytes = 0, l3_bytes = 0;
    uint32_t compute_capability = 0;  // CUDA: 80, 89, 90
    uint32_t sm_count = 0;            // CUDA: multiprocessors
    uint64_t shared_optin_bytes = 0;  // largest dynamic shared memory of one block
    // A GPU or the emulated device.
    bool is_cuda() const { return kind == PLUQ_DEVICE_CUDA || kind == PLUQ_DEVICE_CUDA_EMULATED; }
    // Whether it has all of these bits.
    bool has(uint64_t features) const { return (cpu_features & features) == features; }
    // The best of the CPU; kAvx512 means F, BW, VL and DQ.
    Isa isa() const {
      constexpr uint64_t avx2 = PLUQ_CPU_AVX2 | PLUQ_CPU_FMA | PLUQ_CPU_F16C;
      if (has(avx2 | PLUQ_CPU_AVX512F | PLUQ_CPU_AVX512BW | PLUQ_CPU_AVX512VL | PLUQ_CPU_AVX512DQ))
        return Isa::kAvx512;
      return has(avx2) ? Isa::kAvx2 : Isa::kPortable;
    }
  };

  // ------------------------------------------------------------------ running

  // [begin, end) of `count` things for one worker, in contiguous shares.
  struct Share {
    int64_t begin, end;  // first, and one past the last
  };
  // The share of one worker.
  inline Share share(int64_t count, int worker, int workers) {
    return {count * worker / workers, count * (worker + 1) / workers};
  }

  // What a computation runs on; valid for the call that received it.
  class Exec {
   public:
    // A view of the ABI's struct.
    explicit Exec(const pluq_exec* exec) : exec_(exec) {}
    // 64-byte aligned; contents are undefined.
    uint8_t* workspace() const { return static_cast<uint8_t*>(exec_->workspace); }
    // At least what workspace() of the method asked for.
    uint64_t workspace_bytes() const { return exec_->workspace_bytes; }
    int workers() const { return exec_->n_workers < 1 ? 1 : exec_->n_workers; }  // threads

    // Calls body(worker, workers) on every worker: by the pool when the host is outside a region,
    // as this worker's own share when it is inside one. body may call barrier(worker). Exceptions
    // must not leave body.
    template <class Body>
    void region(const Body& body) const {
      if (exec_->worker >= 0) {
        body(exec_->worker, workers());
      } else if (exec_->parallel == nullptr || workers() == 1) {
        body(0, 1);
      } else {
        exec_->parallel(
            exec_,
            [](void* user, int32_t worker, int32_t n) {
              (*static_cast<const Body*>(user))(worker, n);
            },
            const_cast<void*>(static_cast<const void*>(&body)));
      }
    }
    // Waits for all workers; only inside a region, by every worker equally often.
    void barrier(int worker, int workers) const {
      if (workers > 1) exec_->barrier(exec_, worker);
    }
    const pluq_exec* raw() const { return exec_; }  // the ABI's struct

   private:
    const pluq_exec* exec_;
  };

  // x of apply: f32 [m, k], rows ld apart.
  struct Activation {
    const float* data;  // [m, k]
    int64_t m, k, ld;   // rows, columns, distance between rows
  };
  // y of apply: f32 [m, n], rows ld apart.
  struct Output {
    float* data;       // [m, n]
    int64_t m, n, ld;  // rows, columns, distance between rows
  };

  // How a method rounds x before it multiplies; see pluq_activation_scheme.
  struct ActivationScheme {
    uint32_t strategy = PLUQ_STRATEGY_NONE;  // PLUQ_STRATEGY_*
    uint32_t dtype_id = PLUQ_DTYPE_UNKNOWN;  // I8, F8_E4M3, ...
    int64_t group_size = 0;                  // of GROUP
    // Scales from the values of each call; codes without a zero point.
    bool dynamic = true, symmetric = true;
    double divisor = 0;               // scale = max|x| / divisor
    std::string static_scale_suffix;  // tensor of the static scale
  };

  // What a method says of itself.
  struct MethodInfo {
    std::string scheme;  // "int4 g128 sym"
    std::string kernel;  // "int_gemm_avx2"
    std::string reason;  // why this kernel, when it is not the best
    uint32_t arithmetic = PLUQ_ARITHMETIC_F32;  // PLUQ_ARITHMETIC_*
    ActivationScheme activations;               // none by default
    // Relative error of a row of y (L2) against dequantize in double, after the activation scheme.
    double error_bound = 1e-5;
    double bits_per_weight = 0;  // scales and zero points included
    bool provisional = false;    // process_plan may change kernel and arithmetic
    // apply_on_device uses x.quantized, made by `activations`, which says all that there is to know.
    bool takes_quantized = false;
  };

  // The run-time layout that a method wants.
  struct ProcessPlan {
    bool keep_tensors = true;    // false: the host frees the checkpoint's tensors
    uint64_t buffer_bytes = 0;   // of the run-time buffer
    uint64_t scratch_bytes = 0;  // exec.workspace() while it is filled
    std::string cache_key;       // names the layout for a cache on disk
  };

  // One layer: how it is stored, what that means, and how it is applied.
  class LinearMethod {
   public:
    // Keeps a copy of the description.
    explicit LinearMethod(const LayerDesc& layer) : layer_(layer) {}
    virtual ~LinearMethod() = default;
    LinearMethod(const LinearMethod&) = delete;
    LinearMethod& operator=(const LinearMethod&) = delete;

    const LayerDesc& layer() const { return layer_; }  // what get_quant_method was asked for

    // [any] Scheme, kernel, error bound; bits_per_weight with scales.
    virtual MethodInfo describe() const = 0;
    // [load] The tensors of the layer on disk, and this shard's box of each.
    virtual std::vector<WeightSpec> create_weights() const = 0;
    // Whether apply is for this PLUQ_DEVICE_*. A method for the CPU alone need not say anything; on
    // another device the host is then told that the format has no kernels for it.
    virtual bool runs_on(uint32_t device_kind) const { return device_kind == PLUQ_DEVICE_CPU; }
    // Sees the bound tensors with their data.
    virtual ProcessPlan process_plan(const Tensors&) { return {}; }
    // Repacks into buffer (plan.buffer_bytes, zero-filled, 64-byte aligned), which stays in place
    // for the method's life.
    virtual void process_weights_after_loading(const Exec&, const Tensors& tensors,
                                               uint8_t* buffer) {
      (void)tensors;
      (void)buffer;
    }
    // Bytes that apply needs; monotone in both.
    virtual uint64_t workspace(int64_t max_tokens, int n_workers) const {
      (void)max_tokens;
      return static_cast<uint64_t>(n_workers) * fallback_rows() * row_bytes();
    }
    // y = x W^T + bias. Default: tiles of dequantized rows, f32 products, f64 sums. No allocation.
    virtual void apply(const Exec& exec, const Activation& x, const float* bias,
                       const Output& y) const {
      fallback_apply(exec, x, bias, y);
    }
    // The same on a device that runs_on names beside the CPU: x, y, bias and the workspace are its
    // memory, x and y of 16 bits (y also F32). Enqueues on exec.stream; no allocation, no waiting.
    virtual void apply_on_device(const pluq_exec& exec, const pluq_activation& x, const float* bias,
                                 const pluq_output& y) const {
      (void)exec, (void)x, (void)bias, (void)y;
      throw unsupported("layer " + layer().name + ": this method has kernels for the CPU only");
    }
    // Rows [n_begin, n_end) of W as f32, from the checkpoint tensors alone; reentrant.
    virtual void dequantize(const Tensors&, int64_t n_begin, int64_t n_end, float* out,
                            int64_t ld) const = 0;
    // Rows ids[i] of W, for layers of kind "embedding", whose tensors are kept whatever the plan says.
    virtual void gather(const Exec& exec, const int32_t* ids, int64_t count,
                        const Output& y) const {
      exec.region([&](int worker, int workers) {
        const Share mine = share(count, worker, workers);
        for (int64_t i = mine.begin; i < mine.end; ++i) {
          dequantize(kept_, ids[i], ids[i] + 1, y.data + i * y.ld, y.ld);
        }
      });
    }
    // Random contents for a spec with Sample::bytes().
    virtual void fill(std::string_view suffix, uint64_t seed, uint8_t* data, uint64_t bytes) {
      (void)suffix;
      (void)seed;
      std::memset(data, 0, bytes);
    }

    // The tensors at run time, when the plan keeps them. Set by the trampoline.
    const Tensors& kept() const { return kept_; }
    void keep(Tensors tensors) { kept_ = std::move(tensors); }  // for the trampoline

   protected:
    // The default of apply; for methods that have a kernel for some cases only.
    void fallback_apply(const Exec& exec, const Activation& x, const float* bias,
                        const Output& y) const {
      const int64_t tile = static_cast<int64_t>(fallback_rows());
      exec.region([&](int worker, int workers) {
        auto* rows = reinterpret_cast<float*>(exec.workspace() + static_cast<uint64_t>(worker) *
                                                                     fallback_rows() * row_bytes());
        const Share mine = share(y.n, worker, workers);
        for (int64_t n0 = mine.begin; n0 < mine.end; n0 += tile) {
          const int64_t n1 = std::min(n0 + tile, mine.end);
          dequantize(kept_, n0, n1, rows, static_cast<int64_t>(row_bytes() / sizeof(float)));
          for (int64_t m = 0; m < y.m; ++m) {
            for (int64_t n = n0; n < n1; ++n) {
              const float* w = rows + (n - n0) * static_cast<int64_t>(row_bytes() / sizeof(float));
              const float* a = x.data + m * x.ld;
              double sum[4] = {0, 0, 0, 0};  // four chains, so that additions overlap
              int64_t k = 0;
              for (; k + 4 <= x.k; k += 4) {
                for (int j = 0; j < 4; ++j) sum[j] += static_cast<double>(a[k + j]) * w[k + j];
              }
              for (; k < x.k; ++k) sum[0] += static_cast<double>(a[k]) * w[k];
              const double total =
                  (sum[0] + sum[1]) + (sum[2] + sum[3]) + (bias == nullptr ? 0 : bias[n]);
              y.data[m * y.ld + n] = static_cast<float>(total);
            }
          }
        }
      });
    }

   private:
    uint64_t row_bytes() const {
      return (static_cast<uint64_t>(layer_.k()) * sizeof(float) + 63) / 64 * 64;
    }
    uint64_t fallback_rows() const {
      const uint64_t limit =
          layer_.max_workspace_bytes > 0 ? layer_.max_workspace_bytes / 64 : uint64_t{1} << 20;
      return std::max<uint64_t>(1,
                                std::min<uint64_t>(64, limit / std::max<uint64_t>(row_bytes(), 1)));
    }
    LayerDesc layer_;
    Tensors kept_;
  };

  // ------------------------------------------------------------------ configs and formats

  // The answer of get_quant_method; make one by its static functions.
  struct Choice {
    uint32_t verdict = PLUQ_VERDICT_NOT_MINE;  // PLUQ_VERDICT_*
    int32_t score = 0;                     // of USE: the highest of all formats serves the layer
    std::string reason;                    // of any verdict but USE
    std::unique_ptr<LinearMethod> method;  // of USE
    // `method` serves it; score 1 .. 1000.
    static Choice use(std::unique_ptr<LinearMethod> method, int32_t score) {
      return {PLUQ_VERDICT_USE, score, {}, std::move(method)};
    }
    // Another format may take the layer.
    static Choice not_mine(std::string reason) {
      return {PLUQ_VERDICT_NOT_MINE, 0, std::move(reason), nullptr};
    }
    // The checkpoint says that this layer is plain.
    static Choice leave_unquantized(std::string reason) {
      return {PLUQ_VERDICT_LEAVE_UNQUANTIZED, 0, std::move(reason), nullptr};
    }
    // Mine, but not built: the reason says what.
    static Choice unsupported(std::string reason) {
      return {PLUQ_VERDICT_UNSUPPORTED, 0, std::move(reason), nullptr};
    }
  };

  // One attention block, asked what the checkpoint says of its KV cache.
  struct KvRequest {
    std::string attention;  // "model.layers.0.self_attn"
    int64_t kv_heads = 0, head_dim = 0;  // of the model
    Tensors tensors;  // all below it, by suffix: "k_proj.k_scale"; data may be null
  };
  // See pluq/ext/kv_cache.h; pluq/kv_scales.hpp makes it from the usual configs and names.
  struct KvAnswer {
    uint32_t verdict = PLUQ_VERDICT_NOT_MINE;  // PLUQ_VERDICT_*
    uint32_t dtype_id = PLUQ_DTYPE_UNKNOWN;    // F8_E4M3, F8_E5M2 or I8
    // The checkpoint asks for it; scales are made as tokens are stored.
    bool in_force = false, dynamic = false;
    std::string k_scale, v_scale;       // suffixes, or empty
    std::vector<std::string> unneeded;  // suffixes that change nothing here
    std::string reason;                 // of UNSUPPORTED
  };

  // One checkpoint's settings as one format reads them.
  class QuantizationConfig {
   public:
    virtual ~QuantizationConfig() = default;
    // [load] Is this layer mine, and what serves it? layer.tensors are those that the file really
    // holds.
    virtual Choice get_quant_method(const LayerDesc& layer, const Device& device) = 0;
    // What the checkpoint says of the KV cache; nothing by default.
    virtual KvAnswer kv_cache(const KvRequest&) { return {}; }
  };

  // One option of a format, for --set key=value and YAML.
  struct Option {
    std::string key;                     // "group_size"
    uint32_t type = PLUQ_OPTION_STRING;  // PLUQ_OPTION_*
    std::string default_value;           // as text; empty: none
    double min = 1, max = 0;  // a range when min <= max
    std::string choices;      // "a|b|c"
    std::string help;         // one line for people
  };

  // What a format says of itself.
  struct FormatInfo {
    // "gptq"; further quant_method strings separated by commas; one line for people.
    std::string id, aliases, summary;
    std::vector<Option> options;  // the host checks values against them
  };

  // What is known of a checkpoint before any format has claimed it.
  struct ProbeRequest {
    std::string container, quant_method;  // "safetensors" or "gguf"; may be empty
    Json quantization;                    // the checkpoint's quantization config, or missing
    Tensors tensors;  // full names
  };
  // How sure a format is.
  struct ProbeResult {
    int32_t score = 0;   // 0: no layer of mine .. 1000
    std::string reason;  // why, also for 0
  };
  // What create_config makes a config from.
  struct ConfigRequest {
    std::string container, architecture;  // "safetensors" or "gguf"; of the model, may be empty
    Json quantization, options;           // the checkpoint's; from --set and YAML, checked
  };

  // One group of linears that read the same input, being quantized.
  struct QuantizeLayer {
    std::string name, kind;                     // as in LayerDesc
    int64_t in_features = 0, out_features = 0;  // K, N
  };
  // A group of layers to quantize, or, in write_config, all that were.
  struct QuantizeRequest {
    std::string algorithm;                   // one of algorithms()
    Json options;                            // from --set and YAML, checked against describe()
    uint32_t model_dtype = PLUQ_DTYPE_BF16;  // of the source weights
    std::vector<QuantizeLayer> layers;       // they read the same input
  };

  // What solve reads from and writes to; reentrant.
  class QuantizeContext {
   public:
    // A view of the ABI's struct.
    explicit QuantizeContext(const pluq_quantize_context* context) : context_(context) {}
    // Rows [n_begin, n_end) of W of layer `layer` as f32, ld apart.
    void rows(size_t layer, int64_t n_begin, int64_t n_end, float* out, int64_t ld) const {
      check(context_->rows(context_, layer, n_begin, n_end, out, ld));
    }
    // Rows of the tensor `suffix` as stored, by its dimension 0; every row exactly once, in any
    // order.
    void emit(size_t layer, std::string_view suffix, int64_t row_begin, int64_t row_end,
              const void* data, uint64_t bytes) const {
      check(context_->emit(context_, layer, str(suffix), row_begin, row_end, data, bytes));
    }
    // The threads.
    Exec exec() const { return Exec(context_->exec); }

    // body(begin, end) over [0, count) in chunks on all workers; the first exception is rethrown
    // here.
    template <class Body>
    void parallel_rows(int64_t count, int64_t chunk, const Body& body) const {
      std::vector<std::unique_ptr<PluginError>> errors(static_cast<size_t>(exec().workers()));
      exec().region([&](int worker, int workers) {
        try {
          for (int64_t begin = worker * chunk; begin < count; begin += workers * chunk) {
            body(begin, std::min(begin + chunk, count));
          }
        } catch (const PluginError& e) {
          errors[static_cast<size_t>(worker)] = std::make_unique<PluginError>(e);
        } catch (const std::exception& e) {
          errors[static_cast<size_t>(worker)] =
              std::make_unique<PluginError>(PluginError{PLUQ_STATUS_INTERNAL, e.what()});
        }
      });
      for (const auto& e : errors) {
        if (e) throw *e;
      }
    }

   private:
    const pluq_quantize_context* context_;
  };

  // The inside of a JSON array of names: "a","b". Names are those of layers and hold nothing that
  // needs escaping.
  inline std::string json_strings(const std::vector<std::string>& names) {
    std::string out;
    for (const std::string& name : names) out += (out.empty() ? "\"" : ",\"") + name + "\"";
    return out;
  }

  // Quantizes one group of layers.
  class Quantizer {
   public:
    // Throw unsupported here for layers that cannot be quantized: they stay as they are.
    explicit Quantizer(QuantizeRequest request) : request_(std::move(request)) {}
    virtual ~Quantizer() = default;
    const QuantizeRequest& request() const { return request_; }  // the group
    // Layer i of the group, not split, as create_weights of the format's method will see it.
    LayerDesc whole_layer(size_t i) const {
      LayerDesc l;
      l.name = request_.layers[i].name;
      l.kind = request_.layers[i].kind;
      l.in_features = l.in_end = request_.layers[i].in_features;
      l.out_features = l.out_end = request_.layers[i].out_features;
      return l;
    }
    // PLUQ_STATISTIC_* bits of the inputs that solve asks for.
    virtual uint32_t statistics() const { return PLUQ_STATISTIC_NONE; }
    // The tensors that a layer becomes.
    virtual std::vector<WeightSpec> output_specs(size_t layer) const = 0;
    // Reads rows, emits tensors.
    virtual void solve(const QuantizeContext& context) = 0;

   private:
    QuantizeRequest request_;
  };

  // A layer this format can serve, for the conformance kit and the probe of unknown plugins. Only
  // formats without a quantizer need to give some.
  struct SampleLayer {
    std::string name;          // for people: "a8 token"
    std::string quantization;  // JSON of the quantization config, or empty
    std::vector<WeightSpec> tensors;  // filled by their samples
  };

  // What a plugin registers: one object for the life of the process.
  class Format {
   public:
    virtual ~Format() = default;
    // Sample layers of [n, k]; empty when there are none.
    virtual std::vector<SampleLayer> samples(int64_t n, int64_t k) const {
      (void)n;
      (void)k;
      return {};
    }
    // Random contents for a tensor of a sample with Sample::bytes().
    virtual void fill(const SampleLayer& sample, std::string_view suffix, uint64_t seed,
                      uint8_t* data, uint64_t bytes) {
      (void)sample;
      (void)suffix;
      (void)seed;
      std::memset(data, 0, bytes);
    }
    // [any] Id, aliases, options; the same at every call.
    virtual FormatInfo describe() const = 0;
    // [load] May this checkpoint hold layers of mine?
    virtual ProbeResult probe(const ProbeRequest& request) = 0;
    // [load] Throws invalid, naming the key, when the settings are wrong.
    virtual std::unique_ptr<QuantizationConfig> create_config(const ConfigRequest& request) = 0;
    // Quantizing: algorithms separated by ',' (empty: this format cannot quantize), a job per group
    // of layers, and the quantization_config of the output checkpoint.
    virtual std::string algorithms() const { return {}; }
    // A job for one group of layers.
    virtual std::unique_ptr<Quantizer> create_quantizer(QuantizeRequest) {
      throw unsupported(algorithms().empty()
                            ? "this format cannot quantize"
                            : "algorithms() names some, but create_quantizer is not overridden");
    }
    // JSON of the quantization_config; `plain` are the linear layers left as they are.
    virtual std::string write_config(const QuantizeRequest&,
                                     const std::vector<std::string>& plain) {
      (void)plain;
      throw unsupported(algorithms().empty()
                            ? "this format cannot quantize"
                            : "algorithms() names some, but write_config is not overridden");
    }
  };

}  // namespace )
}  // namespace pluq

#include "pluq/plugin/trampoline.hpp"
