// SPDX-License-Identifier: Apache-2.0
// Each model family on the small models of tests/data/families: logits against transformers'
// float32 forward, and the same bits however the tokens are cut into forward passes and for any
// number of threads.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "base/file.h"
#include "engine/session.h"
#include "model/loader.h"
#include "plugin/plugin_host.h"

namespace pluq {
namespace {

namespace fs = std::filesystem;

const std::string kRoot = std::string(PLUQ_SOURCE_DIR) + "/tests/data/families";

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(kRoot)) {
    if (entry.is_directory()) out.push_back(entry.path().filename().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::vector<int32_t> read_ids() {
  std::vector<int32_t> out;
  const std::string text = read_file(kRoot + "/ids.txt", 1 << 16);
  for (size_t at = 0; at < text.size();
       at = text.find(',', at) == std::string::npos ? text.size() : text.find(',', at) + 1) {
    out.push_back(std::stoi(text.substr(at)));
  }
  return out;
}

// float32 [rows, columns] of a .npy file.
std::vector<float> read_expected(const std::string& path) {
  const std::string bytes = read_file(path, 1 << 24);
  uint16_t header;
  std::memcpy(&header, bytes.data() + 8, 2);
  std::vector<float> out((bytes.size() - 10 - header) / 4);
  std::memcpy(out.data(), bytes.data() + 10 + header, out.size() * 4);
  return out;
}

PluginHost& plugins() {
  PluginOptions options;
  options.directories = {PLUQ_PLUGIN_DIR};
  static PluginHost host(options);
  return host;
}

std::shared_ptr<Model> load(const std::string& name, uint32_t compute, int threads) {
  LoadOptions options;
  options.path = kRoot + "/" + name;
  options.compute = compute;
  // The reference ran 48 tokens: dynamic rotations depend on the length that is planned for.
  options.context = name == "llama-dynamic" ? 48 : 200;
  return load_model(plugins(), std::make_shared<ThreadPool>(threads), options).model;
}

std::vector<float> logits(const std::shared_ptr<Model>& model, const std::vector<int32_t>& ids,
                          uint32_t kv, size_t step) {
  SessionOptions options;
  options.kv_dtype = kv;
  Session session(model, options);
  std::vector<float> out;
  const auto vocab = static_cast<int64_t>(model->config().vocab_size);
  for (size_t at = 0; at < ids.size(); at += step) {
    const size_t count = std::min(step, ids.size() - at);
    session.all_logits({ids.data() + at, count}, [&](int64_t, int64_t n, const float* rows) {
      out.insert(out.end(), rows, rows + n * vocab);
    });
  }
  return out;
}

double relative(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, sum = 0, square = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * static_cast<double>(a[i] - b[i]);
    sum += b[i];
    square += static_cast<double>(b[i]) * b[i];
  }
  const auto n = static_cast<double>(b.size());
  return std::sqrt(difference / n) / std::sqrt(square / n - sum / n * (sum / n));
}

// The goldens are of the last tokens.
std::vector<float> tail(const std::vector<float>& all, size_t count) {
  if (all.size() < count) throw std::runtime_error("fewer logits than expected");
  return {all.end() - static_cast<std::ptrdiff_t>(count), all.end()};
}

class Families : public testing::TestWithParam<std::string> {};

TEST_P(Families, AgreesWithTransformers) {
  const std::vector<int32_t> ids = read_ids();
  const std::vector<float> want = read_expected(kRoot + "/" + GetParam() + "/expected.npy");
  const std::vector<float> exact =
      logits(load(GetParam(), PLUQ_COMPUTE_EXACT, 2), ids, PLUQ_DTYPE_F32, ids.size());
  EXPECT_LT(relative(tail(exact, want.size()), want), 5e-6);
  const std::vector<float> fast =
      logits(load(GetParam(), PLUQ_COMPUTE_FAST, 2), ids, PLUQ_DTYPE_F16, ids.size());
  EXPECT_LT(relative(tail(fast, want.size()), want), 1e-2);
}

TEST_P(Families, BitsDependNeitherOnChunksNorOnThreads) {
  const std::vector<int32_t> ids = read_ids();
  const auto model = load(GetParam(), PLUQ_COMPUTE_EXACT, 2);
  const std::vector<float> whole = logits(model, ids, PLUQ_DTYPE_F16, ids.size());
  EXPECT_EQ(whole, logits(model, ids, PLUQ_DTYPE_F16, 1));
  EXPECT_EQ(whole, logits(model, ids, PLUQ_DTYPE_F16, 7));
  EXPECT_EQ(whole, logits(load(GetParam(), PLUQ_COMPUTE_EXACT, 1), ids, PLUQ_DTYPE_F16, 13));
  EXPECT_EQ(whole, logits(load(GetParam(), PLUQ_COMPUTE_EXACT, 3), ids, PLUQ_DTYPE_F16, 16));
}

TEST_P(Families, UsesEveryTensor) {
  LoadOptions options;
  options.path = kRoot + "/" + GetParam();
  EXPECT_EQ(load_model(plugins(), std::make_shared<ThreadPool>(1), options).tensors_unused,
            std::vector<std::string>{});
  EXPECT_EQ(inspect_model(plugins(), options).tensors_unused, std::vector<std::string>{});
}

INSTANTIATE_TEST_SUITE_P(All, Families, testing::ValuesIn(names()), [](const auto& i) {
  std::string name = i.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace pluq
