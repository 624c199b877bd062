// SPDX-License-Identifier: Apache-2.0
// From the C tables to the classes of plugin.hpp: every call is noexcept, catches all, honours
// struct_size and strides. Included by plugin.hpp; authors need nothing from here but PLUQ_PLUGIN.
#pragma once

#include <set>

#include "pluq/plugin.hpp"

namespace pluq {
inline namespace sdk_v0 __attribute__((visibility("hidden"))) {
  namespace detail {

  inline pluq_status* status(int32_t code, std::string_view text) {
    return host().status_new(&host(), code, text.data(), text.size());
  }

  // Runs body, which may throw, and answers in statuses.
  template <class Body>
  pluq_status* guarded(const Body& body) noexcept {
    try {
      body();
      return nullptr;
    } catch (const PluginError& e) {
      return status(e.code, e.text);
    } catch (const std::bad_alloc&) {
      return status(PLUQ_STATUS_OUT_OF_MEMORY, "out of memory in the plugin");
    } catch (const std::exception& e) {
      return status(PLUQ_STATUS_INTERNAL, e.what());
    } catch (...) {
      return status(PLUQ_STATUS_INTERNAL, "the plugin threw something that is no std::exception");
    }
  }

  // The caller's struct as ours: known fields copied, the rest zero.
  template <class T>
  T read(const T* from) {
    T out{};
    std::memcpy(&out, from, std::min<size_t>(sizeof out, from->struct_size));
    return out;
  }
  // Ours into the caller's: at most its size, its struct_size kept.
  template <class T>
  void write(T value, T* to) {
    const uint32_t size = to->struct_size;
    std::memcpy(to, &value, std::min<size_t>(sizeof value, size));
    to->struct_size = size;
  }

  inline LayerDesc layer_desc(const pluq_layer_desc* from) {
    const pluq_layer_desc d = read(from);
    LayerDesc out;
    out.name = view(d.name);
    out.kind = view(d.kind);
    out.module_class = view(d.module_class);
    out.exact = d.compute == PLUQ_COMPUTE_EXACT;
    out.float_activations = d.activations == PLUQ_ACTIVATIONS_FLOAT;
    out.has_bias = d.has_bias != 0;
    out.activation_dtype_id = d.activation_dtype.id;
    out.in_features = d.in_features;
    out.out_features = d.out_features;
    out.in_begin = d.in_begin;
    out.in_end = d.in_end;
    out.out_begin = d.out_begin;
    out.out_end = d.out_end;
    if (d.output_parts != nullptr)
      out.output_parts.assign(d.output_parts, d.output_parts + d.output_parts_count);
    out.max_tokens = d.max_tokens;
    out.max_workspace_bytes = d.max_workspace_bytes;
    out.tensors_known = d.tensors_known != 0;
    out.tensors = Tensors(d.tensors, d.tensor_stride, d.tensor_count);
    return out;
  }

  inline Device device(const pluq_device* from) {
    const pluq_device d = read(from);
    return {d.kind,     d.n_workers,          d.cpu_features, d.l1d_bytes,         d.l2_bytes,
            d.l3_bytes, d.compute_capability, d.sm_count,     d.shared_optin_bytes};
  }

  // Adapts specs to the C struct; strings must outlive the result.
  inline void fill_specs(const std::vector<WeightSpec>& all, pluq_weight_spec* specs, size_t stride,
                         size_t* count, void (*fill)(void*, pluq_str, uint64_t, void*, uint64_t)) {
    const size_t capacity = specs == nullptr ? 0 : *count;
    for (size_t i = 0; i < all.size() && i < capacity; ++i) {
      const WeightSpec& s = all[i];
      if (s.shape.size() > PLUQ_MAX_RANK)
        throw invalid("tensor '" + s.suffix + "' has more than 4 dimensions");
      pluq_weight_spec out{};
      out.flags = s.optional ? PLUQ_WEIGHT_OPTIONAL : 0;
      out.suffix = str(s.suffix);
      out.dtype = dtype(s.dtype_id);
      if (s.block_elements > 0) out.dtype = {s.dtype_id, s.block_elements, s.block_bytes};
      out.rank = static_cast<uint32_t>(s.shape.size());
      for (size_t d = 0; d < s.shape.size(); ++d) {
        out.shape[d] = s.shape[d];
        out.box_begin[d] = s.box_begin.empty() ? 0 : s.box_begin[d];
        out.box_end[d] = s.box_end.empty() ? s.shape[d] : s.box_end[d];
      }
      out.input_dim = s.input_dim;
      out.output_dim = s.output_dim;
      out.packed_dim = s.packed_dim;
      out.pack_elements = s.pack_elements;
      out.pack_words = s.pack_words;
      out.group_size = s.group_size;
      out.sample.struct_size = sizeof out.sample;
      out.sample.kind = s.sample.kind;
      out.sample.lo = s.sample.lo;
      out.sample.hi = s.sample.hi;
      out.sample.below = s.sample.below;
      out.sample.per = s.sample.per;
      out.sample.fill = fill;
      auto* to = reinterpret_cast<pluq_weight_spec*>(reinterpret_cast<char*>(specs) + i * stride);
      write(out, to);
    }
    *count = all.size();
  }

  // ------------------------------------------------------------------ LinearMethod

  struct MethodBox {
    std::unique_ptr<LinearMethod> method;
    std::string format_id;
    std::vector<WeightSpec> specs;  // keeps suffixes alive
    MethodInfo info;
    bool keep_tensors = true;  // what the last plan said
    static MethodBox& of(void* self) { return *static_cast<MethodBox*>(self); }
  };

  inline void method_destroy(void* self) noexcept { delete &MethodBox::of(self); }

  inline void method_describe(void* self, pluq_method_info* info) noexcept {
    try {
      MethodBox& box = MethodBox::of(self);
      box.info = box.method->describe();
      const MethodInfo& m = box.info;
      pluq_method_info out{};
      if (m.provisional) out.flags |= PLUQ_METHOD_PROVISIONAL;
      if (m.takes_quantized) out.flags |= PLUQ_METHOD_TAKES_QUANTIZED;
      out.format = str(box.format_id);
      out.scheme = str(m.scheme);
      out.kernel = str(m.kernel);
      out.reason = str(m.reason);
      out.arithmetic = m.arithmetic;
      pluq_activation_scheme& a = out.activation_scheme;
      a.struct_size = sizeof a;
      a.strategy = m.activations.strategy;
      a.dtype = dtype(m.activations.dtype_id);
      a.group_size = m.activations.group_size;
      a.dynamic = m.activations.dynamic;
      a.symmetric = m.activations.symmetric;
      a.divisor = m.activations.divisor;
      a.static_scale_suffix = str(m.activations.static_scale_suffix);
      out.error_bound = m.error_bound;
      out.bits_per_weight = m.bits_per_weight;
      write(out, info);
    } catch (...) {  // describe has no way to fail: the caller's zeros stand
    }
  }

  inline void method_fill(void* self, pluq_str suffix, uint64_t seed, void* data,
                          uint64_t bytes) noexcept {
    try {
      MethodBox::of(self).method->fill(view(suffix), seed, static_cast<uint8_t*>(data), bytes);
    } catch (...) {
      std::memset(data, 0, bytes);
    }
  }

  inline pluq_status* method_create_weights(void* self, pluq_weight_spec* specs, size_t stride,
                                            size_t* count) noexcept {
    return guarded([&] {
      MethodBox& box = MethodBox::of(self);
      if (box.specs.empty()) box.specs = box.method->create_weights();
      fill_specs(box.specs, specs, stride, count, &method_fill);
    });
  }

  // Rows of a table are read from its tensors, whatever the plan says of them.
  inline bool keeps_tensors(const LinearMethod& method, const ProcessPlan& plan) {
    return plan.keep_tensors || method.layer().kind == "embedding";
  }

  inline pluq_status* method_plan(void* self, const pluq_tensor* tensors, size_t stride,
                                  size_t count, pluq_process_plan* plan) noexcept {
    return guarded([&] {
      MethodBox& box = MethodBox::of(self);
      const ProcessPlan p = box.method->process_plan(Tensors(tensors, stride, count));
      box.keep_tensors = keeps_tensors(*box.method, p);
      pluq_process_plan out = read(plan);
      out.keep_tensors = box.keep_tensors;
      out.buffer_bytes = p.buffer_bytes;
      out.scratch_bytes = p.scratch_bytes;
      put(out.cache_key, p.cache_key);
      write(out, plan);
    });
  }

  inline pluq_status* method_process(void* self, const pluq_exec* exec, const pluq_tensor* tensors,
                                     size_t stride, size_t count, void* buffer) noexcept {
    return guarded([&] {
      LinearMethod& method = *MethodBox::of(self).method;
      const Tensors all(tensors, stride, count);
      // On another device the tensors' values are out of reach: the plan before this call stands.
      const bool keep = exec->device_kind == PLUQ_DEVICE_CPU
                            ? keeps_tensors(method, method.process_plan(all))
                            : MethodBox::of(self).keep_tensors;
      method.process_weights_after_loading(Exec(exec), all, static_cast<uint8_t*>(buffer));
      method.keep(keep ? all : Tensors());
    });
  }

  inline uint64_t method_workspace(void* self, int64_t max_tokens, int32_t n_workers) noexcept {
    try {
      return MethodBox::of(self).method->workspace(max_tokens, n_workers < 1 ? 1 : n_workers);
    } catch (...) {
      return 0;
    }
  }

  inline void need_f32(const pluq_dtype& type, const char* what) {
    if (type.id != PLUQ_DTYPE_F32) {
      throw unsupported(std::string(what) + " is " + dtype_name(type.id) +
                        "; this plugin computes on F32");
    }
  }

  inline pluq_status* method_apply(void* self, const pluq_exec* exec, const pluq_activation* x,
                                   const float* bias, const pluq_output* y) noexcept {
    return guarded([&] {
      const LinearMethod& method = *MethodBox::of(self).method;
      if (x->m == 0) return;
      const bool on_cpu = exec->device_kind == PLUQ_DEVICE_CPU;
      if (on_cpu) {
        need_f32(x->dtype, "x");
        need_f32(y->dtype, "y");
      }
      if (x->k != method.layer().k() || y->n != method.layer().n() || y->m != x->m) {
        throw invalid(format(
            "apply of %s got x [%lld, %lld] and y [%lld, %lld], expected K = %lld and N = %lld",
            method.layer().name.c_str(), static_cast<long long>(x->m), static_cast<long long>(x->k),
            static_cast<long long>(y->m), static_cast<long long>(y->n),
            static_cast<long long>(method.layer().k()),
            static_cast<long long>(method.layer().n())));
      }
      const uint64_t need = method.workspace(x->m, exec->n_workers < 1 ? 1 : exec->n_workers);
      if (exec->workspace_bytes < need) {
        throw invalid(format("apply of %s needs %llu bytes of workspace, got %llu",
                             method.layer().name.c_str(), static_cast<unsigned long long>(need),
                             static_cast<unsigned long long>(exec->workspace_bytes)));
      }
      if (!on_cpu) {
        method.apply_on_device(*exec, *x, bias, *y);
        return;
      }
      method.apply(Exec(exec), {static_cast<const float*>(x->data), x->m, x->k, x->ld}, bias,
                   {static_cast<float*>(y->data), y->m, y->n, y->ld});
    });
  }

  inline pluq_status* method_dequantize(void* self, const pluq_exec*, const pluq_tensor* tensors,
                                        size_t stride, size_t count, int64_t n_begin, int64_t n_end,
                                        float* out, int64_t ld) noexcept {
    return guarded([&] {
      const LinearMethod& method = *MethodBox::of(self).method;
      if (n_begin < 0 || n_begin > n_end || n_end > method.layer().n()) {
        throw invalid(format("dequantize of rows [%lld, %lld), the layer has %lld",
                             static_cast<long long>(n_begin), static_cast<long long>(n_end),
                             static_cast<long long>(method.layer().n())));
      }
      method.dequantize(Tensors(tensors, stride, count), n_begin, n_end, out, ld);
    });
  }

  inline pluq_status* method_gather(void* self, const pluq_exec* exec, const int32_t* ids,
                                    int64_t count, const pluq_output* y) noexcept {
    return guarded([&] {
      need_f32(y->dtype, "y");
      MethodBox::of(self).method->gather(Exec(exec), ids, count,
                                         {static_cast<float*>(y->data), y->m, y->n, y->ld});
    });
  }

  inline const void* method_extension(void* self, const char* id) noexcept {
    static const pluq_embedding embedding{sizeof(pluq_embedding), 0, &method_gather};
    const bool wanted = MethodBox::of(self).method->layer().kind == "embedding" &&
                        std::strcmp(id, PLUQ_EMBEDDING) == 0;
    return wanted ? &embedding : nullptr;
  }

  inline const pluq_method_api* method_api() {
    static const pluq_method_api api{sizeof(pluq_method_api), 0,
                                     &method_destroy,         &method_describe,
                                     &method_create_weights,  &method_plan,
                                     &method_process,         &method_workspace,
                                     &method_apply,           &method_dequantize,
                                     &method_extension};
    return &api;
  }

  // ------------------------------------------------------------------ QuantizationConfig

  struct ConfigBox {
    std::unique_ptr<QuantizationConfig> config;
    std::string format_id;
    static ConfigBox& of(void* self) { return *static_cast<ConfigBox*>(self); }
  };

  inline void config_destroy(void* self) noexcept { delete &ConfigBox::of(self); }

  inline pluq_status* config_get_quant_method(void* self, const pluq_layer_desc* layer,
                                              const pluq_device* dev,
                                              pluq_method_choice* choice) noexcept {
    return guarded([&] {
      ConfigBox& box = ConfigBox::of(self);
      const Device where = device(dev);
      Choice c = box.config->get_quant_method(layer_desc(layer), where);
      if (c.verdict == PLUQ_VERDICT_USE && c.method != nullptr && !c.method->runs_on(where.kind)) {
        c = Choice::unsupported("has no kernels for CUDA");
      }
      pluq_method_choice out = read(choice);
      out.verdict = c.verdict;
      out.score = c.score;
      put(out.reason, c.reason);
      out.method = {};
      if (c.verdict == PLUQ_VERDICT_USE && c.method != nullptr) {
        auto method = std::make_unique<MethodBox>();
        method->method = std::move(c.method);
        method->format_id = box.format_id;
        out.method = {method_api(), method.release()};
      }
      write(out, choice);
    });
  }

  inline pluq_status* config_kv_cache(void* self, const pluq_kv_request* request,
                                      pluq_kv_answer* answer) noexcept {
    return guarded([&] {
      const pluq_kv_request r = read(request);
      const KvAnswer a = ConfigBox::of(self).config->kv_cache(
          {std::string(view(r.attention)), r.kv_heads, r.head_dim,
           Tensors(r.tensors, r.tensor_stride, r.tensor_count)});
      std::string unneeded;
      for (const std::string& name : a.unneeded) unneeded += (unneeded.empty() ? "" : ",") + name;
      pluq_kv_answer out = read(answer);
      out.verdict = a.verdict;
      out.dtype = a.dtype_id;
      out.in_force = a.in_force;
      out.dynamic = a.dynamic;
      put(out.k_scale, a.k_scale);
      put(out.v_scale, a.v_scale);
      put(out.unneeded, unneeded);
      put(out.reason, a.reason);
      write(out, answer);
    });
  }

  inline const void* config_extension(void*, const char* id) noexcept {
    static const pluq_kv_cache kv_cache{sizeof(pluq_kv_cache), 0, &config_kv_cache};
    return std::strcmp(id, PLUQ_KV_CACHE) == 0 ? &kv_cache : nullptr;
  }

  inline const pluq_config_api* config_api() {
    static const pluq_config_api api{sizeof(pluq_config_api), 0, &config_destroy,
                                     &config_get_quant_method, &config_extension};
    return &api;
  }

  // ------------------------------------------------------------------ Format

  struct FormatBox {
    std::unique_ptr<Format> format;
    FormatInfo info;
    std::string algorithms;
    std::vector<pluq_option> options;
    // Of samples; [load], so never concurrent.
    std::set<std::string> kept;  // suffixes
    SampleLayer described;       // the last one that samples_get described
    static FormatBox& of(void* self) { return *static_cast<FormatBox*>(self); }
  };

  inline void format_describe(void* self, pluq_format_info* info) noexcept {
    FormatBox& box = FormatBox::of(self);
    pluq_format_info out{};
    out.option_stride = sizeof(pluq_option);
    out.id = str(box.info.id);
    out.aliases = str(box.info.aliases);
    out.summary = str(box.info.summary);
    out.options = box.options.data();
    out.option_count = box.options.size();
    write(out, info);
  }

  inline pluq_status* format_probe(void* self, const pluq_probe_request* request,
                                   pluq_probe_result* result) noexcept {
    return guarded([&] {
      const pluq_probe_request r = read(request);
      const ProbeResult found = FormatBox::of(self).format->probe(
          {std::string(view(r.container)), std::string(view(r.quant_method)), Json(r.quantization),
           Tensors(r.tensors, r.tensor_stride, r.tensor_count)});
      pluq_probe_result out = read(result);
      out.score = found.score;
      put(out.reason, found.reason);
      write(out, result);
    });
  }

  inline pluq_status* format_create_config(void* self, const pluq_config_request* request,
                                           pluq_config* config) noexcept {
    return guarded([&] {
      FormatBox& box = FormatBox::of(self);
      const pluq_config_request r = read(request);
      auto made = std::make_unique<ConfigBox>();
      made->config = box.format->create_config(
          {std::string(view(r.container)), std::string(view(r.architecture)),
           Json(r.quantization, "quantization_config"), Json(r.options, "options")});
      made->format_id = box.info.id;
      *config = {config_api(), made.release()};
    });
  }

  // ------------------------------------------------------------------ Quantizer

  struct JobBox {
    std::unique_ptr<Quantizer> quantizer;
    std::vector<std::vector<WeightSpec>> specs;  // per layer; keeps suffixes alive
    static JobBox& of(void* self) { return *static_cast<JobBox*>(self); }
  };

  inline QuantizeRequest quantize_request(const pluq_quantize_request* from) {
    const pluq_quantize_request r = read(from);
    QuantizeRequest out;
    out.algorithm = view(r.algorithm);
    out.options = Json(r.options, "options");
    out.model_dtype = r.model_dtype.id;
    for (size_t i = 0; i < r.layer_count; ++i) {
      const pluq_quantize_layer layer = read(reinterpret_cast<const pluq_quantize_layer*>(
          reinterpret_cast<const char*>(r.layers) + i * r.layer_stride));
      out.layers.push_back({std::string(view(layer.name)), std::string(view(layer.kind)),
                            layer.in_features, layer.out_features});
    }
    return out;
  }

  inline void quantizer_describe(void* self, pluq_quantizer_info* info) noexcept {
    pluq_quantizer_info out{};
    out.algorithms = str(FormatBox::of(self).algorithms);
    write(out, info);
  }

  inline pluq_status* quantizer_begin(void* self, const pluq_quantize_request* request,
                                      uint32_t* statistics, void** job) noexcept {
    return guarded([&] {
      auto box = std::make_unique<JobBox>();
      box->quantizer = FormatBox::of(self).format->create_quantizer(quantize_request(request));
      box->specs.resize(box->quantizer->request().layers.size());
      *statistics = box->quantizer->statistics();
      *job = box.release();
    });
  }

  inline pluq_status* quantizer_output_specs(void* self, size_t layer, pluq_weight_spec* specs,
                                             size_t stride, size_t* count) noexcept {
    return guarded([&] {
      JobBox& box = JobBox::of(self);
      if (layer >= box.specs.size())
        throw invalid("output_specs of a layer that the request does not have");
      if (box.specs[layer].empty()) box.specs[layer] = box.quantizer->output_specs(layer);
      fill_specs(box.specs[layer], specs, stride, count, nullptr);
    });
  }

  inline pluq_status* quantizer_solve(void* self, const pluq_quantize_context* context) noexcept {
    return guarded([&] { JobBox::of(self).quantizer->solve(QuantizeContext(context)); });
  }

  inline void quantizer_end(void* self) noexcept { delete &JobBox::of(self); }

  inline pluq_status* quantizer_write_config(void* self, const pluq_quantize_request* request,
                                             const pluq_str* plain, size_t plain_count,
                                             const pluq_text_sink* sink) noexcept {
    return guarded([&] {
      std::vector<std::string> names;
      for (size_t i = 0; i < plain_count; ++i) names.emplace_back(view(plain[i]));
      const std::string text =
          FormatBox::of(self).format->write_config(quantize_request(request), names);
      sink->write(sink->user, text.data(), text.size());
    });
  }

  inline size_t samples_count(void* self, int64_t n, int64_t k) noexcept {
    try {
      return FormatBox::of(self).format->samples(n, k).size();
    } catch (...) {
      return 0;
    }
  }

  inline void sample_fill(void* self, pluq_str suffix, uint64_t seed, void* data,
                          uint64_t bytes) noexcept {
    FormatBox& box = FormatBox::of(self);
    try {
      box.format->fill(box.described, view(suffix), seed, static_cast<uint8_t*>(data), bytes);
    } catch (...) {
      std::memset(data, 0, bytes);
    }
  }

  inline pluq_status* samples_get(void* self, size_t index, int64_t n, int64_t k, pluq_text* name,
                                  const pluq_text_sink* quantization, pluq_weight_spec* specs,
                                  size_t stride, size_t* count) noexcept {
    return guarded([&] {
      FormatBox& box = FormatBox::of(self);
      std::vector<SampleLayer> all = box.format->samples(n, k);
      if (index >= all.size()) throw invalid("there is no sample with this index");
      SampleLayer& sample = all[index];
      for (const WeightSpec& s : sample.tensors) box.kept.insert(s.suffix);  // texts that stay
      box.described = sample;
      if (name != nullptr) put(*name, sample.name);
      if (quantization != nullptr)
        quantization->write(quantization->user, sample.quantization.data(),
                            sample.quantization.size());
      fill_specs(sample.tensors, specs, stride, count, &sample_fill);
      for (size_t i = 0; specs != nullptr && i < sample.tensors.size() && i < *count; ++i) {
        auto* spec =
            reinterpret_cast<pluq_weight_spec*>(reinterpret_cast<char*>(specs) + i * stride);
        spec->suffix = str(*box.kept.find(sample.tensors[i].suffix));
      }
    });
  }

  inline const void* format_extension(void* self, const char* id) noexcept {
    static const pluq_samples samples{sizeof(pluq_samples), 0, &samples_count, &samples_get};
    if (std::strcmp(id, PLUQ_SAMPLES) == 0) return &samples;
    static const pluq_quantizer quantizer{sizeof(pluq_quantizer),  0,
                                          &quantizer_describe,     &quantizer_begin,
                                          &quantizer_output_specs, &quantizer_solve,
                                          &quantizer_end,          &quantizer_write_config};
    const bool wanted =
        std::strcmp(id, PLUQ_QUANTIZER) == 0 && !FormatBox::of(self).algorithms.empty();
    return wanted ? &quantizer : nullptr;
  }

  inline const pluq_format_api* format_api() {
    static const pluq_format_api api{sizeof(pluq_format_api), 0,
                                     &format_describe,        &format_probe,
                                     &format_create_config,   &format_extension};
    return &api;
  }

  // ------------------------------------------------------------------ the entry

  // The minor both sides speak, or -1. In major 0 both need the same minor; from 1 on they meet at
  // the lower maximum.
  constexpr int64_t negotiate(uint32_t major, uint32_t min_a, uint32_t max_a, uint32_t other_major,
                              uint32_t min_b, uint32_t max_b) {
    if (major != other_major || min_a > max_a || min_b > max_b) return -1;
    const uint32_t minor = max_a < max_b ? max_a : max_b;
    if (minor < min_a || minor < min_b) return -1;
    if (major == 0 && max_a != max_b) return -1;
    return minor;
  }

  template <class F>
  void register_one(const pluq_handshake* handshake) {
    // Lives as long as the process, on purpose: the host keeps the pair.
    static FormatBox* const box = [] {
      auto* made = new FormatBox;
      made->format = std::make_unique<F>();
      made->info = made->format->describe();
      made->algorithms = made->format->algorithms();
      for (const Option& o : made->info.options) {
        made->options.push_back({sizeof(pluq_option), o.type, str(o.key), str(o.default_value),
                                 o.min, o.max, str(o.choices), str(o.help)});
      }
      return made;
    }();
    const pluq_format pair{format_api(), box};
    check(handshake->register_format(handshake->registrar, &pair));
  }

  template <class... Formats>
  pluq_status* entry(const pluq_host* from, const pluq_handshake* handshake, pluq_plugin_info* info,
                     const pluq_manifest* manifest) noexcept {
    host_slot() = from;
    return guarded([&] {
      const pluq_handshake h = read(handshake);
      if (negotiate(PLUQ_ABI_MAJOR, PLUQ_ABI_MIN_MINOR, PLUQ_ABI_MINOR, h.abi_major,
                    h.min_minor, h.max_minor) < 0) {
        throw PluginError{
            PLUQ_STATUS_ABI_MISMATCH,
            format("the plugin speaks ABI %u.%u to %u.%u, the host %u.%u to %u.%u", PLUQ_ABI_MAJOR,
                   PLUQ_ABI_MIN_MINOR, PLUQ_ABI_MAJOR, PLUQ_ABI_MINOR, h.abi_major, h.min_minor, h.abi_major, h.max_minor)};
      }
      pluq_plugin_info out{};
      out.abi_major = PLUQ_ABI_MAJOR;
      out.min_minor = PLUQ_ABI_MIN_MINOR;
      out.max_minor = PLUQ_ABI_MINOR;
      out.manifest = manifest;
      write(out, info);
      (register_one<Formats>(&h), ...);
    });
  }

  // An ELF note: header, name padded to 8 bytes, the manifest.
  struct Note {
    uint32_t name_size, manifest_size, type;
    char name[8];
    pluq_manifest manifest;
  };

  }  // namespace detail
}  // namespace )
}  // namespace pluq

// Once per plugin, at namespace scope: plugin id, version, the ids of its formats separated by ',',
// their classes.
#define PLUQ_PLUGIN(plugin_id, plugin_version, format_ids, ...)                                   \
  namespace {                                                                                     \
  __attribute__((section(".note.pluq"), used,                                                     \
                 aligned(4))) constexpr ::pluq::detail::Note pluq_note = {5,                      \
                                                                          sizeof(pluq_manifest),  \
                                                                          PLUQ_NOTE_TYPE,         \
                                                                          PLUQ_NOTE_NAME,         \
                                                                          {PLUQ_MANIFEST_MAGIC,   \
                                                                           sizeof(pluq_manifest), \
                                                                           PLUQ_ABI_MAJOR,        \
                                                                           PLUQ_ABI_MIN_MINOR,    \
                                                                           PLUQ_ABI_MINOR,        \
                                                                           62 /* x86-64 */,       \
                                                                           0,                     \
                                                                           {0},                   \
                                                                           plugin_id,             \
                                                                           plugin_version,        \
                                                                           format_ids}};          \
  }                                                                                               \
  extern "C" __attribute__((visibility("default"))) pluq_status* PLUQ_PLUGIN_ENTRY(               \
      const pluq_host* host, const pluq_handshake* handshake, pluq_plugin_info* info) {           \
    return ::pluq::detail::entry<__VA_ARGS__>(host, handshake, info, &pluq_note.manifest);        \
  }
