// SPDX-License-Identifier: Apache-2.0
// Plugins whose code breaks a rule: the trial in a child process finds it, says what it was, and
// the host goes on.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <iterator>
#include <thread>

#include "base/file.h"
#include "conformance/kit.h"
#include "conformance/trial.h"
#include "plugin/plugin_host.h"
#include "support/files.h"

namespace pluq {
namespace {

using test::TempDir;
namespace fs = std::filesystem;

std::string so(const std::string& name) {
  return std::string(ZOO_DIR) + "/" + name + "/zoo_" + name + ".so";
}

PluginOptions options_for(const TempDir& dir, double time_limit = 3,
                          const std::string& cache = "") {
  PluginOptions o;
  o.directories = {dir.path()};
  o.search_defaults = false;
  o.trial = [=](const std::string& path, const std::string& hash, const ElfFacts& facts) {
    return conformance::trial(path, hash, facts, {time_limit, cache});
  };
  return o;
}

PluginReport tried(const std::string& name) {
  const TempDir dir;
  fs::copy_file(so(name), dir.path() + "/x.so");
  return PluginHost(options_for(dir)).reports().at(0);
}

TEST(Trial, TheWorkingLayerPasses) {
  const PluginReport r = tried("nothing");
  EXPECT_TRUE(r.loaded) << r.reason;
}

TEST(Trial, EachFaultIsContainedAndNamed) {
  const struct {
    const char *name, *says;
  } cases[] = {
      {"constructor_aborts", "died of Aborted while: dlopen"},
      {"constructor_exits", "ended its process with exit code 0"},
      {"constructor_segfaults", "died of Segmentation fault while: dlopen"},
      {"constructor_hangs", "did not end within 3 s while: dlopen"},
      {"probe_segfaults", "died of Segmentation fault while: probe of 'zoo_layer'"},
      {"entry_hangs", "did not end within 3 s while: the entry"},
      {"config_aborts", "died of Aborted while: create_config"},
      {"short_config_table", "config table is too short or has an empty slot: destroy"},
      {"null_config_slot", "config table is too short or has an empty slot: get_quant_method"},
      {"short_method_table", "too short or has an empty slot: apply"},
      {"null_method_slot", "too short or has an empty slot: workspace"},
      {"raw_apply_throws", "failed its trial: apply threw"},
      {"destroy_segfaults", "died of Segmentation fault while: destroying"},
      {"destroy_hangs", "did not end within 3 s while: destroying"},
      {"leaks_descriptors", "leaks: 50 lives of a method leave 50 open files behind"},
      {"leaks_maps", "leaks: 50 lives of a method leave 50 mappings behind"},
      {"use_without_method", "says USE but gives no method"},
      {"declares_nothing", "declares 0 tensors"},
      {"lies_about_shapes", "declares another shape for 'codes'"},
      {"box_outside", "declares another shape for 'codes'"},
      {"refuses_itself", "refuses its own layer: not today"},
      {"huge_buffer", "asks for a run-time buffer of 1152921504606846976 bytes"},
      {"writes_to_weights", "died of Segmentation fault while: process_weights_after_loading"},
      {"writes_past_buffer", "died of Segmentation fault while: process_weights_after_loading"},
      {"writes_past_output", "died of Segmentation fault while: apply"},
      {"reads_past_input", "died of Segmentation fault while: apply"},
      {"writes_past_workspace", "died of Segmentation fault while: apply"},
      {"lies_about_workspace", "died of Segmentation fault while: apply"},
      {"writes_to_buffer_in_apply", "died of Segmentation fault while: apply"},
      {"writes_to_input", "died of Segmentation fault while: apply"},
      {"dequantize_writes_past", "died of Segmentation fault while: dequantize"},
      {"apply_segfaults", "died of Segmentation fault while: apply"},
      {"apply_aborts", "died of Aborted while: apply"},
      {"apply_exits", "ended its process with exit code 0 while: apply"},
      {"apply_hangs", "did not end within 3 s while: apply"},
      {"apply_throws", "apply: the plugin threw something that is no std::exception"},
      {"apply_recurses", "died of Segmentation fault while: apply"},
      {"not_deterministic", "the same call gives other bits the second time"},
      {"wrong_result", "the method promises 1.000e-05"},
      {"gives_nan", "the error is inf"},
      {"no_error_bound", "the method promises 1.000e+09"},
      {"leaks", "leaks: 50 lives of a method"},
      {"keeps_threads", "threads of its own running"},
      {"raw_std", "while: the entry"},
      {"raw_int", "while: the entry"},
      {"extra_export", "exports 2 symbols"}};
  for (const auto& c : cases) {
    const PluginReport r = tried(c.name);
    EXPECT_FALSE(r.loaded) << c.name;
    EXPECT_NE(r.reason.find(c.says), std::string::npos) << c.name << ": " << r.reason;
  }
}

TEST(Trial, AnotherMachineIsRefusedBeforeAnythingRuns) {
  const TempDir dir;
  std::string bytes = read_file(so("nothing"), 1 << 26);
  bytes[18] = static_cast<char>(183);  // e_machine: AArch64
  bytes[19] = 0;
  dir.write("arm.so", bytes);
  const PluginReport r = PluginHost(options_for(dir)).reports().at(0);
  EXPECT_FALSE(r.loaded);
  EXPECT_NE(r.reason.find("is not an x86-64 shared object"), std::string::npos) << r.reason;
}

TEST(Trial, VerdictsAreKeptByHashAndOnlyWhereNobodyElseWrites) {
  const TempDir dir, cache;
  ::chmod(cache.path().c_str(), 0700);
  fs::copy_file(so("wrong_result"), dir.path() + "/bad.so");
  const std::string first = PluginHost(options_for(dir, 3, cache.path())).reports().at(0).reason;
  const std::string second = PluginHost(options_for(dir, 3, cache.path())).reports().at(0).reason;
  EXPECT_EQ(first + " (verdict of an earlier trial)", second);
  EXPECT_EQ(std::distance(fs::directory_iterator(cache.path()), fs::directory_iterator()), 1);
  // Somebody else could have written it: it is not believed.
  const std::string file = fs::directory_iterator(cache.path())->path().string();
  { std::ofstream(file) << "pass\n"; }
  ::chmod(file.c_str(), 0666);
  EXPECT_FALSE(PluginHost(options_for(dir, 3, cache.path())).reports().at(0).loaded);
  // Time-outs are no verdict.
  fs::remove(dir.path() + "/bad.so");
  fs::remove(file);
  fs::copy_file(so("apply_hangs"), dir.path() + "/slow.so");
  EXPECT_FALSE(PluginHost(options_for(dir, 1, cache.path())).reports().at(0).loaded);
  EXPECT_TRUE(fs::is_empty(cache.path()));
}

TEST(Trial, StrictModeTakesOnlyWhatIsListed) {
  const TempDir dir;
  fs::copy_file(so("nothing"), dir.path() + "/x.so");
  PluginOptions o = options_for(dir);
  o.strict = true;
  const PluginReport refused = PluginHost(o).reports().at(0);
  EXPECT_FALSE(refused.loaded);
  EXPECT_NE(refused.reason.find("strict mode"), std::string::npos) << refused.reason;
  const TempDir lists;
  o.allow_list = lists.write("allow", refused.sha256 + "  x.so\n");
  EXPECT_TRUE(PluginHost(o).reports().at(0).loaded);
}

// While the file's name points now to one plugin and now to another, only the one on the allow list
// is ever mapped.
TEST(Trial, ASwapRaceNeverRunsTheWrongConstructor) {
  const TempDir dir, lists;
  const std::string marker = lists.path() + "/marker", name = dir.path() + "/x.so";
  fs::copy_file(so("nothing"), name);
  PluginOptions o;
  o.directories = {dir.path()};
  o.search_defaults = false;
  const std::string good = PluginHost(o).reports().at(0).sha256;
  o.allow_list = lists.write("allow", good + "  x.so\n");
  ::setenv("ZOO_MARKER", marker.c_str(), 1);
  const std::string bytes[2] = {read_file(so("nothing"), 1 << 26),
                                read_file(so("constructor_drops_a_file"), 1 << 26)};
  std::atomic<bool> stop = false;
  std::thread swapper([&] {
    for (int i = 0; !stop; ++i) {
      const std::string next = lists.path() + "/next";
      std::ofstream(next, std::ios::binary) << bytes[i % 2];
      ::chmod(next.c_str(), 0644);
      fs::rename(next, name);
      std::this_thread::sleep_for(std::chrono::microseconds(300));
    }
  });
  int loaded = 0, refused = 0;
  for (int i = 0; i < 1000; ++i) {
    const PluginHost host(o);
    for (const PluginReport& r : host.reports()) {
      ++(r.loaded ? loaded : refused);
      if (r.loaded) {
        EXPECT_EQ(r.sha256, good);
      }
    }
    if (fs::exists(marker)) {
      ADD_FAILURE() << "the wrong constructor ran in round " << i;
      break;
    }
  }
  stop = true;
  swapper.join();
  ::unsetenv("ZOO_MARKER");
  EXPECT_GT(loaded, 0);
  EXPECT_GT(refused, 0);
}

// Plugins with the same inner symbols, the same format behind two ids: each keeps its own.
TEST(Trial, PluginsWithTheSameInnerSymbolsKeepTheirOwn) {
  const TempDir dir;
  fs::copy_file(so("clash_a"), dir.path() + "/a.so");
  fs::copy_file(so("clash_b"), dir.path() + "/b.so");
  const PluginHost host(options_for(dir));
  for (const PluginReport& r : host.reports()) EXPECT_TRUE(r.loaded) << r.path << ": " << r.reason;
  for (int round = 0; round < 2; ++round) {
    EXPECT_EQ(host.at("clash_a").summary(), "111 112");
    EXPECT_EQ(host.at("clash_b").summary(), "222 223");
    EXPECT_EQ(host.at("clash_a").probe("", nullptr, {}).score, 111);
    EXPECT_EQ(host.at("clash_b").probe("", nullptr, {}).score, 222);
  }
}

// Looking at plugins again and again, with a trial each time: nothing stays behind in the host.
TEST(Trial, NothingGrowsInTheHost) {
  const TempDir dir;
  for (const char* name : {"nothing", "wrong_result", "runpath", "keeps_threads"})
    fs::copy_file(so(name), dir.path() + "/" + name + ".so");
  const auto count = [](const char* what) {
    return std::distance(fs::directory_iterator(what), fs::directory_iterator());
  };
  const auto maps = [] {
    std::ifstream file("/proc/self/maps");
    return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
  };
  for (int i = 0; i < 2; ++i) PluginHost host(options_for(dir));  // what is loaded stays
  const auto files = count("/proc/self/fd"), threads = count("/proc/self/task"), before = maps();
  for (int i = 0; i < 10; ++i) {
    const PluginHost host(options_for(dir));
    ASSERT_EQ(host.formats().size(), 1u);
  }
  EXPECT_EQ(count("/proc/self/fd"), files);
  EXPECT_EQ(count("/proc/self/task"), threads);
  EXPECT_LE(maps(), before + 2);  // malloc may take a new arena
}

// The kit finds what the trial has no time for, and its report says so.
TEST(Kit, ReportsFailuresAndWorkingPlugins) {
  conformance::Options options;
  options.path = so("nothing");
  options.filter = "memory.";
  EXPECT_EQ(conformance::check_plugin(options, {}).count("fail"), 0);
  options.path = so("lies_about_workspace");
  const conformance::Report bad = conformance::check_plugin(options, {});
  EXPECT_GT(bad.count("fail"), 0);
  EXPECT_FALSE(bad.to_json().as_object().at("conforming").as_bool());
  options.path = so("runpath");
  const conformance::Report refused = conformance::check_plugin(options, {});
  ASSERT_EQ(refused.results.size(), 1u);
  EXPECT_NE(refused.results[0].text.find("RUNPATH"), std::string::npos);
}

}  // namespace
}  // namespace pluq
