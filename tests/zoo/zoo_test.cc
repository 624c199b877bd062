// SPDX-License-Identifier: Apache-2.0
// What the host says of each bad plugin.
#include <elf.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>

#include <cstring>

#include "base/file.h"
#include "plugin/elf_screen.h"
#include "plugin/host_table.h"
#include "plugin/plugin_host.h"
#include "support/files.h"

namespace pluq {
namespace {

using test::expect_error;
using test::TempDir;
namespace fs = std::filesystem;

std::string so(const std::string& name) {
  return std::string(ZOO_DIR) + "/" + name + "/zoo_" + name + ".so";
}

// A directory with just these files.
PluginOptions with(const TempDir& dir, std::initializer_list<std::string> files) {
  for (const std::string& f : files)
    fs::copy_file(f, dir.path() + "/" + fs::path(f).filename().string());
  PluginOptions o;
  o.directories = {dir.path()};
  o.search_defaults = false;
  return o;
}

PluginReport only(const std::string& name) {
  const TempDir dir;
  const PluginHost host(with(dir, {so(name)}));
  EXPECT_EQ(host.reports().size(), 1u);
  return host.reports().at(0);
}

TEST(Zoo, TheGoodPluginLoads) {
  const PluginReport r = only("good");
  EXPECT_TRUE(r.loaded) << r.reason;
  EXPECT_EQ(r.id, "test.zoo");
  EXPECT_EQ(r.formats, std::vector<std::string>{"zoo"});
  EXPECT_EQ(r.sha256.size(), 64u);
}

TEST(Zoo, EachFaultIsRefusedWithItsReason) {
  const struct {
    const char *name, *says;
  } cases[] = {
      {"wrong_magic", "wrong magic"},
      {"wrong_major", "built for plugin ABI 7.0 to 7.0, this host speaks 1.0"},
      {"wrong_minor", "built for plugin ABI 1.1 to 1.1, this host speaks 1.0"},
      {"range_upside_down", "built for plugin ABI 1.1 to 1.0"},
      {"no_note", "has no pluq manifest"},
      {"no_entry", "does not export pluq_plugin_entry_v1"},
      {"entry_fails", "its entry failed: not on a Monday"},
      {"other_manifest", "returns another manifest"},
      {"other_version_at_run_time", "its entry speaks plugin ABI 7.0 to 7.0, this host 1.0"},
      {"manifest_lies", "registers formats zoo, its manifest names something_else"},
      {"registers_nothing", "registers no format"},
      {"short_struct", "the format table is too short or has an empty slot: probe"},
      {"null_slot", "the format table is too short or has an empty slot: probe"},
      {"text_relocations", "has text relocations"},
      {"auxiliary", "names a filter, auxiliary or audit library"},
      {"runpath", "RUNPATH"},
      {"execstack", "executable stack"},
      {"needs", "needs library 'libresolv.so.2'"}};
  for (const auto& c : cases) {
    const PluginReport r = only(c.name);
    EXPECT_FALSE(r.loaded) << c.name;
    EXPECT_NE(r.reason.find(c.says), std::string::npos) << c.name << ": " << r.reason;
  }
}

TEST(Zoo, FilesThatAreNoPlugins) {
  const TempDir dir;
  const std::string whole = read_file(so("good"), 1 << 24);
  dir.write("text.so", "hello");
  dir.write("cut.so", whole.substr(0, whole.size() / 2));
  dir.write("notes.txt", "not looked at");
  PluginOptions o;
  o.directories = {dir.path()};
  o.search_defaults = false;
  const PluginHost host(o);
  ASSERT_EQ(host.reports().size(), 2u);
  EXPECT_NE(host.reports()[0].reason.find("is truncated"), std::string::npos)
      << host.reports()[0].reason;
  EXPECT_NE(host.reports()[1].reason.find("is not an ELF file"), std::string::npos);
}

// What the dynamic loader would read is not what the section headers show.
TEST(Zoo, SectionsThatHideWhatTheLoaderReads) {
  const std::string whole = read_file(so("runpath"), 1 << 24);
  const auto refused = [](const std::string& bytes) {
    try {
      const std::string why =
          refusal(read_elf(std::as_bytes(std::span(bytes.data(), bytes.size()))));
      return why.empty() ? std::string("accepted") : why;
    } catch (const Error& e) {
      return std::string(e.what());
    }
  };
  EXPECT_NE(refused(whole).find("RUNPATH"), std::string::npos);
  Elf64_Ehdr header;
  std::memcpy(&header, whole.data(), sizeof header);
  int tables = 0;
  for (uint64_t i = 0; i < header.e_shnum; ++i) {
    const size_t at = header.e_shoff + i * sizeof(Elf64_Shdr);
    Elf64_Shdr section;
    std::memcpy(&section, whole.data() + at, sizeof section);
    if (section.sh_type != SHT_DYNAMIC && section.sh_type != SHT_DYNSYM &&
        section.sh_type != SHT_GNU_verneed)
      continue;
    ++tables;
    const auto changed = [&](auto change) {
      Elf64_Shdr other = section;
      change(other);
      std::string bytes = whole;
      std::memcpy(bytes.data() + at, &other, sizeof other);
      return refused(bytes);
    };
    const std::string hides = "has section headers that tell the dynamic loader's";
    EXPECT_NE(changed([](Elf64_Shdr& s) { s.sh_type = SHT_NULL; }).find(hides), std::string::npos);
    EXPECT_NE(changed([](Elf64_Shdr& s) { s.sh_offset += 8; }).find(hides), std::string::npos);
    EXPECT_NE(changed([](Elf64_Shdr& s) { s.sh_addr += 8; }).find(hides), std::string::npos);
  }
  EXPECT_EQ(tables, 3);
  std::string narrow = whole;
  narrow[EI_CLASS] = ELFCLASS32;
  EXPECT_NE(refused(narrow).find("is not an x86-64 shared object (class 1"), std::string::npos);
}

TEST(Zoo, EveryTruncationAndManyChangesOfAnElfAreTyped) {
  const std::string whole = read_file(so("good"), 1 << 24);
  const auto bytes = [](const std::string& s) {
    return std::as_bytes(std::span(s.data(), s.size()));
  };
  for (size_t n = 0; n < whole.size(); n += 61) {
    try {
      read_elf(bytes(whole.substr(0, n)));
    } catch (const Error&) {
    }
  }
  for (size_t at = 0; at < whole.size(); at += 7) {
    std::string bad = whole;
    bad[at] = static_cast<char>(bad[at] ^ 0xff);
    try {
      read_elf(bytes(bad));
    } catch (const Error&) {
    }
  }
}

TEST(Zoo, TwoPluginsWithOneFormatNeedAPreference) {
  const TempDir dir;
  PluginOptions o = with(dir, {so("good"), so("twin")});
  expect_error(ErrorKind::kPlugin, {"format 'zoo' is in two plugins", "plugins.prefer"},
               [&] { PluginHost{o}; });
  o.prefer["zoo"] = dir.path() + "/zoo_twin.so";
  const PluginHost host(o);
  EXPECT_EQ(host.at("zoo").plugin_path(), dir.path() + "/zoo_twin.so");
}

TEST(Zoo, OnTheAllowListOrItsConstructorNeverRuns) {
  const TempDir dir;
  const std::string marker = dir.path() + "/marker";
  ::setenv("ZOO_MARKER", marker.c_str(), 1);
  PluginOptions o = with(dir, {so("constructor_drops_a_file")});
  o.allow_list = dir.write("allow", std::string(64, '0') + "  other.so\n");
  {
    const PluginHost host(o);
    EXPECT_FALSE(host.reports().at(0).loaded);
    EXPECT_NE(host.reports().at(0).reason.find("is not in"), std::string::npos);
    EXPECT_FALSE(fs::exists(marker));
    o.allow_list = dir.write("allow", "# ours\n" + host.reports().at(0).sha256 + "  zoo.so\n");
  }
  EXPECT_TRUE(PluginHost(o).reports().at(0).loaded);
  EXPECT_TRUE(fs::exists(marker));
  ::unsetenv("ZOO_MARKER");
  o.allow_list = dir.write("allow", "nonsense\n");
  expect_error(ErrorKind::kInput, {"allow:1", "not a line of sha256sum"}, [&] { PluginHost{o}; });
}

TEST(Zoo, WritablePlacesAreRefused) {
  const TempDir dir;
  PluginOptions o = with(dir, {so("good")});
  ::chmod((dir.path() + "/zoo_good.so").c_str(), 0666);
  EXPECT_NE(PluginHost(o).reports().at(0).reason.find("writable by everyone"), std::string::npos);
  ::chmod((dir.path() + "/zoo_good.so").c_str(), 0644);
  ::chmod(dir.path().c_str(), 0777);
  expect_error(ErrorKind::kPlugin, {"is not used", "writable by everyone"}, [&] { PluginHost{o}; });
  ::chmod(dir.path().c_str(), 0700);
  EXPECT_TRUE(PluginHost(o).reports().at(0).loaded);
  o.directories = {dir.path() + "/none"};
  expect_error(ErrorKind::kPlugin, {"does not exist"}, [&] { PluginHost{o}; });
}

// Who else could have put the file there.
TEST(Zoo, TheFileAndAllItsParents) {
  const TempDir outer;
  const std::string parent = outer.path() + "/parent", dir = parent + "/plugins",
                    file = dir + "/x.so";
  fs::create_directories(dir);
  fs::copy_file(so("good"), file);
  PluginOptions o;
  o.directories = {dir};
  o.search_defaults = false;
  const auto says = [&] {
    const PluginReport r = PluginHost(o).reports().at(0);
    return r.loaded ? std::string("loaded") : r.reason;
  };
  EXPECT_EQ(says(), "loaded");
  for (const mode_t mode : {mode_t{0664}, mode_t{0646}}) {
    ::chmod(file.c_str(), mode);
    if (mode == 0664 && ::getegid() == 0) continue;  // the group root may
    EXPECT_NE(says().find("writable by"), std::string::npos) << says();
  }
  for (const mode_t mode : {mode_t{04644}, mode_t{02644}}) {
    ::chmod(file.c_str(), mode);
    EXPECT_NE(says().find("set-user or set-group bit"), std::string::npos) << says();
  }
  ::chmod(file.c_str(), 0644);
  ::chmod(parent.c_str(), 0777);
  expect_error(ErrorKind::kPlugin, {"is not used", "/parent is writable by everyone"},
               [&] { PluginHost{o}; });
  ::chmod(parent.c_str(), 01777);  // as /tmp: only owners remove what is in it
  EXPECT_EQ(says(), "loaded");
  ::chmod(dir.c_str(), 01777);  // but anybody could add to the directory itself
  expect_error(ErrorKind::kPlugin, {"is not used", "/plugins is writable by everyone"},
               [&] { PluginHost{o}; });
  ::chmod(dir.c_str(), 0755);
  ::chmod(parent.c_str(), 0755);
  fs::rename(file, parent + "/real.so");
  fs::create_symlink("../real.so", file);
  EXPECT_NE(says().find("is a symbolic link to ../real.so"), std::string::npos) << says();
  fs::remove(file);
  fs::rename(parent + "/real.so", file);
  if (::geteuid() != 0) return;  // only root can give files away
  constexpr uid_t kSomebody = 4711;
  for (const std::string& path : {file, dir, parent}) {
    ASSERT_EQ(::chown(path.c_str(), kSomebody, 0), 0);
    if (path == file) {
      EXPECT_NE(says().find("belongs to another user"), std::string::npos) << says();
    } else {
      expect_error(ErrorKind::kPlugin, {"is not used", "belongs to another user"},
                   [&] { PluginHost{o}; });
    }
    ASSERT_EQ(::chown(path.c_str(), 0, 0), 0);
  }
}

TEST(Zoo, StrictModeRefusesWhatTheLoaderBringsIn) {
  const TempDir dir;
  PluginOptions o;
  o.directories = {dir.path()};
  o.search_defaults = false;
  for (const char* name : {"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"}) {
    ::setenv(name, "/nowhere/x.so", 1);
    o.strict = false;
    EXPECT_NO_THROW(PluginHost{o}) << name;
    o.strict = true;
    expect_error(ErrorKind::kPlugin, {"strict mode", name, "/nowhere/x.so"},
                 [&] { PluginHost{o}; });
    o.strict = false;
    ::setenv("PLUQ_PLUGIN_STRICT", "1", 1);
    expect_error(ErrorKind::kPlugin, {"strict mode", name}, [&] { PluginHost{o}; });
    ::unsetenv("PLUQ_PLUGIN_STRICT");
    ::unsetenv(name);
  }
}

TEST(Zoo, TheSearchPathIsAbsolute) {
  ::setenv("PLUQ_PLUGIN_PATH", "plugins:/tmp", 1);
  expect_error(ErrorKind::kPlugin, {"'plugins' is not absolute"}, [] { plugin_search_path({}); });
  ::unsetenv("PLUQ_PLUGIN_PATH");
}

TEST(Zoo, NothingThatIsThrownCrossesTheBoundary) {
  const TempDir dir;
  const PluginHost host(with(dir, {so("thrower")}));
  const FormatHandle& f = host.at("thrower");
  expect_error(ErrorKind::kPlugin, {"format 'thrower': probe", "probe threw"},
               [&] { f.probe("safetensors", nullptr, {}); });
  expect_error(ErrorKind::kPlugin, {"no std::exception"}, [&] { f.probe("int", nullptr, {}); });
  expect_error(ErrorKind::kInput, {"'bits' is missing"},
               [&] { f.create_config("safetensors", nullptr, nullptr, ""); });
  expect_error(ErrorKind::kUsage, {"has no option 'x'; accepted are none"},
               [&] { f.parse_options(std::vector<std::string>{"x=1"}, "--set"); });
  expect_error(ErrorKind::kPlugin, {"no plugin has format 'gone'", "there are thrower", dir.path()},
               [&] { host.at("gone"); });
}

TEST(HostTable, StatusesJsonAndMatch) {
  const pluq_host& h = host_table();
  pluq_status* s = h.status_new(&h, PLUQ_STATUS_INVALID, "abc", 3);
  EXPECT_EQ(h.status_code(s), PLUQ_STATUS_INVALID);
  EXPECT_EQ(text_of(h.status_text(s)), "abc");
  h.status_free(&h, s);
  h.status_free(&h, nullptr);
  EXPECT_EQ(h.get_extension(&h, "pluq.host.json/1x"), nullptr);
  EXPECT_EQ(h.get_extension(&h, "none"), nullptr);
  const auto& json = *static_cast<const pluq_host_json*>(h.get_extension(&h, PLUQ_HOST_JSON));
  const boost::json::value v =
      boost::json::parse(R"({"a":[1,2.5,"x",true,null],"b":18446744073709551615})");
  const pluq_json* a = json.get(json_cursor(&v), {"a", 1});
  EXPECT_EQ(json.type(a), PLUQ_JSON_ARRAY);
  EXPECT_EQ(json.size(a), 5u);
  EXPECT_EQ(json.as_int(json.at(a, 0)), 1);
  EXPECT_EQ(json.as_real(json.at(a, 1)), 2.5);
  EXPECT_EQ(text_of(json.as_string(json.at(a, 2))), "x");
  EXPECT_EQ(json.as_int(json.at(a, 3)), 1);
  EXPECT_EQ(json.at(a, 5), nullptr);
  EXPECT_EQ(json.get(json_cursor(&v), {"z", 1}), nullptr);
  EXPECT_EQ(text_of(json.key_at(json_cursor(&v), 1)), "b");
  EXPECT_EQ(json.type(nullptr), PLUQ_JSON_NULL);
  const auto& match = *static_cast<const pluq_host_match*>(h.get_extension(&h, PLUQ_HOST_MATCH));
  int32_t yes = -1;
  EXPECT_EQ(match.match(&h, PLUQ_MATCH_SUBSTRING, {"mlp", 3}, {"a.mlp.b", 7}, &yes), nullptr);
  EXPECT_EQ(yes, 1);
  EXPECT_NE(take_text(match.match(&h, PLUQ_MATCH_PREFIX_REGEX, {"(", 1}, {"a", 1}, &yes)), "");
  EXPECT_NE(take_text(match.match(&h, 9, {"a", 1}, {"a", 1}, &yes)), "");
}

}  // namespace
}  // namespace pluq
