// SPDX-License-Identifier: Apache-2.0
// Starting a kernel from a plugin: launch(kernel, LaunchShape{grid, threads, smem, "name"},
// Stream(exec), args...). Nothing is allocated and nothing waits (an emulated launch has run when
// it returns).
#pragma once

#include <cstddef>
#include <string>
#include <tuple>
#include <utility>

#include "pluq/abi.h"
#include "pluq/cuda/memory.hpp"

namespace pluq {
namespace cuda {
inline namespace PLUQ_CUDA_SIDE {

struct LaunchShape {
  dim grid{1, 1, 1};
  uint32_t threads = 128;       // of a block, in x
  uint32_t smem_bytes = 0;      // dynamic shared memory
  const char *name = "kernel";  // for messages
};

// What went wrong with a launch: empty text when nothing did.
struct LaunchError {
  int32_t status = 0;  // PLUQ_STATUS_*, 0: launched
  std::string text;    // one sentence
  explicit operator bool() const { return status != 0; }
};

#if PLUQ_CUDA_EMULATE

// The stream of a pluq_exec whose device is CUDA_EMULATED.
class Stream {
 public:
  Stream() = default;
  explicit Stream(const pluq_exec *exec)
      : stream_(exec->stream),
        api_(exec->host == nullptr || exec->host->get_extension == nullptr
                 ? nullptr
                 : static_cast<const pluq_cuda_emulator *>(
                       exec->host->get_extension(exec->host, PLUQ_CUDA_EMULATOR))) {}
  Stream(void *stream, const pluq_cuda_emulator *api) : stream_(stream), api_(api) {}
  void *native() const { return stream_; }
  const pluq_cuda_emulator *api() const { return api_; }

 private:
  void *stream_ = nullptr;
  const pluq_cuda_emulator *api_ = nullptr;
};

// Gives a gmem argument the bounds of its allocation when it has none, and checks that the count it
// was given fits.
template <class T>
struct ArgumentCheck {
  static bool run(T &, const Stream &, uint64_t &) { return true; }
};
template <class T>
struct ArgumentCheck<gmem<T>> {
  static bool run(gmem<T> &g, const Stream &stream, uint64_t &address) {
    if (g.get() == nullptr) return true;
    const void *range = nullptr;
    uint64_t bytes = 0;
    address = reinterpret_cast<uint64_t>(g.get());
    if (stream.api()->find_range(stream.native(), g.get(), &range, &bytes) == 0) return false;
    const auto low = reinterpret_cast<uintptr_t>(range), high = low + bytes;
    if (g.begin() == nullptr) {
      g.set_bounds(reinterpret_cast<T *>(low), reinterpret_cast<T *>(high - bytes % sizeof(T)));
      return true;
    }
    return reinterpret_cast<uintptr_t>(g.begin()) >= low &&
           reinterpret_cast<uintptr_t>(g.end()) <= high;
  }
};

template <class... P>
struct Invocation {
  void (*kernel)(P...);
  std::tuple<P...> args;
  static void entry(pluq_emu_block *block, void *self) {
    current_block = block;
    auto *call = static_cast<Invocation *>(self);
    std::apply(call->kernel, call->args);
  }
  template <size_t... I>
  int check(const Stream &stream, uint64_t &address, std::index_sequence<I...>) {
    int bad = -1;
    (void)stream, (void)address;
    ((bad < 0 && !ArgumentCheck<P>::run(std::get<I>(args), stream, address)
          ? (bad = static_cast<int>(I))
          : 0),
     ...);
    return bad;
  }
};

template <class... P, class... A>
LaunchError launch(void (*kernel)(P...), const LaunchShape &shape, const Stream &stream,
                   A &&...args) {
  static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
  // What an older host lacks is called only for checks that it does not know.
  if (stream.api() == nullptr ||
      stream.api()->struct_size < offsetof(pluq_cuda_emulator, global_access))
    return {PLUQ_STATUS_UNSUPPORTED,
            std::string(shape.name) + ": the host has no " PLUQ_CUDA_EMULATOR};
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return {};
  Invocation<P...> call{kernel, std::tuple<P...>(static_cast<P>(std::forward<A>(args))...)};
  uint64_t address = 0;
  const int bad = call.check(stream, address, std::index_sequence_for<P...>());
  if (bad >= 0) {
    char text[256];
    std::snprintf(text, sizeof text,
                  "%s: argument %d (address 0x%llx) lies outside every allocation of the device, "
                  "or its count reaches "
                  "beyond the end of its own",
                  shape.name, bad, static_cast<unsigned long long>(address));
    return {PLUQ_STATUS_INVALID, text};
  }
  pluq_emu_launch l{};
  l.struct_size = sizeof l;
  l.shared_bytes = shape.smem_bytes;
  l.name = shape.name;
  l.grid_dim[0] = shape.grid.x, l.grid_dim[1] = shape.grid.y, l.grid_dim[2] = shape.grid.z;
  l.block_dim[0] = shape.threads, l.block_dim[1] = 1, l.block_dim[2] = 1;
  l.entry = &Invocation<P...>::entry;
  l.args = &call;
  l.reports = PLUQ_EMU_REPORTS_GLOBAL;
  char message[1024] = "";
  pluq_emu_block *outer = current_block;
  known_allocations = KnownAllocations{};
  const int32_t code = stream.api()->launch(stream.native(), &l, message, sizeof message);
  current_block = outer;
  if (code == PLUQ_EMU_OK) return {};
  return {code == PLUQ_EMU_INVALID ? PLUQ_STATUS_INVALID : PLUQ_STATUS_INTERNAL, message};
}

#else

class Stream {
 public:
  Stream() = default;
  explicit Stream(const pluq_exec *exec) : stream_(static_cast<cudaStream_t>(exec->stream)) {}
  explicit Stream(cudaStream_t stream) : stream_(stream) {}
  cudaStream_t native() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

template <class... P, class... A>
LaunchError launch(void (*kernel)(P...), const LaunchShape &shape, const Stream &stream,
                   A &&...args) {
  static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has parameters");
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return {};
  const auto *function = reinterpret_cast<const void *>(kernel);
  cudaError_t error = cudaSuccess;
  if (shape.smem_bytes > 48 * 1024)
    error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shape.smem_bytes));
  if (error == cudaSuccess) {
    std::tuple<P...> values(static_cast<P>(std::forward<A>(args))...);
    void *pointers[sizeof...(P) + 1];
    std::apply(
        [&](auto &...v) {
          int n = 0;
          ((pointers[n++] = static_cast<void *>(&v)), ...);
        },
        values);
    error = cudaLaunchKernel(function, dim3(shape.grid.x, shape.grid.y, shape.grid.z),
                             dim3(shape.threads), pointers, shape.smem_bytes, stream.native());
  }
  if (error == cudaSuccess) return {};
  (void)cudaGetLastError();  // a failed launch must not be found by the next one
  return {error == cudaErrorMemoryAllocation ? PLUQ_STATUS_OUT_OF_MEMORY : PLUQ_STATUS_INTERNAL,
          std::string(shape.name) + ": " + cudaGetErrorString(error) + " (grid " +
              std::to_string(shape.grid.x) + "x" + std::to_string(shape.grid.y) + "x" +
              std::to_string(shape.grid.z) + ", " + std::to_string(shape.threads) + " threads, " +
              std::to_string(shape.smem_bytes) + " bytes of shared memory)"};
}

#endif

}  // namespace PLUQ_CUDA_SIDE
}  // namespace cuda
}  // namespace pluq
