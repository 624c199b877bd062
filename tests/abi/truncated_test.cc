// SPDX-License-Identifier: Apache-2.0
// Tables that a plugin hands out, each cut to any size with its last byte before an inaccessible
// page: the host reads no byte beyond struct_size. It refuses a table that lacks what 1.0 has, and
// goes on without what is optional.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "conformance/cases.h"
#include "device/device.h"
#include "device/exec.h"
#include "plugin/call_args.h"
#include "pluq/ext/kv_cache.h"
#include "pluq/ext/samples.h"

namespace pluq::conformance {
namespace {

namespace fs = std::filesystem;

// The tables that cross the boundary from the plugin, by their full sizes of today.
enum Table {
  kFormat,
  kOption,
  kQuantizer,
  kSamples,
  kConfig,
  kKvCache,
  kMethod,
  kEmbedding,
  kTables
};
constexpr const char* kNames[] = {"pluq_format_api", "pluq_option",     "pluq_quantizer",
                                  "pluq_samples",    "pluq_config_api", "pluq_kv_cache",
                                  "pluq_method_api", "pluq_embedding"};
constexpr size_t kSizes[] = {sizeof(pluq_format_api), sizeof(pluq_option),
                             sizeof(pluq_quantizer),  sizeof(pluq_samples),
                             sizeof(pluq_config_api), sizeof(pluq_kv_cache),
                             sizeof(pluq_method_api), sizeof(pluq_embedding)};

// Stands between the host and a real plugin, whose functions it calls, and hands out copies of the
// plugin's tables. The functions of the ABI know no closure, so there is one of these at a time.
class Cutter {
 public:
  Cutter(const pluq_format& real, Table table, size_t size) : real_(real), table_(table) {
    std::copy(std::begin(kSizes), std::end(kSizes), sizes_);
    sizes_[table] = size;
    now_ = this;
  }
  ~Cutter() { now_ = nullptr; }
  Cutter(const Cutter&) = delete;
  Cutter& operator=(const Cutter&) = delete;

  pluq_format format() {
    pluq_format_api api = *real_.api;
    api.describe = &describe;
    api.create_config = &create_config;
    api.get_extension = &format_extension;
    return {cut(kFormat, api), real_.self};
  }
  bool used() const { return used_; }  // the table in question was handed out

 private:
  // The head of `full`, as long as this table is to be, flush with an inaccessible page.
  template <class T>
  const T* cut(Table table, const T& full) {
    used_ |= table == table_;
    Guarded& copy = copies_.emplace_back(sizes_[table], 4);
    std::memcpy(copy.data(), &full, sizes_[table]);
    const auto size = static_cast<uint32_t>(sizes_[table]);
    std::memcpy(copy.data(), &size, sizeof size);
    copy.read_only();
    return copy.as<const T>();
  }

  static void describe(void* format, pluq_format_info* info) {
    now_->real_.api->describe(format, info);
    if (info->option_count == 0) return;
    // The last option ends at the page; the stride is that of a plugin with whole options.
    const size_t n = info->option_count, stride = sizeof(pluq_option), size = now_->sizes_[kOption];
    Guarded& copy = now_->copies_.emplace_back((n - 1) * stride + size, 4);
    for (size_t i = 0; i < n; ++i) {
      pluq_option option = *reinterpret_cast<const pluq_option*>(
          reinterpret_cast<const char*>(info->options) + i * info->option_stride);
      option.struct_size = static_cast<uint32_t>(size);
      std::memcpy(copy.data() + i * stride, &option, size);
    }
    now_->used_ |= now_->table_ == kOption;
    info->options = copy.as<const pluq_option>();
    info->option_stride = static_cast<uint32_t>(stride);
  }
  static const void* format_extension(void* format, const char* id) {
    const void* real = now_->real_.api->get_extension(format, id);
    if (real == nullptr) return nullptr;
    if (std::strcmp(id, PLUQ_QUANTIZER) == 0)
      return now_->cut(kQuantizer, *static_cast<const pluq_quantizer*>(real));
    if (std::strcmp(id, PLUQ_SAMPLES) == 0)
      return now_->cut(kSamples, *static_cast<const pluq_samples*>(real));
    return real;
  }
  static pluq_status* create_config(void* format, const pluq_config_request* request,
                                    pluq_config* config) {
    pluq_status* status = now_->real_.api->create_config(format, request, config);
    if (status != nullptr) return status;
    now_->config_ = *config->api;
    pluq_config_api api = *config->api;
    api.get_quant_method = &get_quant_method;
    api.get_extension = &config_extension;
    config->api = now_->cut(kConfig, api);
    return nullptr;
  }
  static const void* config_extension(void* config, const char* id) {
    if (now_->config_.get_extension == nullptr) return nullptr;
    const void* real = now_->config_.get_extension(config, id);
    if (real == nullptr || std::strcmp(id, PLUQ_KV_CACHE) != 0) return real;
    return now_->cut(kKvCache, *static_cast<const pluq_kv_cache*>(real));
  }
  static pluq_status* get_quant_method(void* config, const pluq_layer_desc* layer,
                                       const pluq_device* device, pluq_method_choice* choice) {
    pluq_status* status = now_->config_.get_quant_method(config, layer, device, choice);
    if (status != nullptr || choice->verdict != PLUQ_VERDICT_USE) return status;
    now_->method_ = *choice->method.api;
    pluq_method_api api = *choice->method.api;
    api.get_extension = &method_extension;
    choice->method.api = now_->cut(kMethod, api);
    return nullptr;
  }
  static const void* method_extension(void* method, const char* id) {
    if (now_->method_.get_extension == nullptr) return nullptr;
    const void* real = now_->method_.get_extension(method, id);
    if (real == nullptr || std::strcmp(id, PLUQ_EMBEDDING) != 0) return real;
    return now_->cut(kEmbedding, *static_cast<const pluq_embedding*>(real));
  }

  inline static Cutter* now_ = nullptr;
  pluq_format real_;
  Table table_;
  size_t sizes_[kTables];
  bool used_ = false;
  pluq_config_api config_{};
  pluq_method_api method_{};
  std::list<Guarded> copies_;
};

// The life of one method. A format need not serve embeddings.
void live_layer(const FormatConfig& config, const Case& c, const char* kind, ThreadPool& pool) {
  pluq_layer_desc layer = whole_layer("layer", kind, c.k, c.n, c.tensors);
  layer.compute = PLUQ_COMPUTE_FAST;
  layer.max_tokens = 2;
  const MethodChoice choice = config.get_quant_method(layer, describe_cpu(1));
  if (choice.verdict != PLUQ_VERDICT_USE && std::string_view(kind) == "embedding") return;
  ASSERT_EQ(choice.verdict, PLUQ_VERDICT_USE) << choice.reason;
  const Method& method = choice.method;
  method.create_weights();
  const Method::Plan plan = method.process_plan(c.tensors);
  const Guarded buffer(plan.buffer_bytes, 64), scratch(plan.scratch_bytes, 64);
  const HostExec load(pool, -1, scratch.bytes(), &host_table());
  method.process(load.get(), c.tensors, buffer.data());
  method.describe();
  const Guarded work(method.workspace(2, 1), 64);
  const HostExec exec(pool, -1, work.bytes(), &host_table());
  const std::vector<float> x(static_cast<size_t>(2 * c.k), 0.5F);
  std::vector<float> y(static_cast<size_t>(2 * c.n)), w(static_cast<size_t>(c.k));
  method.apply(exec.get(), f32_rows(x.data(), 2, c.k, c.k), nullptr,
               f32_output(y.data(), 2, c.n, c.n));
  method.dequantize(exec.get(), c.tensors, 0, 1, w.data(), c.k);
  if (method.can_gather()) {
    const int32_t id = 1;
    method.gather(exec.get(), {&id, 1}, f32_output(w.data(), 1, c.k, c.k));
  }
}

// All that the host does with a format, a layer and its KV cache. Throws Error(kPlugin) when a
// table is refused.
void live(const pluq_format& raw, const Case& c, ThreadPool& pool) {
  const FormatHandle format(raw, "a cut plugin");
  format.probe(c.container(), c.quantization, c.tensors);
  if (format.can_quantize()) {
    const QuantizeTarget target{"layer", "linear", c.k, c.n};
    const pluq_dtype bf16{PLUQ_DTYPE_BF16, 1, 2};
    const std::string algorithm = format.algorithms().at(0);
    const auto job = format.begin_quantize(algorithm, nullptr, bf16, {&target, 1});
    EXPECT_FALSE(job->output_specs(0).empty());
    format.quantization_config(algorithm, nullptr, bf16, {&target, 1}, {});
  }
  make_samples(raw, c.n, c.k, 1);
  const FormatConfig config = format.create_config(c.container(), c.quantization, nullptr, "");
  pluq_kv_request kv{};
  kv.struct_size = sizeof kv;
  kv.attention = str_of("attention");
  config.kv_cache(kv);
  for (const char* kind : {"linear", "embedding"}) live_layer(config, c, kind, pool);
}
std::vector<std::string> plugins() {
  std::vector<std::string> out;
  for (const auto& entry :
       fs::directory_iterator(std::string(PLUQ_BINARY_DIR) + "/lib/pluq/plugins")) {
    if (entry.path().extension() == ".so") out.push_back(entry.path().string());
  }
  return out;
}

TEST(Truncated, NoTableIsReadBeyondItsSize) {
  ThreadPool pool(1);
  std::map<Table, int> cuts, refusals;
  for (const std::string& path : plugins()) {
    const Ready plugin = ready({path, read_elf(MappedFile::open(path)->bytes()), 1});
    const std::vector<Case> cases = make_cases(plugin, 0, pool, 64, 256, 1, false);
    ASSERT_FALSE(cases.empty()) << path;
    for (int table = 0; table < kTables; ++table) {
      for (size_t size = 4; size <= kSizes[table]; size += size < 8 ? 4 : 8) {
        SCOPED_TRACE(fmt::format("{}: {} of {} bytes", path, kNames[table], size));
        Cutter cutter(plugin.raw[0], static_cast<Table>(table), size);
        bool refused = false;
        try {
          live(cutter.format(), cases[0], pool);
        } catch (const Error& e) {
          refused = true;
          EXPECT_EQ(e.kind(), ErrorKind::kPlugin) << e.what();
        } catch (const Failure&) {
          refused = true;  // by the kit, which reads samples
        }
        if (!cutter.used()) break;
        ++cuts[static_cast<Table>(table)];
        refusals[static_cast<Table>(table)] += refused ? 1 : 0;
        if (size == kSizes[table]) {
          EXPECT_FALSE(refused) << "a whole table is refused";
        }
      }
    }
  }
  for (int table = 0; table < kTables; ++table)
    EXPECT_GT(cuts[static_cast<Table>(table)], 0) << kNames[table] << ": nobody hands it out";
  // These have no part that one could do without, but for the last slot of the first two.
  for (const Table t : {kFormat, kConfig, kMethod})
    EXPECT_GT(refusals[t], cuts[t] / 2) << kNames[t];
}

}  // namespace
}  // namespace pluq::conformance
