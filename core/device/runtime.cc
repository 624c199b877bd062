// SPDX-License-Identifier: Apache-2.0
#include "device/runtime.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include "base/error.h"
#include "device/cuda/cuda_library.h"
#include "device/cuda/emulated_runtime.h"

namespace pluq {

DeviceChoice parse_device(std::string_view text) {
  DeviceChoice choice;
  if (text.empty() || text == "cpu") return choice;
  const size_t colon = text.find(':');
  const std::string_view kind = text.substr(0, colon);
  const std::string_view rest =
      colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
  const auto number = [&](std::string_view digits, auto* out) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *out);
    return error == std::errc() && end == digits.data() + digits.size() && !digits.empty();
  };
  if (kind == "cuda") {
    choice.kind = PLUQ_DEVICE_CUDA;
    if (colon == std::string_view::npos) return choice;
    if (number(rest, &choice.index) && choice.index >= 0) return choice;
  } else if (kind == "cuda-emulated") {
    choice.kind = PLUQ_DEVICE_CUDA_EMULATED;
    if (colon == std::string_view::npos) return choice;
    if (rest.starts_with("sm") && number(rest.substr(2), &choice.capability) &&
        cuda_emulator::shared_limit(choice.capability) > 0) {
      return choice;
    }
  }
  fail_usage("--device {}: unknown; accepted are cpu, cuda[:N], cuda-emulated[:sm80|sm89|sm90]",
             printable(text));
}

namespace {

struct OpenRuntimes {
  std::mutex mutex;
  std::vector<DeviceRuntime*> all;
};
OpenRuntimes& open_runtimes() {
  static OpenRuntimes runtimes;
  return runtimes;
}

// The emulator's detectors: bounds only unless asked for, the others take time and the kernels' own
// tests have them on.
uint32_t emulator_checks() {
  const char* text = std::getenv("PLUQ_CUDA_CHECKS");
  const std::string_view words = text == nullptr ? "" : text;
  if (words.empty() || words == "bounds") return PLUQ_EMU_CHECK_GLOBAL;
  if (words == "all") return PLUQ_EMU_CHECK_ALL;
  fail_usage("PLUQ_CUDA_CHECKS={}: unknown; accepted are bounds, all", printable(words));
}

}  // namespace

RuntimeEntry::RuntimeEntry(DeviceRuntime* runtime) : runtime_(runtime) {
  const std::lock_guard lock(open_runtimes().mutex);
  open_runtimes().all.push_back(runtime);
}
RuntimeEntry::~RuntimeEntry() {
  const std::lock_guard lock(open_runtimes().mutex);
  std::erase(open_runtimes().all, runtime_);
}

DeviceRuntime* find_runtime(uint32_t kind, void* stream) {
  const std::lock_guard lock(open_runtimes().mutex);
  for (DeviceRuntime* runtime : open_runtimes().all) {
    if (runtime->description().kind == kind && runtime->stream() == stream) return runtime;
  }
  return nullptr;
}

std::shared_ptr<DeviceRuntime> open_device(const DeviceChoice& choice) {
  if (choice.kind == PLUQ_DEVICE_CUDA_EMULATED)
    return std::make_shared<EmulatedRuntime>(choice.capability, emulator_checks());
  if (choice.kind == PLUQ_DEVICE_CUDA) return open_cuda(choice.index);
  return nullptr;
}

}  // namespace pluq
