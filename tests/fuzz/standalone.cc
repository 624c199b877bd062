// SPDX-License-Identifier: Apache-2.0
// A main for fuzz targets where libFuzzer is missing (gcc): every file of the directories named,
// then RUNS changed copies of them, the same ones each time.
//   target -runs=RUNS DIR...
#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "fuzz.h"

namespace {

using Bytes = std::vector<uint8_t>;

void change(Bytes& input, const std::vector<Bytes>& all, std::mt19937_64& random) {
  const auto below = [&](size_t n) { return n == 0 ? 0 : static_cast<size_t>(random() % n); };
  for (size_t i = 0, n = 1 + below(4); i < n; ++i) {
    const size_t at = below(input.size());
    switch (below(6)) {
      case 0:
        if (!input.empty()) input[at] = static_cast<uint8_t>(random());
        break;
      case 1:
        if (!input.empty()) input[at] = static_cast<uint8_t>(input[at] ^ 1U << below(8));
        break;
      case 2:
        input.resize(at);
        break;
      case 3:
        input.insert(input.begin() + static_cast<ptrdiff_t>(at), 1 + below(8),
                     static_cast<uint8_t>(random()));
        break;
      case 4:
        for (size_t j = at; j < std::min(at + 8, input.size()); ++j) input[j] = 0xff;
        break;
      default: {
        const Bytes& other = all[below(all.size())];
        const size_t from = below(other.size()), count = below(other.size() - from);
        input.insert(input.begin() + static_cast<ptrdiff_t>(at),
                     other.begin() + static_cast<ptrdiff_t>(from),
                     other.begin() + static_cast<ptrdiff_t>(from + count));
      }
    }
  }
  if (input.size() > 131072) input.resize(131072);
}

}  // namespace

int main(int argc, char** argv) {
  long runs = 1000;
  std::vector<Bytes> all;
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "-runs=", 6) == 0) runs = std::atol(argv[i] + 6);
    if (argv[i][0] == '-' || !std::filesystem::is_directory(argv[i])) continue;
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream file(entry.path(), std::ios::binary);
      all.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  }
  if (all.empty()) {
    std::fprintf(stderr, "no inputs in the directories named\n");
    return 1;
  }
  std::sort(all.begin(), all.end());
  for (const Bytes& input : all) LLVMFuzzerTestOneInput(input.data(), input.size());
  std::mt19937_64 random(1);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  long done = 0;
  for (; done < runs && std::chrono::steady_clock::now() < end; ++done) {
    Bytes input = all[static_cast<size_t>(random() % all.size())];
    change(input, all, random);
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%zu inputs and %ld changed copies, without libFuzzer\n", all.size(), done);
  return 0;
}
