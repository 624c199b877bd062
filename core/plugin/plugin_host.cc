// SPDX-License-Identifier: Apache-2.0
#include "plugin/plugin_host.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/dll/shared_library.hpp>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "plugin/elf_screen.h"
#include "plugin/host_table.h"

struct pluq_registrar {
  std::vector<pluq_format> formats;
};

namespace pluq {
namespace {

namespace fs = std::filesystem;
constexpr size_t kMaxPluginBytes = size_t{1} << 30;

// "HASH  name" lines as sha256sum writes them; '#' begins a comment.
std::map<std::string, std::string> read_allow_list(const std::string& path) {
  std::map<std::string, std::string> allowed;
  if (path.empty()) return allowed;
  const std::string text = read_file(path, size_t{1} << 20);
  size_t line = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string entry = text.substr(at, end - at);
    at = end + 1;
    ++line;
    if (entry.empty() || entry[0] == '#') continue;
    if (entry.size() < 64 || entry.find_first_not_of("0123456789abcdef") < 64) {
      fail_input("{}:{}: '{}' is not a line of sha256sum (64 hex digits and a name)", path, line,
                 printable(entry, 80));
    }
    allowed[entry.substr(0, 64)] = entry.substr(std::min<size_t>(66, entry.size()));
  }
  return allowed;
}

// `sticky`: a directory whose entries only their owners may rename or remove.
std::string writable_by_others(const struct stat& st, bool sticky) {
  if ((st.st_mode & S_IWOTH) != 0 && !sticky) return "is writable by everyone";
  if ((st.st_mode & S_IWGRP) != 0 && st.st_gid != 0 && !sticky) return "is writable by its group";
  if (st.st_uid != 0 && st.st_uid != ::geteuid()) return "belongs to another user";
  return {};
}

// Why others than the owner could change what is in here, or empty. Sticky directories protect
// their entries.
std::string writable_by_others(const fs::path& path) {
  for (fs::path at = path; !at.empty(); at = at.parent_path()) {
    struct stat st {};
    if (::stat(at.c_str(), &st) != 0)
      return fmt::format("{}: {}", at.string(), std::strerror(errno));
    const bool sticky = S_ISDIR(st.st_mode) && (st.st_mode & S_ISVTX) != 0 && at != path;
    if (const std::string why = writable_by_others(st, sticky); !why.empty())
      return fmt::format("{} {}", at.string(), why);
    if (at == at.root_path()) break;
  }
  return {};
}

// The bytes of a plugin in a sealed memory file: what is hashed, screened and tried is what is
// mapped.
struct SealedFile {
  SealedFile() = default;
  SealedFile(SealedFile&& o) noexcept : fd(std::exchange(o.fd, -1)), map(std::move(o.map)) {}
  SealedFile& operator=(SealedFile&&) = delete;
  ~SealedFile() {
    if (fd >= 0) ::close(fd);
  }
  std::string path() const { return fmt::format("/proc/self/fd/{}", fd); }
  int fd = -1;
  std::shared_ptr<const MappedFile> map;
};

// The file's owner and mode are those of the descriptor that is read, whatever its name points to
// by then.
std::string read_checked(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) fail_plugin("cannot be opened: {}", std::strerror(errno));
  const std::unique_ptr<const int, void (*)(const int*)> closer(&fd,
                                                                [](const int* f) { ::close(*f); });
  struct stat st {};
  if (::fstat(fd, &st) != 0) fail_plugin("cannot be looked at: {}", std::strerror(errno));
  if (!S_ISREG(st.st_mode)) fail_plugin("is not a regular file");
  if ((st.st_mode & (S_ISUID | S_ISGID)) != 0) fail_plugin("has a set-user or set-group bit");
  if (const std::string why = writable_by_others(st, false); !why.empty())
    fail_plugin("{} {}", path, why);
  return read_file(fmt::format("/proc/self/fd/{}", fd), kMaxPluginBytes);
}

SealedFile seal(const std::string& path) {
  const std::string bytes = read_checked(path);
  SealedFile out;
  const std::string name = "pluq:" + fs::path(path).filename().string().substr(0, 200);
  out.fd = ::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (out.fd < 0) fail(ErrorKind::kFailed, "{}: memfd_create: {}", path, std::strerror(errno));
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(out.fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail(ErrorKind::kFailed, "{}: cannot copy: {}", path, std::strerror(errno));
    done += static_cast<size_t>(n);
  }
  ::fcntl(out.fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  out.map = MappedFile::open(out.path());
  return out;
}

pluq_status* register_format(pluq_registrar* registrar, const pluq_format* format) noexcept {
  try {
    if (format == nullptr || format->api == nullptr) {
      constexpr std::string_view text = "register_format got no table";
      return host_table().status_new(&host_table(), PLUQ_STATUS_INVALID, text.data(), text.size());
    }
    registrar->formats.push_back(*format);
    return nullptr;
  } catch (...) {
    return host_table().status_new(&host_table(), PLUQ_STATUS_OUT_OF_MEMORY, "out of memory", 13);
  }
}

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const size_t end = std::min(text.find(at), text.size());
    if (end > 0) out.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

template <size_t N>
std::string field(const char (&chars)[N]) {
  return printable(std::string_view(chars, ::strnlen(chars, N)));
}

// Loads for the life of the process and calls the entry. Returns the formats it registered.
std::vector<pluq_format> load(SealedFile& file, const ElfFacts& facts) {
  // Never destroyed, on purpose: plugins stay mapped until the process ends, and so does the
  // descriptor, since the dynamic loader knows libraries by path and a reused number would name the
  // wrong one.
  static auto& pinned = *new std::vector<std::unique_ptr<boost::dll::shared_library>>();
  boost::dll::shared_library* library =
      pinned.emplace_back(std::make_unique<boost::dll::shared_library>()).get();
  boost::system::error_code ec;
  library->load(file.path(), ec,
                boost::dll::load_mode::rtld_now | boost::dll::load_mode::rtld_local);
  if (!ec) file.fd = -1;  // stays open
  if (ec) fail_plugin("cannot be loaded: {}", printable(ec.message(), 300));
  if (!library->has(PLUQ_ENTRY_SYMBOL)) fail_plugin("does not export {}", PLUQ_ENTRY_SYMBOL);
  const pluq_plugin_entry_fn entry =
      &library->get<std::remove_pointer_t<pluq_plugin_entry_fn>>(PLUQ_ENTRY_SYMBOL);

  pluq_registrar registrar;
  pluq_handshake handshake{sizeof(pluq_handshake), PLUQ_ABI_MAJOR, PLUQ_ABI_MIN_MINOR,
                           PLUQ_ABI_MINOR,         &registrar,     &register_format};
  pluq_plugin_info info{};
  info.struct_size = sizeof info;
  pluq_status* status = nullptr;
  try {
    status = entry(&host_table(), &handshake, &info);
  } catch (...) {
    fail_plugin("its entry threw an exception");
  }
  if (status != nullptr) fail_plugin("its entry failed: {}", printable(take_text(status), 500));
  if (info.abi_major != PLUQ_ABI_MAJOR || info.min_minor > PLUQ_ABI_MINOR ||
      info.max_minor < info.min_minor ||
      (PLUQ_ABI_MAJOR == 0 && info.max_minor != PLUQ_ABI_MINOR)) {
    fail_plugin("its entry speaks plugin ABI {}.{} to {}.{}, this host {}.{}", info.abi_major,
                info.min_minor, info.abi_major, info.max_minor, PLUQ_ABI_MAJOR, PLUQ_ABI_MINOR);
  }
  if (info.manifest == nullptr ||
      std::memcmp(info.manifest, &facts.manifest, sizeof facts.manifest) != 0) {
    fail_plugin("its entry returns another manifest than its file carries");
  }
  if (registrar.formats.empty()) fail_plugin("registers no format");
  return registrar.formats;
}

// The same bytes are loaded once per process, whoever asks and under whatever name.
std::vector<pluq_format> load_once(SealedFile& file, const ElfFacts& facts,
                                   const std::string& hash) {
  static std::mutex& mutex = *new std::mutex;
  static auto& loaded = *new std::map<std::string, std::vector<pluq_format>>();
  const std::lock_guard lock(mutex);
  const auto it = loaded.find(hash);
  if (it != loaded.end()) return it->second;
  return loaded[hash] = load(file, facts);
}

// The plugins that were installed together with this program are as trusted as the program.
std::vector<fs::path> own_directories() {
  std::vector<fs::path> out;
  std::error_code ec;
  const fs::path program = fs::read_symlink("/proc/self/exe", ec);
  if (ec) return out;
  for (const char* lib : {"lib", "lib64", "lib/x86_64-linux-gnu"}) {
    const fs::path directory = program.parent_path().parent_path() / lib / "pluq/plugins";
    if (fs::is_directory(directory, ec)) out.push_back(fs::canonical(directory, ec));
  }
  return out;
}

bool is_own(const fs::path& real) {
  const std::vector<fs::path> own = own_directories();
  return std::find(own.begin(), own.end(), real.parent_path()) != own.end();
}

bool strict_by_environment() {
  const char* variable = std::getenv("PLUQ_PLUGIN_STRICT");
  return variable != nullptr && *variable != '\0' && std::string_view(variable) != "0";
}

// By these the dynamic loader brings code into this process, or into a plugin, that nobody looked
// at.
void refuse_loader_variables() {
  for (const char* name : {"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    fail_plugin("strict mode: {} is set ({}); unset it, or what it names is loaded unseen", name,
                printable(value, 200));
  }
}

}  // namespace

std::vector<std::string> plugin_search_path(const PluginOptions& options) {
  std::vector<std::string> out = options.directories;
  if (!options.search_defaults) return out;
  if (const char* variable = std::getenv("PLUQ_PLUGIN_PATH"); variable != nullptr) {
    for (const std::string& directory : split(variable, ':')) {
      if (directory[0] != '/') {
        fail_plugin(
            "PLUQ_PLUGIN_PATH: '{}' is not absolute; the current directory is never searched",
            printable(directory));
      }
      out.push_back(directory);
    }
  }
  for (const fs::path& directory : own_directories()) out.push_back(directory.string());
  return out;
}

PluginHost::PluginHost(const PluginOptions& options) {
  if (options.strict || strict_by_environment()) refuse_loader_variables();
  const std::map<std::string, std::string> allowed = read_allow_list(options.allow_list);
  for (const std::string& directory : plugin_search_path(options)) {
    std::error_code ec;
    const fs::path real = fs::canonical(directory, ec);
    if (ec || !fs::is_directory(real))
      fail_plugin("plugin directory '{}' does not exist", printable(directory));
    if (std::find(searched_.begin(), searched_.end(), real.string()) != searched_.end()) continue;
    if (const std::string why = writable_by_others(real); !why.empty()) {
      fail_plugin("plugin directory '{}' is not used: {}", real.string(), why);
    }
    searched_.push_back(real.string());
    std::vector<std::string> files;
    for (const fs::directory_entry& entry : fs::directory_iterator(real)) {
      if (entry.path().extension() == ".so") files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end());
    for (const std::string& file : files) consider(file, options, allowed);
  }
}

void PluginHost::consider(const std::string& path, const PluginOptions& options,
                          const std::map<std::string, std::string>& allowed) {
  PluginReport report;
  report.path = path;
  try {
    if (fs::is_symlink(path))
      fail_plugin("is a symbolic link to {}; put the file itself here",
                  fs::read_symlink(path).string());
    const fs::path real = fs::canonical(path);
    if (const std::string why = writable_by_others(real); !why.empty()) fail_plugin("{}", why);
    SealedFile file = seal(real.string());
    report.sha256 = sha256_hex(file.map->bytes());
    // Two names of one file, or the same file in two directories, are one plugin.
    for (const PluginReport& other : reports_) {
      if (other.sha256 == report.sha256 && other.loaded)
        fail_plugin("is the same file as {}", other.path);
    }
    if (!options.allow_list.empty() && !allowed.contains(report.sha256)) {
      fail_plugin("its SHA-256 {} is not in {}", report.sha256, options.allow_list);
    }
    const bool own = is_own(real);
    if ((options.strict || strict_by_environment()) && !own && !allowed.contains(report.sha256)) {
      fail_plugin(
          "strict mode: it is neither of this program's install tree nor, as {}, on an allow list",
          report.sha256);
    }
    const ElfFacts facts = read_elf(file.map->bytes());
    report.id = field(facts.manifest.id);
    report.version = field(facts.manifest.version);
    report.abi = fmt::format("{}.{}", facts.manifest.abi_major, facts.manifest.max_minor);
    report.formats = split(field(facts.manifest.formats), ',');
    if (const std::string why = refusal(facts); !why.empty()) fail_plugin("{}", why);
    if (!own && options.trial) {
      if (const std::string why = options.trial(file.path(), report.sha256, facts); !why.empty())
        fail_plugin("failed its trial: {}", why);
    }
    std::vector<std::unique_ptr<FormatHandle>> formats;
    std::vector<std::string> ids;
    for (const pluq_format& format : load_once(file, facts, report.sha256)) {
      formats.push_back(std::make_unique<FormatHandle>(format, path));
      ids.push_back(formats.back()->id());
    }
    if (ids != report.formats) {
      fail_plugin("registers formats {}, its manifest names {}", fmt::join(ids, ","),
                  fmt::join(report.formats, ","));
    }
    report.loaded = true;
    adopt(std::move(formats), &report, options);
  } catch (const Error& e) {
    if (report.loaded) throw;
    report.reason = e.what();
  } catch (const fs::filesystem_error& e) {
    report.reason = e.what();
  }
  log_line(LogLevel::kDebug, report.loaded
                                 ? fmt::format("plugin {}: loaded", path)
                                 : fmt::format("plugin {}: refused: {}", path, report.reason));
  reports_.push_back(std::move(report));
}

void PluginHost::adopt(std::vector<std::unique_ptr<FormatHandle>> formats, PluginReport* report,
                       const PluginOptions& options) {
  for (auto& format : formats) {
    const auto other = std::find_if(formats_.begin(), formats_.end(),
                                    [&](const auto& f) { return f->id() == format->id(); });
    if (other == formats_.end()) {
      formats_.push_back(std::move(format));
      continue;
    }
    const auto winner = options.prefer.find(format->id());
    if (winner == options.prefer.end()) {
      fail_plugin(
          "format '{}' is in two plugins, {} and {}; name the one to use under plugins.prefer",
          format->id(), (*other)->plugin_path(), report->path);
    }
    std::error_code ec;
    if (fs::equivalent(winner->second, report->path, ec)) *other = std::move(format);
  }
}

const FormatHandle* PluginHost::find(std::string_view id) const {
  for (const auto& format : formats_) {
    if (format->id() == id) return format.get();
  }
  return nullptr;
}

const FormatHandle& PluginHost::at(std::string_view id) const {
  if (const FormatHandle* format = find(id)) return *format;
  std::vector<std::string> ids;
  for (const auto& format : formats_) ids.push_back(format->id());
  std::string refused;
  for (const PluginReport& r : reports_) {
    if (!r.loaded) refused += fmt::format("; {} was refused: {}", r.path, r.reason);
  }
  fail_plugin("no plugin has format '{}'; there are {}; searched {}{}", printable(id),
              ids.empty() ? "none" : fmt::format("{}", fmt::join(ids, ", ")),
              searched_.empty() ? "no directory" : fmt::format("{}", fmt::join(searched_, ", ")),
              refused);
}

}  // namespace pluq
