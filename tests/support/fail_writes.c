/* SPDX-License-Identifier: Apache-2.0
 * LD_PRELOAD: one call that writes fails, as on a full or broken disk. Only files below a directory
 * count, so that terminals, pipes and caches are left alone.
 *   FAIL_UNDER=DIR     files below DIR
 *   FAIL_CALL=write    write and pwrite; or open (for writing), fsync, rename, close
 *   FAIL_NTH=3         the third such call, and every later one of that kind; 0: none
 *   FAIL_ERRNO=28      with this errno; FAIL_SHORT=1: half of the bytes are written before
 *   FAIL_COUNT=FILE    the number of such calls is written there at the end */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_long calls;

static int is_under(const char *path) {
  const char *root = getenv("FAIL_UNDER");
  return root != NULL && strncmp(path, root, strlen(root)) == 0;
}

static int descriptor_is_under(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, sizeof path - 1);
  if (n <= 0) return 0;
  path[n] = '\0';
  return is_under(path);
}

/* Whether this call is one that must fail; sets errno. */
static int fails(const char *kind) {
  const char *want = getenv("FAIL_CALL"), *nth = getenv("FAIL_NTH");
  if (want == NULL || strcmp(want, kind) != 0) return 0;
  const long n = atomic_fetch_add(&calls, 1) + 1, from = nth == NULL ? 0 : atol(nth);
  if (from == 0 || n < from) return 0;
  const char *number = getenv("FAIL_ERRNO");
  errno = number == NULL ? EIO : atoi(number);
  return 1;
}

/* Of the call that fails first only, so that writing goes on and then fails. */
static size_t short_by(size_t n) {
  static atomic_int once;
  const char *text = getenv("FAIL_SHORT");
  return text != NULL && text[0] == '1' && n > 1 && atomic_exchange(&once, 1) == 0 ? n / 2 : 0;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t n) {
  if (descriptor_is_under(fd) && fails("write")) {
    const int error = errno;
    const size_t part = short_by(n);
    if (part > 0) return NEXT(write)(fd, data, part);
    errno = error;
    return -1;
  }
  return NEXT(write)(fd, data, n);
}
ssize_t pwrite(int fd, const void *data, size_t n, off_t at) {
  if (descriptor_is_under(fd) && fails("write")) {
    const int error = errno;
    const size_t part = short_by(n);
    if (part > 0) return NEXT(pwrite)(fd, data, part, at);
    errno = error;
    return -1;
  }
  return NEXT(pwrite)(fd, data, n, at);
}
ssize_t pwrite64(int fd, const void *data, size_t n, off_t at) { return pwrite(fd, data, n, at); }

static int open_any(const char *path, int flags, unsigned mode) {
  if ((flags & O_ACCMODE) != O_RDONLY && is_under(path) && fails("open")) return -1;
  return NEXT(open)(path, flags, mode);
}
int open(const char *path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  const unsigned mode = va_arg(args, unsigned);
  va_end(args);
  return open_any(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  va_list args;
  va_start(args, flags);
  const unsigned mode = va_arg(args, unsigned);
  va_end(args);
  return open_any(path, flags, mode);
}
int fsync(int fd) { return descriptor_is_under(fd) && fails("fsync") ? -1 : NEXT(fsync)(fd); }
int close(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && descriptor_is_under(fd) && fails("close")) {
    const int error = errno;
    NEXT(close)(fd);
    errno = error;
    return -1;
  }
  return NEXT(close)(fd);
}
int rename(const char *from, const char *to) {
  return is_under(to) && fails("rename") ? -1 : NEXT(rename)(from, to);
}

__attribute__((destructor)) static void report(void) {
  const char *path = getenv("FAIL_COUNT");
  FILE *file = path == NULL ? NULL : fopen(path, "w");
  if (file == NULL) return;
  fprintf(file, "%ld\n", atomic_load(&calls));
  fclose(file);
}
