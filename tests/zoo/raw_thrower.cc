// SPDX-License-Identifier: Apache-2.0
// An entry without the SDK's guard: an exception leaves it.
#include <stdexcept>

#include "pluq/abi.h"

namespace {
struct Note {
  uint32_t name_size, desc_size, type;
  char name[8];
  pluq_manifest manifest;
};
__attribute__((section(".note.pluq"), used, aligned(4))) constexpr Note note = {
    5,
    sizeof(pluq_manifest),
    PLUQ_NOTE_TYPE,
    PLUQ_NOTE_NAME,
    {PLUQ_MANIFEST_MAGIC,
     sizeof(pluq_manifest),
     PLUQ_ABI_MAJOR,
     PLUQ_ABI_MINOR,
     PLUQ_ABI_MINOR,
     62,
     0,
     {0},
     "test.raw",
     "1.0.0",
     "raw"}};
}  // namespace

extern "C" __attribute__((visibility("default"))) pluq_status* PLUQ_PLUGIN_ENTRY(
    const pluq_host*, const pluq_handshake* handshake, pluq_plugin_info* info) {
  info->manifest = &note.manifest;
#if defined(ZOO_THROW_INT)
  if (handshake != nullptr) throw 42;
#else
  if (handshake != nullptr) throw std::runtime_error("the entry threw");
#endif
  return nullptr;
}
