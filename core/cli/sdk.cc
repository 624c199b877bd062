// SPDX-License-Identifier: Apache-2.0
// pluq sdk new NAME: writes a complete plugin that builds against the installed SDK. The files are
// those of sdk/template, built into the program.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "cli/common.h"
#include "cli/sdk_template.h"

namespace pluq::cli {
namespace {

namespace fs = std::filesystem;

struct Flags {
  std::string name, dir;
  bool cuda = false;
};

void check_name(const std::string& name) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  };
  if (name.empty() || name.size() > 40 || name[0] < 'a' || name[0] > 'z' ||
      !std::all_of(name.begin(), name.end(), good)) {
    fail_usage("'{}' cannot name a format: give 1 to 40 of a-z, 0-9 and _, beginning with a letter",
               printable(name));
  }
}

std::string filled(std::string_view text, const std::string& name, const std::string& prefix) {
  std::string out(text);
  for (const auto& [key, value] :
       {std::pair<std::string, std::string>{"@ID@", name}, {"@PREFIX@", prefix}}) {
    for (size_t at = out.find(key); at != std::string::npos; at = out.find(key, at + value.size()))
      out.replace(at, key.size(), value);
  }
  return out;
}

void sdk_new(const Flags& f, const CommonFlags& common) {
  check_name(f.name);
  if (f.cuda)
    fail_usage("pluq sdk new --cuda: not built yet; without it the plugin has CPU code only");
  const fs::path dir = f.dir.empty() ? fs::path(f.name) : fs::path(f.dir);
  std::error_code ec;
  if (fs::exists(dir, ec) && (!fs::is_directory(dir, ec) || !fs::is_empty(dir, ec))) {
    fail_usage("{} exists and is not an empty directory; name another with --dir",
               printable(dir.string()));
  }
  const bool made = fs::create_directories(dir, ec);
  if (ec)
    fail(ErrorKind::kFailed, "{}: cannot be created: {}", printable(dir.string()), ec.message());
  // The install tree that this program is part of, for the commands in the files.
  const fs::path program = fs::read_symlink("/proc/self/exe", ec);
  const std::string prefix = ec ? "/usr/local" : program.parent_path().parent_path().string();
  const std::pair<std::string, std::string_view> files[] = {{f.name + ".cc", kTemplateFormat},
                                                            {"CMakeLists.txt", kTemplateCMake},
                                                            {"README.md", kTemplateReadme}};
  try {
    for (const auto& [name, text] : files)
      write_file_durably((dir / name).string(), filled(text, f.name, prefix));
  } catch (const Error&) {
    for (const auto& [name, text] : files) fs::remove(dir / name, ec);
    if (made) fs::remove(dir, ec);
    throw;
  }
  if (common.json) {
    boost::json::array names;
    for (const auto& [name, text] : files) names.push_back(boost::json::string(name));
    print_json(boost::json::object{{"directory", dir.string()}, {"files", std::move(names)}});
    return;
  }
  if (common.quiet) return;
  fmt::print(
      "{}: a format in one file. Build it, test it, use it:\n"
      "  cmake -S {} -B {}/build -DCMAKE_PREFIX_PATH={} && cmake --build {}/build\n"
      "  pluq plugins check {}/build/lib/pluq/plugins/{}.so\n"
      "  pluq quantize MODEL -o OUT --format {} --plugins {}/build/lib/pluq/plugins\n",
      dir.string(), dir.string(), dir.string(), prefix, dir.string(), dir.string(), f.name, f.name,
      dir.string());
}

}  // namespace

Verb add_sdk(CLI::App& app, CommonFlags& common) {
  CLI::App* verb = app.add_subcommand("sdk", "Begin a format plugin of your own");
  verb->footer("Example: pluq sdk new my_format --dir ./my_format");
  verb->require_subcommand(1);
  static Flags f;
  CLI::App* create =
      verb->add_subcommand("new", "Write a complete plugin: one C++ file and its CMakeLists.txt");
  create->add_option("NAME", f.name, "Id of the format: a-z, 0-9 and _")->required();
  create->add_option("--dir", f.dir, "Directory to write to (default ./NAME)")->type_name("DIR");
  create->add_flag("--cuda", f.cuda, "")->group("");
  add_common_flags(*create, common);
  return {verb, [&common] { sdk_new(f, common); }};
}

}  // namespace pluq::cli
