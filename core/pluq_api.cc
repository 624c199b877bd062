// SPDX-License-Identifier: Apache-2.0
// The C interface of libpluq (sdk/include/pluq/pluq.h) over the rooms: one layer at a time, on the
// caller's threads and in the caller's memory.
#include "pluq/pluq.h"

#include <dlfcn.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "conformance/trial.h"
#include "device/allocator.h"
#include "device/exec.h"
#include "device/memory.h"
#include "device/thread_pool.h"
#include "model/loader.h"
#include "plugin/host_table.h"
#include "plugin/plugin_host.h"

namespace {

// What layers need of their engine. Each holds on to it, so that an engine may be destroyed while
// layers of it live.
struct Engine {
  pluq::Allocator memory;
  std::unique_ptr<pluq::PluginHost> plugins;
  std::unique_ptr<pluq::ThreadPool>
      pool;  // the library's, or one worker for loading when the caller brings threads
  void (*parallel)(void* user, void (*fn)(void* arg, int32_t worker, int32_t n_workers),
                   void* arg) = nullptr;
  void* parallel_user = nullptr;
  int32_t n_workers = 1;
  std::mutex turn;  // one computation at a time
};

}  // namespace

struct pluq_engine {
  std::shared_ptr<Engine> state;
};

struct pluq_linear {
  std::shared_ptr<Engine> engine;
  pluq::SingleLayer layer;
  pluq::Buffer workspace;
  int64_t max_tokens = 512;
};

namespace {

using namespace pluq;

pluq_status* make_status(int32_t code, std::string_view text) {
  return host_table().status_new(&host_table(), code, text.data(), text.size());
}

template <class Body>
pluq_status* guarded(const Body& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const OutOfMemory& e) {
    return make_status(PLUQ_STATUS_OUT_OF_MEMORY, e.what());
  } catch (const Error& e) {
    const int32_t code = e.kind() == ErrorKind::kInput || e.kind() == ErrorKind::kUsage
                             ? PLUQ_STATUS_INVALID
                         : e.kind() == ErrorKind::kPlugin ? PLUQ_STATUS_UNSUPPORTED
                                                          : PLUQ_STATUS_INTERNAL;
    return make_status(code, e.what());
  } catch (const std::bad_alloc&) {
    return make_status(PLUQ_STATUS_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return make_status(PLUQ_STATUS_INTERNAL, e.what());
  } catch (...) {
    return make_status(PLUQ_STATUS_INTERNAL, "an unknown exception");
  }
}

template <class T>
T read(const T* from) {
  T out{};
  if (from == nullptr) return out;
  if (from->struct_size < sizeof(uint32_t))
    fail_usage("struct_size is {}; set it to the size of the struct", from->struct_size);
  std::memcpy(&out, from, std::min<size_t>(sizeof out, from->struct_size));
  return out;
}

template <class T>
T* required(T* pointer, const char* what) {
  if (pointer == nullptr) fail_usage("{} is NULL", what);
  return pointer;
}

// <directory of libpluq.so>/pluq/plugins, when it is there.
void add_own_plugins(PluginOptions* options) {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&pluq_engine_create), &info) == 0 ||
      info.dli_fname == nullptr)
    return;
  std::error_code ec;
  const auto directory =
      std::filesystem::canonical(info.dli_fname, ec).parent_path() / "pluq/plugins";
  if (!ec && std::filesystem::is_directory(directory, ec))
    options->directories.push_back(directory.string());
}

// The exec of one call over the caller's own threads. exec is the first member, so the plugin's
// pointer is ours.
struct CallerExec {
  pluq_exec exec{};
  const Engine* engine;
  std::atomic<int32_t> arrived{0};
  std::atomic<uint32_t> phase{0};

  explicit CallerExec(const Engine& e, const Buffer& workspace) : engine(&e) {
    exec.struct_size = sizeof exec;
    exec.device_kind = PLUQ_DEVICE_CPU;
    exec.host = &host_table();
    exec.workspace = workspace.data();
    exec.workspace_bytes = workspace.size();
    exec.worker = -1;
    exec.n_workers = e.n_workers;
    exec.parallel = [](const pluq_exec* x, void (*fn)(void*, int32_t, int32_t), void* user) {
      const Engine& owner = *reinterpret_cast<const CallerExec*>(x)->engine;
      owner.parallel(owner.parallel_user, fn, user);
    };
    exec.barrier = [](const pluq_exec* x, int32_t) {
      auto* self = const_cast<CallerExec*>(reinterpret_cast<const CallerExec*>(x));
      const uint32_t before = self->phase.load(std::memory_order_acquire);
      if (self->arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == x->n_workers) {
        self->arrived.store(0, std::memory_order_relaxed);
        self->phase.store(before + 1, std::memory_order_release);
        return;
      }
      while (self->phase.load(std::memory_order_acquire) == before) ::sched_yield();
    };
  }
};

void forward(pluq_linear& l, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy) {
  const Linear& linear = l.layer.linear;
  if (m < 0) fail_usage("m is {}, expected 0 or more", m);
  if (m == 0) return;
  required(x, "x");
  required(y, "y");
  if (ldx < linear.in_features() || ldy < linear.out_features()) {
    fail_usage("ldx is {} and ldy {}, expected at least {} and {}", ldx, ldy, linear.in_features(),
               linear.out_features());
  }
  constexpr int64_t kMost = INT64_MAX / static_cast<int64_t>(sizeof(float));
  if (std::max(ldx, ldy) > kMost / m)
    fail_usage("m is {}, ldx {} and ldy {}: more than there can be in memory", m, ldx, ldy);
  const std::lock_guard lock(l.engine->turn);
  const auto run = [&](const pluq_exec* exec) {
    for (int64_t row = 0; row < m; row += l.max_tokens) {
      linear.apply(exec, x + row * ldx, ldx, std::min(l.max_tokens, m - row), y + row * ldy, ldy);
    }
  };
  if (l.engine->parallel != nullptr) {
    CallerExec exec(*l.engine, l.workspace);
    run(&exec.exec);
  } else {
    const HostExec exec(*l.engine->pool, -1, {l.workspace.data(), l.workspace.size()},
                        &host_table());
    run(exec.get());
  }
}

void dequantize(pluq_linear& l, int64_t n_begin, int64_t n_end, float* out, int64_t ld) {
  const Linear& linear = l.layer.linear;
  if (n_begin < 0 || n_begin > n_end || n_end > linear.out_features()) {
    fail_usage("rows {} to {} are asked for, the layer has {}", n_begin, n_end,
               linear.out_features());
  }
  if (ld < linear.in_features())
    fail_usage("ld is {}, expected at least {}", ld, linear.in_features());
  if (n_begin == n_end) return;
  required(out, "out");
  const std::lock_guard lock(l.engine->turn);
  const HostExec exec(*l.engine->pool, -1, {}, &host_table());
  if (ld == linear.in_features()) return linear.dequantize(exec.get(), n_begin, n_end, out);
  for (int64_t n = n_begin; n < n_end; ++n)
    linear.dequantize(exec.get(), n, n + 1, out + (n - n_begin) * ld);
}

// ------------------------------------------------------------------ DLPack

struct Owned {  // behind manager_ctx
  pluq_dl_managed_tensor tensor{};
  std::vector<int64_t> shape, strides;
  Buffer memory;
};

std::unique_ptr<Owned> new_tensor(const Engine& engine, std::vector<int64_t> shape) {
  auto out = std::make_unique<Owned>();
  int64_t elements = 1;
  out->strides.resize(shape.size());
  for (size_t d = shape.size(); d-- > 0;) {
    out->strides[d] = elements;
    elements *= shape[d];
  }
  out->shape = std::move(shape);
  const AllocatorScope scope(engine.memory);
  out->memory = Buffer(static_cast<size_t>(elements) * sizeof(float), "a DLPack tensor");
  pluq_dl_tensor& t = out->tensor.dl_tensor;
  t.data = out->memory.data();
  t.device_type = 1;
  t.ndim = static_cast<int32_t>(out->shape.size());
  t.dtype_code = 2;
  t.dtype_bits = 32;
  t.dtype_lanes = 1;
  t.shape = out->shape.data();
  t.strides = out->strides.data();
  out->tensor.manager_ctx = out.get();
  out->tensor.deleter = [](pluq_dl_managed_tensor* self) {
    delete static_cast<Owned*>(self->manager_ctx);
  };
  return out;
}

// The rows of x: how many and how far apart.
std::pair<int64_t, int64_t> rows_of(const pluq_dl_tensor& x, int64_t k) {
  if (x.device_type != 1)
    fail_usage("x is on DLPack device {}, expected the CPU (1)", x.device_type);
  if (x.dtype_code != 2 || x.dtype_bits != 32 || x.dtype_lanes != 1) {
    fail_usage("x has DLPack type code {}, {} bits, {} lanes; expected float (2), 32 bits, 1 lane",
               x.dtype_code, x.dtype_bits, x.dtype_lanes);
  }
  if (x.ndim < 1 || x.ndim > 16 || x.shape == nullptr)
    fail_usage("x has {} dimensions, expected 1 to 16", x.ndim);
  const int last = x.ndim - 1;
  if (x.shape[last] != k) fail_usage("x has {} columns, the layer takes {}", x.shape[last], k);
  int64_t rows = 1;
  for (int d = 0; d < last; ++d) {
    if (x.shape[d] < 0 || (x.shape[d] > 0 && rows > (int64_t{1} << 40) / x.shape[d]))
      fail_usage("x has a dimension of {}", x.shape[d]);
    rows *= x.shape[d];
  }
  if (rows > 0 && x.data == nullptr) fail_usage("the data of x is NULL");
  if ((reinterpret_cast<uintptr_t>(x.data) + x.byte_offset) % alignof(float) != 0)
    fail_usage("the data of x with its byte_offset of {} is not aligned to 4 bytes", x.byte_offset);
  if (x.strides == nullptr || rows == 0) return {rows, k};
  if (x.strides[last] != 1 && k > 1)
    fail_usage("x has a stride of {} along its columns, expected 1", x.strides[last]);
  // Rows lie as far apart as those of the innermost dimension that has more than one; strides of
  // dimensions of 1 mean nothing.
  int64_t ld = 0, expected = 0;
  for (int d = last - 1; d >= 0; --d) {
    if (x.shape[d] == 1) continue;
    if (ld == 0) {
      ld = x.strides[d];
      if (ld < k) fail_usage("the rows of x are {} apart, expected at least {}", ld, k);
      expected = ld;
    } else if (x.strides[d] != expected) {
      fail_usage(
          "the rows of x are not evenly spaced: dimension {} has a stride of {}, expected {}", d,
          x.strides[d], expected);
    }
    if (__builtin_mul_overflow(expected, x.shape[d], &expected))
      fail_usage("x has a dimension of {} with a stride of {}", x.shape[d], x.strides[d]);
  }
  return {rows, std::max(ld, k)};
}

}  // namespace

extern "C" {

int32_t pluq_status_code(const pluq_status* status) {
  return status == nullptr ? 0 : host_table().status_code(status);
}
const char* pluq_status_message(const pluq_status* status) {
  return status == nullptr
             ? ""
             : host_table().status_text(status).data;  // a std::string's, so NUL-terminated
}
void pluq_status_release(pluq_status* status) {
  if (status != nullptr) host_table().status_free(&host_table(), status);
}

pluq_status* pluq_engine_create(const pluq_engine_options* given, pluq_engine** out) {
  return guarded([&] {
    required(out, "engine");
    const pluq_engine_options o = read(given);
    if ((o.allocate == nullptr) != (o.release == nullptr))
      fail_usage("allocate and release go together");
    if (o.n_workers < 0 || o.n_workers > 1024)
      fail_usage("n_workers is {}, expected 0 to 1024", o.n_workers);
    if (o.parallel != nullptr && o.n_workers < 1)
      fail_usage("parallel needs n_workers, the number of its workers");
    auto handle = std::make_unique<pluq_engine>();
    auto engine = std::make_shared<Engine>();
    engine->memory = {o.allocate, o.release, o.memory_user};
    PluginOptions plugins;
    for (size_t i = 0; i < o.plugin_directory_count; ++i) {
      const char* directory = required(o.plugin_directories, "plugin_directories")[i];
      if (directory == nullptr) fail_usage("plugin_directories[{}] is NULL", i);
      if (directory[0] != '/') {
        fail_usage("plugin_directories[{}] is '{}', expected an absolute path", i,
                   printable(directory));
      }
      plugins.directories.emplace_back(directory);
    }
    plugins.search_defaults = o.plugin_directory_count == 0;
    if (plugins.search_defaults) add_own_plugins(&plugins);
    if (o.allow_list != nullptr) plugins.allow_list = o.allow_list;
    plugins.strict = (o.flags & PLUQ_ENGINE_STRICT) != 0;
    if ((o.flags & PLUQ_ENGINE_TRIAL) != 0) plugins.trial = conformance::default_trial();
    engine->plugins = std::make_unique<PluginHost>(plugins);
    engine->parallel = o.parallel;
    engine->parallel_user = o.parallel_user;
    engine->n_workers = o.n_workers > 0 ? o.n_workers : usable_cpus();
    engine->pool = std::make_unique<ThreadPool>(o.parallel != nullptr ? 1 : engine->n_workers);
    handle->state = std::move(engine);
    *out = handle.release();
  });
}
void pluq_engine_destroy(pluq_engine* engine) { delete engine; }

pluq_status* pluq_linear_create(pluq_engine* handle, const char* checkpoint, const char* name,
                                const pluq_linear_options* given, pluq_linear** out) {
  return guarded([&] {
    const std::shared_ptr<Engine> engine = required(handle, "engine")->state;
    required(out, "linear");
    pluq_linear_options o = read(given);
    if (given == nullptr) o.compute = PLUQ_COMPUTE_FAST;
    if (o.compute > PLUQ_COMPUTE_FAST || o.activations > PLUQ_ACTIVATIONS_FLOAT ||
        o.max_tokens < 0) {
      fail_usage(
          "compute is {}, activations {}, max_tokens {}; accepted are 0 and 1, 0 and 1, and 0 or "
          "more",
          o.compute, o.activations, o.max_tokens);
    }
    LoadOptions load;
    load.path = required(checkpoint, "checkpoint");
    load.compute = o.compute;
    load.activations = o.activations;
    if (o.max_tokens == 0) o.max_tokens = 512;
    load.max_batch_tokens = o.max_tokens;
    const std::lock_guard lock(engine->turn);
    const AllocatorScope scope(engine->memory);
    auto linear = std::make_unique<pluq_linear>();
    linear->engine = engine;
    linear->max_tokens = o.max_tokens;
    linear->layer = load_layer(*engine->plugins, *engine->pool, load, required(name, "name"));
    linear->workspace = Buffer(linear->layer.linear.workspace(o.max_tokens, engine->n_workers),
                               "the workspace of the layer");
    *out = linear.release();
  });
}
void pluq_linear_destroy(pluq_linear* linear) { delete linear; }

void pluq_linear_describe(const pluq_linear* linear, pluq_linear_info* info) {
  if (linear == nullptr || info == nullptr) return;
  const LayerReport& r = linear->layer.linear.report();
  pluq_linear_info out{};
  out.struct_size = info->struct_size;
  out.in_features = linear->layer.linear.in_features();
  out.out_features = linear->layer.linear.out_features();
  out.format = r.format.c_str();
  out.scheme = r.scheme.c_str();
  out.kernel = r.kernel.c_str();
  out.bits_per_weight = r.bits_per_weight;
  std::memcpy(info, &out, std::min<size_t>(sizeof out, info->struct_size));
}

pluq_status* pluq_linear_forward(pluq_linear* linear, const float* x, int64_t ldx, int64_t m,
                                 float* y, int64_t ldy) {
  return guarded([&] { forward(*required(linear, "linear"), x, ldx, m, y, ldy); });
}

pluq_status* pluq_linear_dequantize(pluq_linear* linear, int64_t n_begin, int64_t n_end, float* out,
                                    int64_t ld) {
  return guarded([&] { dequantize(*required(linear, "linear"), n_begin, n_end, out, ld); });
}

pluq_status* pluq_linear_forward_dlpack(pluq_linear* linear, const pluq_dl_tensor* x,
                                        pluq_dl_managed_tensor** y) {
  return guarded([&] {
    required(linear, "linear");
    required(x, "x");
    required(y, "y");
    const Linear& layer = linear->layer.linear;
    const auto [rows, ld] = rows_of(*x, layer.in_features());
    std::vector<int64_t> shape(x->shape, x->shape + x->ndim);
    shape.back() = layer.out_features();
    auto result = new_tensor(*linear->engine, std::move(shape));
    const auto* data =
        reinterpret_cast<const float*>(static_cast<const char*>(x->data) + x->byte_offset);
    forward(*linear, data, ld, rows, static_cast<float*>(result->tensor.dl_tensor.data),
            layer.out_features());
    *y = &result.release()->tensor;
  });
}

pluq_status* pluq_linear_dequantize_dlpack(pluq_linear* linear, pluq_dl_managed_tensor** w) {
  return guarded([&] {
    required(linear, "linear");
    required(w, "w");
    const Linear& layer = linear->layer.linear;
    auto result = new_tensor(*linear->engine, {layer.out_features(), layer.in_features()});
    dequantize(*linear, 0, layer.out_features(), static_cast<float*>(result->tensor.dl_tensor.data),
               layer.in_features());
    *w = &result.release()->tensor;
  });
}

}  // extern "C"
