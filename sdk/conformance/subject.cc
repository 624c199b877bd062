// SPDX-License-Identifier: Apache-2.0
#include "conformance/subject.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

namespace pluq::conformance {

Opened open_subject(const Subject& subject) {
  step("dlopen");
  Opened out;
  out.handle = ::dlopen(subject.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  expect(out.handle != nullptr, "cannot be loaded: {}", out.handle == nullptr ? ::dlerror() : "");
  out.entry = reinterpret_cast<pluq_plugin_entry_fn>(::dlsym(out.handle, PLUQ_ENTRY_SYMBOL));
  expect(out.entry != nullptr, "does not export {}", PLUQ_ENTRY_SYMBOL);
  link_map* map = nullptr;
  ::dlinfo(out.handle, RTLD_DI_LINKMAP, &map);
  out.map = map;
  return out;
}

Answer call_entry(const Opened& opened, const pluq_host& host, uint32_t major, uint32_t min_minor,
                  uint32_t max_minor) {
  Answer answer;
  pluq_handshake handshake{};
  handshake.struct_size = sizeof handshake;
  handshake.abi_major = major;
  handshake.min_minor = min_minor;
  handshake.max_minor = max_minor;
  handshake.registrar = reinterpret_cast<pluq_registrar*>(&answer);
  handshake.register_format = [](pluq_registrar* registrar,
                                 const pluq_format* format) -> pluq_status* {
    auto* a = reinterpret_cast<Answer*>(registrar);
    if (a->refuse_register || format == nullptr) {
      return host_table().status_new(&host_table(), PLUQ_STATUS_INTERNAL, "refused by the test",
                                     19);
    }
    a->formats.push_back(*format);
    return nullptr;
  };
  answer.info.struct_size = sizeof answer.info;
  pluq_status* status = opened.entry(&host, &handshake, &answer.info);
  if (status != nullptr) {
    answer.code = host_table().status_code(status);
    answer.error = take_text(status);
    if (answer.error.empty()) answer.error = "(no text)";
  }
  return answer;
}

Ready ready(const Subject& subject) {
  Ready out;
  out.opened = open_subject(subject);
  step("the entry");
  Answer answer = call_entry(out.opened);
  expect(answer.error.empty(), "its entry failed: {}", answer.error);
  out.raw = answer.formats;
  for (const pluq_format& f : out.raw)
    out.formats.push_back(std::make_unique<FormatHandle>(f, subject.path));
  expect(!out.formats.empty(), "registers no format");
  return out;
}

void ok(pluq_status* status, const std::string& what) {
  if (status != nullptr) throw Failure(what + ": " + take_text(status));
}

// ------------------------------------------------------------------ the import table

namespace {

std::atomic<long> allocations, frees, threads, maps, countdown;

bool refuse_now() {
  allocations.fetch_add(1, std::memory_order_relaxed);
  long left = countdown.load(std::memory_order_relaxed);
  return left > 0 && countdown.fetch_sub(1) == 1;
}
void* watched_malloc(size_t n) { return refuse_now() ? nullptr : std::malloc(n); }
void* watched_calloc(size_t a, size_t b) { return refuse_now() ? nullptr : std::calloc(a, b); }
void* watched_realloc(void* p, size_t n) { return refuse_now() ? nullptr : std::realloc(p, n); }
void* watched_aligned_alloc(size_t a, size_t n) {
  return refuse_now() ? nullptr : std::aligned_alloc(a, n);
}
int watched_posix_memalign(void** p, size_t a, size_t n) {
  return refuse_now() ? 12 : ::posix_memalign(p, a, n);
}
void* watched_new(size_t n) {
  void* p = refuse_now() ? nullptr : std::malloc(n == 0 ? 1 : n);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
void watched_free(void* p) {
  frees.fetch_add(1, std::memory_order_relaxed);
  std::free(p);
}
int watched_pthread_create(pthread_t* t, const pthread_attr_t* a, void* (*f)(void*), void* x) {
  threads.fetch_add(1);
  return ::pthread_create(t, a, f, x);
}
void* watched_mmap(void* a, size_t n, int p, int f, int d, off_t o) {
  maps.fetch_add(1);
  return ::mmap(a, n, p, f, d, o);
}

struct Redirect {
  const char* name;
  void* to;
};
const Redirect kRedirects[] = {{"malloc", reinterpret_cast<void*>(&watched_malloc)},
                               {"calloc", reinterpret_cast<void*>(&watched_calloc)},
                               {"realloc", reinterpret_cast<void*>(&watched_realloc)},
                               {"aligned_alloc", reinterpret_cast<void*>(&watched_aligned_alloc)},
                               {"posix_memalign", reinterpret_cast<void*>(&watched_posix_memalign)},
                               {"_Znwm", reinterpret_cast<void*>(&watched_new)},
                               {"_Znam", reinterpret_cast<void*>(&watched_new)},
                               {"_ZdlPv", reinterpret_cast<void*>(&watched_free)},
                               {"_ZdlPvm", reinterpret_cast<void*>(&watched_free)},
                               {"_ZdaPv", reinterpret_cast<void*>(&watched_free)},
                               {"_ZdaPvm", reinterpret_cast<void*>(&watched_free)},
                               {"free", reinterpret_cast<void*>(&watched_free)},
                               {"pthread_create", reinterpret_cast<void*>(&watched_pthread_create)},
                               {"mmap", reinterpret_cast<void*>(&watched_mmap)}};

void redirect(const link_map& map, const ElfW(Sym) * symbols, const char* strings,
              const ElfW(Rela) & r) {
  const auto type = ELF64_R_TYPE(r.r_info);
  if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT) return;
  const char* name = strings + symbols[ELF64_R_SYM(r.r_info)].st_name;
  for (const Redirect& known : kRedirects) {
    if (std::strcmp(known.name, name) != 0) continue;
    auto** slot = reinterpret_cast<void**>(map.l_addr + r.r_offset);
    const auto page = reinterpret_cast<uintptr_t>(slot) & ~uintptr_t{4095};
    if (::mprotect(reinterpret_cast<void*>(page), 8192, PROT_READ | PROT_WRITE) != 0 &&
        ::mprotect(reinterpret_cast<void*>(page), 4096, PROT_READ | PROT_WRITE) != 0) {
      throw Skip("the import table of the plugin cannot be written");
    }
    *slot = known.to;
  }
}

}  // namespace

void watch_calls(const Opened& opened) {
  const ElfW(Sym)* symbols = nullptr;
  const char* strings = nullptr;
  const ElfW(Rela) * tables[2] = {};
  size_t bytes[2] = {};
  for (const ElfW(Dyn)* d = opened.map->l_ld; d->d_tag != DT_NULL; ++d) {
    switch (d->d_tag) {  // glibc has relocated these pointers
      case DT_SYMTAB:
        symbols = reinterpret_cast<const ElfW(Sym)*>(d->d_un.d_ptr);
        break;
      case DT_STRTAB:
        strings = reinterpret_cast<const char*>(d->d_un.d_ptr);
        break;
      case DT_JMPREL:
        tables[0] = reinterpret_cast<const ElfW(Rela)*>(d->d_un.d_ptr);
        break;
      case DT_PLTRELSZ:
        bytes[0] = d->d_un.d_val;
        break;
      case DT_RELA:
        tables[1] = reinterpret_cast<const ElfW(Rela)*>(d->d_un.d_ptr);
        break;
      case DT_RELASZ:
        bytes[1] = d->d_un.d_val;
        break;
      default:
        break;
    }
  }
  if (symbols == nullptr || strings == nullptr)
    throw Skip("the plugin has no symbol table to look into");
  for (int t = 0; t < 2; ++t) {
    for (size_t i = 0; tables[t] != nullptr && i < bytes[t] / sizeof(ElfW(Rela)); ++i) {
      redirect(*opened.map, symbols, strings, tables[t][i]);
    }
  }
}

Calls calls_so_far() { return {allocations, frees, threads, maps}; }

bool fail_allocation(long n) { return countdown.exchange(n) <= 0; }

}  // namespace pluq::conformance
