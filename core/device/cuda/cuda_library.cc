// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/cuda_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "device/cuda/cuda_entry.h"

namespace pluq {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLibrary = "libpluq_cuda.so";

// Beside the object this code is in (the program, or libpluq.so), and in its ../lib.
std::vector<std::string> places() {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<const void*>(&describe_cuda), &info) == 0 ||
      info.dli_fname == nullptr) {
    return {};
  }
  std::error_code ec;
  fs::path self = info.dli_fname;
  // The program's own name may be a bare word.
  if (!self.is_absolute()) self = fs::read_symlink("/proc/self/exe", ec);
  const fs::path folder = fs::weakly_canonical(self, ec).parent_path();
  return {(folder / kLibrary).string(), (folder.parent_path() / "lib" / kLibrary).string()};
}

struct Library {
  PluqCudaOpen open = nullptr;
  PluqCudaDescribe describe = nullptr;
  std::string error;  // when it is not there
};

const Library& library() {
  static const Library loaded = [] {
    Library out;
    std::string looked;
    for (const std::string& path : places()) {
      std::error_code ec;
      looked += (looked.empty() ? "" : ", ") + path;
      if (!fs::exists(path, ec)) continue;
      void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (handle == nullptr) {
        const char* why = ::dlerror();
        out.error = fmt::format("{} cannot be loaded: {}", path, why == nullptr ? "?" : why);
        return out;
      }
      out.open = reinterpret_cast<PluqCudaOpen>(::dlsym(handle, kPluqCudaOpen));
      out.describe = reinterpret_cast<PluqCudaDescribe>(::dlsym(handle, kPluqCudaDescribe));
      if (out.open == nullptr || out.describe == nullptr) {
        out.open = nullptr;
        out.error = fmt::format("{} is of another version of pluq", path);
      }
      return out;
    }
    out.error = fmt::format("pluq was built without CUDA: no {} (looked for {})", kLibrary, looked);
    return out;
  }();
  return loaded;
}

}  // namespace

std::shared_ptr<DeviceRuntime> open_cuda(int index) {
  const Library& lib = library();
  if (lib.open == nullptr) fail_usage("--device cuda: {}", lib.error);
  std::string error;
  std::unique_ptr<DeviceRuntime> opened(lib.open(index, &error));
  if (opened == nullptr) fail_usage("--device cuda:{}: {}", index, error);
  // The entry goes before the runtime.
  struct Known {
    explicit Known(std::unique_ptr<DeviceRuntime> r) : runtime(std::move(r)) {}
    std::unique_ptr<DeviceRuntime> runtime;
    RuntimeEntry entry{runtime.get()};
  };
  const auto known = std::make_shared<Known>(std::move(opened));
  return {known, known->runtime.get()};
}

std::string describe_cuda() {
  const Library& lib = library();
  if (lib.open == nullptr) return lib.error;
  std::string text;
  lib.describe(&text);
  return text;
}

}  // namespace pluq
