// SPDX-License-Identifier: Apache-2.0
// Finds, checks and loads format plugins, and keeps the registry of formats.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "plugin/elf_screen.h"
#include "plugin/format.h"

namespace pluq {

struct PluginReport {
  std::string path, id, version, abi, sha256;
  std::vector<std::string> formats;
  bool loaded = false;
  std::string reason;  // why refused
};

struct PluginOptions {
  std::vector<std::string> directories;  // absolute; from YAML and --plugins, searched first
  bool search_defaults = true;           // PLUQ_PLUGIN_PATH and the install tree
  std::string allow_list;                // file in sha256sum format, or empty
  std::map<std::string, std::string>
      prefer;  // format id -> plugin path that wins when several have it
  // Called for a plugin that is not of the program's own install tree, before any of its code runs
  // here: the reason why it must not be loaded, or empty. `path` opens the very bytes that would be
  // mapped. Empty: no trial.
  std::function<std::string(const std::string& path, const std::string& sha256,
                            const ElfFacts& facts)>
      trial;
  // Only plugins of the install tree and of the allow list; also by PLUQ_PLUGIN_STRICT=1.
  bool strict = false;
};

class PluginHost {
 public:
  // Looks at every *.so of every directory. A candidate that is refused is only reported; a
  // directory that may not be used and two plugins with one format id are an Error(kPlugin).
  explicit PluginHost(const PluginOptions& options);
  PluginHost(const PluginHost&) = delete;
  PluginHost& operator=(const PluginHost&) = delete;

  const std::vector<PluginReport>& reports() const { return reports_; }
  const std::vector<std::string>& searched() const { return searched_; }
  const std::vector<std::unique_ptr<FormatHandle>>& formats() const { return formats_; }
  const FormatHandle* find(std::string_view id) const;
  // Throws Error(kPlugin) naming the id, the formats there are and the directories searched.
  const FormatHandle& at(std::string_view id) const;

 private:
  void consider(const std::string& path, const PluginOptions& options,
                const std::map<std::string, std::string>& allowed);
  void adopt(std::vector<std::unique_ptr<FormatHandle>> formats, PluginReport* report,
             const PluginOptions& options);

  std::vector<PluginReport> reports_;
  std::vector<std::string> searched_;
  std::vector<std::unique_ptr<FormatHandle>> formats_;
};

// Directories in the order of search: the given ones, PLUQ_PLUGIN_PATH, and beside the program
// (<bin>/../lib/pluq/plugins). Never the current directory.
std::vector<std::string> plugin_search_path(const PluginOptions& options);

}  // namespace pluq
