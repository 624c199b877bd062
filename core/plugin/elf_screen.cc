// SPDX-License-Identifier: Apache-2.0
#include "plugin/elf_screen.h"

#include <elf.h>
#include <gnu/libc-version.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace pluq {
namespace {

constexpr std::string_view kAllowedNeeded[] = {
    "libc.so.6",       "libm.so.6",    "ld-linux-x86-64.so.2", "libpthread.so.0",
    "libdl.so.2",      "librt.so.1",   "libgcc_s.so.1",        "libstdc++.so.6",
    "linux-vdso.so.1", "libasan.so.8", "libubsan.so.1",        "libtsan.so.2"};

class Image {
 public:
  explicit Image(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <class T>
  T at(uint64_t offset) const {
    need(offset, sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }
  std::span<const std::byte> range(uint64_t offset, uint64_t size) const {
    need(offset, size);
    return bytes_.subspan(offset, size);
  }
  std::string text(const Elf64_Shdr& strings, uint64_t offset) const {
    if (offset >= strings.sh_size) fail_plugin("a string lies outside its table");
    const auto bytes = range(strings.sh_offset, strings.sh_size).subspan(offset);
    const auto* chars = reinterpret_cast<const char*>(bytes.data());
    return std::string(chars, ::strnlen(chars, bytes.size()));
  }

 private:
  void need(uint64_t offset, uint64_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) {
      fail_plugin("is truncated: bytes {} to {} + {} of {}", offset, offset, size, bytes_.size());
    }
  }
  std::span<const std::byte> bytes_;
};

bool find_manifest(const Image& image, const Elf64_Shdr& section, pluq_manifest* manifest) {
  uint64_t at = 0;
  const auto align = [](uint64_t n) { return (n + 3) / 4 * 4; };
  while (section.sh_size - at >= sizeof(Elf64_Nhdr)) {
    const auto header = image.at<Elf64_Nhdr>(section.sh_offset + at);
    const uint64_t name = at + sizeof header, desc = name + align(header.n_namesz);
    if (desc > section.sh_size || align(header.n_descsz) > section.sh_size - desc) return false;
    if (header.n_type == PLUQ_NOTE_TYPE && header.n_namesz == sizeof PLUQ_NOTE_NAME &&
        std::memcmp(image.range(section.sh_offset + name, sizeof PLUQ_NOTE_NAME).data(),
                    PLUQ_NOTE_NAME, sizeof PLUQ_NOTE_NAME) == 0) {
      const auto bytes = image.range(section.sh_offset + desc, header.n_descsz);
      std::memcpy(manifest, bytes.data(), std::min(bytes.size(), sizeof *manifest));
      return true;
    }
    at = desc + align(header.n_descsz);
  }
  return false;
}

std::pair<int, int> version_of(std::string_view text) {
  int major = 0, minor = 0;
  const auto [p, ec] = std::from_chars(text.data(), text.data() + text.size(), major);
  if (ec == std::errc() && p != text.data() + text.size())
    std::from_chars(p + 1, text.data() + text.size(), minor);
  return {major, minor};
}

void read_needs(const Image& image, const Elf64_Shdr& section, const Elf64_Shdr& strings,
                ElfFacts* facts) {
  uint64_t at = 0;
  for (uint32_t i = 0; i < section.sh_info; ++i) {
    const auto need = image.at<Elf64_Verneed>(section.sh_offset + at);
    uint64_t aux_at = at + need.vn_aux;
    for (uint32_t j = 0; j < need.vn_cnt; ++j) {
      const auto aux = image.at<Elf64_Vernaux>(section.sh_offset + aux_at);
      const std::string name = image.text(strings, aux.vna_name);
      if (name.rfind("GLIBC_2.", 0) == 0 && version_of(name.substr(6)) > version_of(facts->glibc)) {
        facts->glibc = name.substr(6);
      }
      if (aux.vna_next == 0) break;
      aux_at += aux.vna_next;
    }
    if (need.vn_next == 0) break;
    at += need.vn_next;
  }
}

// The dynamic loader goes by the segments, this reader by the sections: they must speak of the same
// bytes, or the loader would see what was not looked at here.
void check_sections(const Image& image, const std::vector<Elf64_Shdr>& sections,
                    const std::vector<Elf64_Phdr>& segments) {
  const auto differ = [](const char* what) {
    fail_plugin("has section headers that tell the dynamic loader's {} otherwise than its segments",
                what);
  };
  const auto only = [&](uint32_t type) -> const Elf64_Shdr* {
    const Elf64_Shdr* found = nullptr;
    for (const Elf64_Shdr& s : sections) {
      if (s.sh_type != type) continue;
      if (found != nullptr) differ("tables");
      found = &s;
    }
    return found;
  };
  const Elf64_Phdr* dynamic = nullptr;
  for (const Elf64_Phdr& s : segments) {
    if (s.p_type != PT_DYNAMIC) continue;
    if (dynamic != nullptr) differ("dynamic table");
    dynamic = &s;
  }
  const Elf64_Shdr* section = only(SHT_DYNAMIC);
  if (dynamic == nullptr || section == nullptr || dynamic->p_offset != section->sh_offset ||
      dynamic->p_vaddr != section->sh_addr || dynamic->p_filesz != section->sh_size) {
    differ("dynamic table");
  }
  // Bytes that are mapped where the tables are must be those of the sections' offsets.
  const auto mapped = [&](const Elf64_Shdr& s) {
    for (const Elf64_Phdr& p : segments) {
      if (p.p_type == PT_LOAD && s.sh_addr >= p.p_vaddr && s.sh_addr - p.p_vaddr < p.p_filesz)
        return p.p_offset + (s.sh_addr - p.p_vaddr) == s.sh_offset;
    }
    return false;
  };
  if (!mapped(*section)) differ("dynamic table");
  const Elf64_Shdr *symbols = only(SHT_DYNSYM), *needs = only(SHT_GNU_verneed);
  for (uint64_t at = 0; at + sizeof(Elf64_Dyn) <= section->sh_size; at += sizeof(Elf64_Dyn)) {
    const auto entry = image.at<Elf64_Dyn>(section->sh_offset + at);
    if (entry.d_tag == DT_NULL) break;
    const auto same = [&](const Elf64_Shdr* s, const char* what) {
      if (s == nullptr || s->sh_addr != entry.d_un.d_ptr || !mapped(*s)) differ(what);
    };
    const auto strings = [&]() -> const Elf64_Shdr* {
      return section->sh_link < sections.size() ? &sections[section->sh_link] : nullptr;
    };
    if (entry.d_tag == DT_SYMTAB) same(symbols, "symbols");
    if (entry.d_tag == DT_STRTAB) same(strings(), "strings");
    if (entry.d_tag == DT_VERNEED) same(needs, "version needs");
  }
}

}  // namespace

ElfFacts read_elf(std::span<const std::byte> bytes) {
  const Image image(bytes);
  if (bytes.size() < sizeof(Elf64_Ehdr) || std::memcmp(bytes.data(), ELFMAG, SELFMAG) != 0) {
    fail_plugin("is not an ELF file");
  }
  const auto header = image.at<Elf64_Ehdr>(0);
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != EM_X86_64 || header.e_type != ET_DYN) {
    fail_plugin("is not an x86-64 shared object (class {}, machine {}, type {})",
                header.e_ident[EI_CLASS], header.e_machine, header.e_type);
  }
  if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_phentsize != sizeof(Elf64_Phdr)) {
    fail_plugin("has section or program headers of an unknown size");
  }
  ElfFacts facts;
  std::vector<Elf64_Shdr> sections;
  for (uint64_t i = 0; i < header.e_shnum; ++i) {
    sections.push_back(image.at<Elf64_Shdr>(header.e_shoff + i * sizeof(Elf64_Shdr)));
  }
  bool stack_seen = false;
  std::vector<Elf64_Phdr> segments;
  for (uint64_t i = 0; i < header.e_phnum; ++i) {
    segments.push_back(image.at<Elf64_Phdr>(header.e_phoff + i * sizeof(Elf64_Phdr)));
    const Elf64_Phdr& segment = segments.back();
    if (segment.p_type != PT_GNU_STACK) continue;
    stack_seen = true;
    facts.executable_stack = (segment.p_flags & PF_X) != 0;
  }
  if (!stack_seen) facts.executable_stack = true;
  check_sections(image, sections, segments);

  const auto linked = [&](const Elf64_Shdr& s) -> const Elf64_Shdr& {
    if (s.sh_link >= sections.size())
      fail_plugin("has a section that links outside the section table");
    return sections[s.sh_link];
  };
  bool manifest = false;
  for (const Elf64_Shdr& s : sections) {
    if (s.sh_type == SHT_NOTE) {
      image.range(s.sh_offset, s.sh_size);
      manifest = manifest || find_manifest(image, s, &facts.manifest);
    } else if (s.sh_type == SHT_DYNSYM) {
      for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= s.sh_size; at += sizeof(Elf64_Sym)) {
        const auto symbol = image.at<Elf64_Sym>(s.sh_offset + at);
        if (symbol.st_shndx != SHN_UNDEF && symbol.st_name != 0 &&
            ELF64_ST_BIND(symbol.st_info) != STB_LOCAL) {
          facts.exports.push_back(image.text(linked(s), symbol.st_name));
        }
      }
    } else if (s.sh_type == SHT_DYNAMIC) {
      for (uint64_t at = 0; at + sizeof(Elf64_Dyn) <= s.sh_size; at += sizeof(Elf64_Dyn)) {
        const auto entry = image.at<Elf64_Dyn>(s.sh_offset + at);
        if (entry.d_tag == DT_NULL) break;
        if (entry.d_tag == DT_NEEDED)
          facts.needed.push_back(image.text(linked(s), entry.d_un.d_val));
        facts.has_runpath |= entry.d_tag == DT_RPATH || entry.d_tag == DT_RUNPATH;
        facts.loads_others |= entry.d_tag == DT_FILTER || entry.d_tag == DT_AUXILIARY ||
                              entry.d_tag == DT_AUDIT || entry.d_tag == DT_DEPAUDIT ||
                              entry.d_tag == DT_CONFIG;
        facts.text_relocations |= entry.d_tag == DT_TEXTREL ||
                                  (entry.d_tag == DT_FLAGS && (entry.d_un.d_val & DF_TEXTREL) != 0);
      }
    } else if (s.sh_type == SHT_GNU_verneed) {
      read_needs(image, s, linked(s), &facts);
    }
  }
  if (!manifest)
    fail_plugin(
        "has no pluq manifest (note section .note.pluq); it was not built with the pluq SDK");
  return facts;
}

std::string refusal(const ElfFacts& facts) {
  const pluq_manifest& m = facts.manifest;
  if (std::memcmp(m.magic, PLUQ_MANIFEST_MAGIC, sizeof m.magic) != 0)
    return "the manifest has a wrong magic";
  if (m.abi_major != PLUQ_ABI_MAJOR || m.min_minor > m.max_minor || m.min_minor > PLUQ_ABI_MINOR ||
      (PLUQ_ABI_MAJOR == 0 && m.max_minor != PLUQ_ABI_MINOR)) {
    return fmt::format(
        "built for plugin ABI {}.{} to {}.{}, this host speaks {}.{}; rebuild it against this SDK",
        m.abi_major, m.min_minor, m.abi_major, m.max_minor, PLUQ_ABI_MAJOR, PLUQ_ABI_MINOR);
  }
  if (m.elf_machine != EM_X86_64)
    return fmt::format("the manifest names machine {}, this is x86-64 (62)", m.elf_machine);
  if (std::find(facts.exports.begin(), facts.exports.end(), PLUQ_ENTRY_SYMBOL) ==
      facts.exports.end()) {
    return "does not export " PLUQ_ENTRY_SYMBOL;
  }
  if (facts.exports.size() != 1) {
    return fmt::format(
        "exports {} symbols, expected only {}; link it with the SDK's version script",
        facts.exports.size(), PLUQ_ENTRY_SYMBOL);
  }
  if (facts.has_runpath) return "has a RUNPATH or RPATH, which would let it load other libraries";
  if (facts.loads_others) return "names a filter, auxiliary or audit library to be loaded with it";
  if (facts.executable_stack) return "asks for an executable stack";
  if (facts.text_relocations) return "has text relocations";
  for (const std::string& name : facts.needed) {
    if (std::find(std::begin(kAllowedNeeded), std::end(kAllowedNeeded), name) ==
        std::end(kAllowedNeeded)) {
      return fmt::format("needs library '{}'; plugins may need only the C and C++ runtime",
                         printable(name));
    }
  }
  if (version_of(facts.glibc) > version_of(::gnu_get_libc_version())) {
    return fmt::format("needs glibc {}, this machine has {}", facts.glibc,
                       ::gnu_get_libc_version());
  }
  return {};
}

}  // namespace pluq
