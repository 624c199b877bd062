// SPDX-License-Identifier: Apache-2.0
// pluq sdk new NAME: writes a complete plugin that builds against the installed SDK. The files are
// those of sdk/template, built into the program.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "cli/common.h"
#include "cli/sdk_template.h"
#include "plugin/elf_screen.h"

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
  // Targets that CMake makes in every project; no project may have others of these names.
  constexpr std::string_view kReserved[] = {
      "all",     "clean",          "edit_cache", "help",          "install", "none",
      "package", "package_source", "preinstall", "rebuild_cache", "test"};
  if (std::find(std::begin(kReserved), std::end(kReserved), name) != std::end(kReserved))
    fail_usage("'{}' cannot name a format: CMake or YAML has another meaning for it", name);
}

// Two plugins with a format of one id cannot be loaded together.
void check_unused(const std::string& name, const fs::path& plugins) {
  std::error_code ec;
  for (const fs::directory_entry& entry : fs::directory_iterator(plugins, ec)) {
    if (entry.path().extension() != ".so") continue;
    try {
      const auto file = MappedFile::open(entry.path().string());
      const pluq_manifest manifest = read_elf(file->bytes()).manifest;
      const std::string ids(manifest.formats, ::strnlen(manifest.formats, sizeof manifest.formats));
      if (("," + ids + ",").find("," + name + ",") == std::string::npos) continue;
    } catch (const Error&) {
      continue;  // no plugin: it has no formats
    }
    fail_usage("'{}' is a format of {}; choose another name", name, entry.path().string());
  }
}

// The lines of a template for one kind of plugin. A line that holds <cpu>, </cpu>, <cuda> or
// </cuda> is a mark and left out; what lies between the marks of the other kind is left out, too.
std::string lines_of(std::string_view text, bool cuda) {
  std::string out;
  bool keep = true;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end == std::string_view::npos ? end : end + 1);
    text.remove_prefix(line.size());
    const auto holds = [&](std::string_view mark) {
      return line.find(mark) != std::string_view::npos;
    };
    if (holds("<cpu>")) {
      keep = !cuda;
    } else if (holds("<cuda>")) {
      keep = cuda;
    } else if (holds("</cpu>") || holds("</cuda>")) {
      keep = true;
    } else if (keep) {
      out += line;
    }
  }
  return out;
}

std::string filled(std::string out, const std::string& name, const std::string& prefix) {
  for (const auto& [key, value] :
       {std::pair<std::string, std::string>{"@ID@", name}, {"@PREFIX@", prefix}}) {
    for (size_t at = out.find(key); at != std::string::npos; at = out.find(key, at + value.size()))
      out.replace(at, key.size(), value);
  }
  return out;
}

void sdk_new(const Flags& f, const CommonFlags& common) {
  check_name(f.name);
  std::error_code ec;
  // The install tree that this program is part of, for the commands in the files.
  const fs::path program = fs::read_symlink("/proc/self/exe", ec);
  const std::string prefix = ec ? "/usr/local" : program.parent_path().parent_path().string();
  check_unused(f.name, fs::path(prefix) / "lib/pluq/plugins");
  const fs::path dir = f.dir.empty() ? fs::path(f.name) : fs::path(f.dir);
  if (fs::exists(dir, ec) && (!fs::is_directory(dir, ec) || !fs::is_empty(dir, ec))) {
    fail_usage("{} exists and is not an empty directory; name another with --dir",
               printable(dir.string()));
  }
  const bool made = fs::create_directories(dir, ec);
  if (ec)
    fail(ErrorKind::kFailed, "{}: cannot be created: {}", printable(dir.string()), ec.message());
  std::vector<std::pair<std::string, std::string_view>> files = {{f.name + ".cc", kTemplateFormat},
                                                                 {"CMakeLists.txt", kTemplateCMake},
                                                                 {"README.md", kTemplateReadme}};
  if (f.cuda) {
    files.emplace_back(f.name + ".h", kTemplateKernelHeader);
    files.emplace_back(f.name + ".cu.inl", kTemplateKernel);
  }
  try {
    for (const auto& [name, text] : files) {
      write_file_durably((dir / name).string(), filled(lines_of(text, f.cuda), f.name, prefix));
    }
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
  const std::string plugins = dir.string() + "/build/lib/pluq/plugins";
  fmt::print(
      "{}: a format in {}. Build it, test it, use it:\n"
      "  cmake -S {} -B {}/build -DCMAKE_PREFIX_PATH={} && cmake --build {}/build\n"
      "  pluq plugins check {}/{}.so\n"
      "  pluq quantize MODEL -o OUT --format {} --plugins {}\n",
      dir.string(), f.cuda ? "one file, its CUDA kernels in another" : "one file", dir.string(),
      dir.string(), prefix, dir.string(), plugins, f.name, f.name, plugins);
  if (f.cuda) {
    fmt::print("  pluq run OUT -p \"Hello\" --plugins {} --device cuda-emulated\n", plugins);
  }
}

}  // namespace

Verb add_sdk(CLI::App& app, CommonFlags& common) {
  CLI::App* verb = app.add_subcommand("sdk", "Begin a format plugin of your own");
  verb->footer(
      "Examples:\n  pluq sdk new my_format --dir ./my_format\n"
      "  pluq sdk new my_format --cuda");
  verb->require_subcommand(1);
  static Flags f;
  CLI::App* create =
      verb->add_subcommand("new", "Write a complete plugin: one C++ file and its CMakeLists.txt");
  create->footer(
      "The plugin is a format of 4-bit weights to change: it builds against this pluq with one "
      "command, passes\n'pluq plugins check', quantizes models and runs them.\n"
      "The tutorial share/pluq/sdk/README.md of the install tree goes on from there.\n"
      "Example: pluq sdk new my_format --cuda --dir ./my_format");
  create->add_option("NAME", f.name, "Id of the format: a-z, 0-9 and _")->required();
  create->add_option("--dir", f.dir, "Directory to write to (default ./NAME)")->type_name("DIR");
  create->add_flag("--cuda", f.cuda,
                   "With CUDA kernels: one source for GPUs and for --device cuda-emulated, which "
                   "needs no nvcc");
  add_common_flags(*create, common);
  return {verb, [&common] { sdk_new(f, common); }};
}

}  // namespace pluq::cli
