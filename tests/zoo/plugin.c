/* SPDX-License-Identifier: Apache-2.0
 * A plugin in plain C11, compiled once as it should be and once per fault (ZOO_<FAULT>). Its format
 * "zoo" claims nothing by itself; named by a layer rule it serves layers with a tensor "weight" as
 * rows of zeros. */
#include <stdint.h>
#include <string.h>

#include "pluq/abi.h"

#ifndef ZOO_FORMAT
#define ZOO_FORMAT "zoo"
#endif

#if defined(ZOO_WRONG_MAGIC)
#define MAGIC "NOTPLUQ"
#else
#define MAGIC PLUQ_MANIFEST_MAGIC
#endif
#if defined(ZOO_WRONG_MAJOR)
#define MAJOR 7u
#else
#define MAJOR PLUQ_ABI_MAJOR
#endif
#if defined(ZOO_WRONG_MINOR)
#define MINOR (PLUQ_ABI_MINOR + 1)
#else
#define MINOR PLUQ_ABI_MINOR
#endif
#if defined(ZOO_RANGE_UPSIDE_DOWN)
#define MIN_MINOR (MINOR + 1)
#else
#define MIN_MINOR MINOR
#endif
#if defined(ZOO_MANIFEST_LIES)
#define NOTE_FORMATS "something_else"
#else
#define NOTE_FORMATS ZOO_FORMAT
#endif

#if defined(ZOO_TWIN) /* the same format in another file */
#define VERSION "2.0.0"
#else
#define VERSION "1.0.0"
#endif

#if !defined(ZOO_NO_NOTE)
struct note {
  uint32_t name_size, desc_size, type;
  char name[8];
  pluq_manifest manifest;
};
static const struct note note
    __attribute__((section(".note.pluq"), used, aligned(4))) = {5,
                                                                sizeof(pluq_manifest),
                                                                PLUQ_NOTE_TYPE,
                                                                PLUQ_NOTE_NAME,
                                                                {MAGIC,
                                                                 sizeof(pluq_manifest),
                                                                 MAJOR,
                                                                 MIN_MINOR,
                                                                 MINOR,
                                                                 62,
                                                                 0,
                                                                 {0},
                                                                 "test.zoo",
                                                                 VERSION,
                                                                 NOTE_FORMATS}};
#define MANIFEST &note.manifest
#else
#define MANIFEST NULL
#endif

#if defined(ZOO_CONSTRUCTOR_DROPS_A_FILE)
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void drop(void) {
  const char *path = getenv("ZOO_MARKER");
  FILE *f = path != NULL ? fopen(path, "w") : NULL;
  if (f != NULL) fclose(f);
}
#endif

#if defined(ZOO_TEXT_RELOCATIONS) /* an address among the instructions */
__asm__(".text\n.quad zoo_place\n.data\nzoo_place: .byte 0\n");
#endif

static const pluq_host *host;

static pluq_str text(const char *s) {
  pluq_str out = {s, strlen(s)};
  return out;
}
static pluq_status *fail(int32_t code, const char *s) {
  return host->status_new(host, code, s, strlen(s));
}

static void describe(void *self, pluq_format_info *info) {
  (void)self;
  info->id = text(ZOO_FORMAT);
  info->summary = text("a test format");
}
static pluq_status *probe(void *self, const pluq_probe_request *request,
                          pluq_probe_result *result) {
  (void)self;
  (void)request;
  result->score = 0;
  return NULL;
}
static pluq_status *create_config(void *self, const pluq_config_request *request,
                                  pluq_config *config) {
  (void)self;
  (void)request;
  (void)config;
  return fail(PLUQ_STATUS_INVALID, "the zoo has no config");
}
static const void *extension(void *self, const char *id) {
  (void)self;
  (void)id;
  return NULL;
}

static const pluq_format_api api = {
#if defined(ZOO_SHORT_STRUCT)
    16,
#else
    sizeof(pluq_format_api),
#endif
    0,
    describe,
#if defined(ZOO_NULL_SLOT)
    NULL,
#else
    probe,
#endif
    create_config,
    extension};

#if defined(ZOO_EXTRA_EXPORT) /* named so that the SDK's version script lets it through */
__attribute__((visibility("default"))) int pluq_plugin_entry_vx = 1;
#endif

#if defined(ZOO_NO_ENTRY)
#define ENTRY pluq_plugin_entry_v99
#else
#define ENTRY PLUQ_PLUGIN_ENTRY
#endif
__attribute__((visibility("default"))) pluq_status *ENTRY(const pluq_host *from,
                                                          const pluq_handshake *handshake,
                                                          pluq_plugin_info *info);
pluq_status *ENTRY(const pluq_host *from, const pluq_handshake *handshake, pluq_plugin_info *info) {
  pluq_format format = {&api, NULL};
  host = from;
#if defined(ZOO_ENTRY_FAILS)
  return fail(PLUQ_STATUS_UNSUPPORTED, "not on a Monday");
#endif
  info->abi_major = MAJOR;
  info->min_minor = MINOR;
  info->max_minor = MINOR;
#if defined(ZOO_OTHER_VERSION_AT_RUN_TIME)
  info->abi_major = 7;
#endif
  info->manifest = MANIFEST;
#if defined(ZOO_OTHER_MANIFEST)
  static pluq_manifest other;
  other = note.manifest;
  other.version[0] = '9';
  info->manifest = &other;
#endif
#if !defined(ZOO_REGISTERS_NOTHING)
  return handshake->register_format(handshake->registrar, &format);
#else
  (void)format;
  (void)handshake;
  return NULL;
#endif
}
