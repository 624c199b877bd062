// SPDX-License-Identifier: Apache-2.0
// model.safetensors.index.json of a directory that holds one small shard, "a.safetensors".
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "checkpoint/checkpoint.h"
#include "fuzz.h"

namespace {

const std::string& directory() {
  static const std::string* const made = [] {  // never freed: needed until the very end
    char name[] = "/dev/shm/pluq-fuzz-XXXXXX";
    char other[] = "/tmp/pluq-fuzz-XXXXXX";
    const char* path = ::mkdtemp(name) != nullptr ? name : ::mkdtemp(other);
    if (path == nullptr) std::abort();
    const std::string header = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
    std::string bytes(8, '\0');
    bytes[0] = static_cast<char>(header.size());
    std::ofstream(std::string(path) + "/a.safetensors", std::ios::binary)
        << bytes << header << std::string(8, 'x');
    return new std::string(path);
  }();
  return *made;
}
void remove_directory() { std::filesystem::remove_all(directory()); }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool first = std::atexit(&remove_directory) == 0;
  (void)first;
  std::ofstream(directory() + "/model.safetensors.index.json", std::ios::binary)
      << pluq::fuzz::text(data, size);
  pluq::fuzz::taken([] {
    const auto checkpoint = pluq::Checkpoint::open(directory());
    for (const pluq::TensorView& t : checkpoint->tensors()) pluq::fuzz::touch(t.data);
  });
  return 0;
}
