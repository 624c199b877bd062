// SPDX-License-Identifier: Apache-2.0
#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace pluq {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

int open_regular(const std::string& path, struct stat* st) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail_input("{}: cannot open: {}", path, std::strerror(errno));
  if (::fstat(fd, st) != 0 || !S_ISREG(st->st_mode)) {
    ::close(fd);
    fail_input("{}: not a regular file{}", path, S_ISDIR(st->st_mode) ? ", but a directory" : "");
  }
  return fd;
}

}  // namespace

std::string read_file(const std::string& path, size_t max_bytes) {
  struct stat st {};
  Descriptor fd(open_regular(path, &st));
  const auto size = static_cast<uint64_t>(st.st_size);
  if (size > max_bytes) fail_input("{}: {} bytes, at most {} are accepted", path, size, max_bytes);
  std::string text(size, '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::read(fd.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_input("{}: cannot read: {}", path, std::strerror(errno));
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  text.resize(done);
  return text;
}

void write_file_durably(const std::string& path, std::string_view data) {
  const std::string temporary = path + ".partial";
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) fail(ErrorKind::kFailed, "{}: cannot create: {}", temporary, std::strerror(errno));
  Descriptor file(fd);
  const auto give_up = [&](const char* what) {
    const int error = errno;
    ::unlink(temporary.c_str());
    fail(ErrorKind::kFailed, "{}: cannot {}: {}", path, what, std::strerror(error));
  };
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t n = ::write(fd, data.data() + done, data.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) give_up("write");
    done += static_cast<size_t>(n);
  }
  if (::fsync(fd) != 0) give_up("sync");
  if (::close(file.release()) != 0) give_up("close");
  if (::rename(temporary.c_str(), path.c_str()) != 0) give_up("rename");
  const size_t slash = path.rfind('/');
  sync_directory(slash == std::string::npos ? "." : path.substr(0, slash + 1));
}

void sync_directory(const std::string& directory) {
  const Descriptor folder(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.get() < 0 || ::fsync(folder.get()) == 0 || errno == EINVAL) return;
  fail(ErrorKind::kFailed, "{}: cannot sync: {}", directory, std::strerror(errno));
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  struct stat st {};
  Descriptor fd(open_regular(path, &st));
  std::shared_ptr<MappedFile> map(new MappedFile());
  map->path_ = path;
  map->size_ = static_cast<size_t>(st.st_size);
  if (map->size_ > 0) {
    void* data = ::mmap(nullptr, map->size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (data == MAP_FAILED) {
      map->size_ = 0;
      fail(ErrorKind::kFailed, "{}: cannot map: {}", path, std::strerror(errno));
    }
    map->data_ = static_cast<const std::byte*>(data);
  }
  return map;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace pluq
