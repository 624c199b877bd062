// SPDX-License-Identifier: Apache-2.0
// A kernel that is wrong on this machine: found while a model is loaded, refused by name, and the
// next one is used. The plugins here get in without a trial, as those of the install tree do.
#include <gtest/gtest.h>

#include <chrono>

#include "device/isa.h"
#include "model/kernel_check.h"
#include "model/loader.h"
#include "plugin/plugin_host.h"
#include "support/files.h"

namespace pluq {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::TempDir;

struct Loaded {
  std::vector<LayerReport> layers;
  std::vector<std::string> warnings;
};

// The tiny model with its MLPs quantized while loading by the plugin.
Loaded load(const std::string& plugin, const std::string& device = "cpu") {
  const TempDir dir;
  const std::string so = std::string(ZOO_DIR) + "/" + plugin + "/zoo_" + plugin + ".so";
  fs::copy_file(so, dir.path() + "/x.so");
  fs::copy_file(std::string(PLUQ_BINARY_DIR) + "/lib/pluq/plugins/dense.so",
                dir.path() + "/dense.so");
  PluginOptions o;
  o.directories = {dir.path()};
  o.search_defaults = false;
  const PluginHost host(o);
  LoadOptions options;
  options.path = TINY_MODEL;
  options.rules = {{LayerPattern("re:.*mlp.*"), "zoo_author", "test"}};
  options.device = open_device(parse_device(device));
  const LoadedModel loaded = load_model(host, std::make_shared<ThreadPool>(2), options);
  return {loaded.model->layers(), loaded.warnings};
}

int served_by(const Loaded& l, const std::string& kernel) {
  int n = 0;
  for (const LayerReport& r : l.layers) n += r.kernel == kernel ? 1 : 0;
  return n;
}

TEST(KernelCheck, RightKernelsAreKept) {
  const Loaded l = load("no_mistake");
  EXPECT_GT(served_by(l, best_isa(allowed_features()) >= Isa::kAvx2 ? "author wide" : "author"), 3);
  for (const std::string& w : l.warnings) EXPECT_EQ(w.find("is refused"), std::string::npos) << w;
}

TEST(KernelCheck, AWrongKernelIsRefusedAndTheNextOneNamed) {
  if (best_isa(allowed_features()) < Isa::kAvx2) GTEST_SKIP() << "no AVX2 here";
  const Loaded l = load("wrong_when_wide");
  EXPECT_EQ(served_by(l, "author wide"), 0);
  EXPECT_GT(served_by(l, "author"), 3);
  int told = 0;
  for (const std::string& w : l.warnings) {
    if (w.find("format 'zoo_author': kernel 'author wide' is refused") == std::string::npos)
      continue;
    ++told;
    EXPECT_NE(w.find("its result is off by"), std::string::npos) << w;
    EXPECT_NE(w.find("'author' is used instead"), std::string::npos) << w;
  }
  EXPECT_EQ(told, 1);
}

TEST(KernelCheck, WithoutAnotherKernelTheModelIsNotLoaded) {
  for (const char* plugin : {"wrong_scale", "transposed", "scales_of_next_row"}) {
    SCOPED_TRACE(plugin);
    expect_error(ErrorKind::kPlugin,
                 {"format 'zoo_author': kernel 'author' is refused", "there is no other kernel"},
                 [&] { load(plugin); });
  }
}

}  // namespace
}  // namespace pluq
