/* SPDX-License-Identifier: Apache-2.0
 * A plugin as the SDK of ABI 1.99 would build it: the C11 example behind tables that are longer
 * than today's, with garbage where a later host would find slots, options of a larger stride, and
 * extensions that nobody knows yet. */
#include "pluq/abi.h"
#undef PLUQ_PLUGIN_ENTRY
#undef PLUQ_ABI_MINOR
#define PLUQ_ABI_MINOR 99u /* it says 1.0 to 1.99 */
#define PLUQ_PLUGIN_ENTRY todays_entry
#include "c11_rowwise/c11_rowwise.c"

#define LATER 8
static struct {
  pluq_format_api now;
  uint64_t later[LATER];
} future_format;
static struct {
  pluq_config_api now;
  uint64_t later[LATER];
} future_config;
static struct {
  pluq_method_api now;
  uint64_t later[LATER];
} future_method;
static struct {
  pluq_quantizer now;
  uint64_t later[LATER];
} future_quantizer;
static struct {
  pluq_option now;
  uint64_t later[3];
} options[2];

static pluq_status *future_get_quant_method(void *self, const pluq_layer_desc *layer,
                                            const pluq_device *device, pluq_method_choice *choice) {
  pluq_status *status = get_quant_method(self, layer, device, choice);
  if (status == NULL && choice->verdict == PLUQ_VERDICT_USE)
    choice->method.api = &future_method.now;
  return status;
}
static pluq_status *future_create_config(void *self, const pluq_config_request *request,
                                         pluq_config *config) {
  pluq_status *status = create_config(self, request, config);
  if (status == NULL) config->api = &future_config.now;
  return status;
}
static void future_describe(void *self, pluq_format_info *info) {
  describe(self, info);
  if (!PLUQ_HAS(info, option_count)) return;
  info->options = &options[0].now;
  info->option_stride = sizeof options[0];
  info->option_count = 2;
}
static const void *future_extension(void *self, const char *id) {
  if (strcmp(id, "pluq.from_the_future/3") == 0) return &options;
  return extension(self, id) == NULL ? NULL : &future_quantizer;
}

__attribute__((visibility("default"))) pluq_status *pluq_plugin_entry_v1(
    const pluq_host *from, const pluq_handshake *handshake, pluq_plugin_info *info);
pluq_status *pluq_plugin_entry_v1(const pluq_host *from, const pluq_handshake *handshake,
                                  pluq_plugin_info *info) {
  const pluq_plugin_info out = {
      0, PLUQ_ABI_MAJOR, PLUQ_ABI_MIN_MINOR, PLUQ_ABI_MINOR, &note.manifest, NULL};
  static const pluq_format format = {&future_format.now, NULL};
  host = from;
  if (handshake->abi_major != PLUQ_ABI_MAJOR || handshake->max_minor < handshake->min_minor ||
      handshake->min_minor > PLUQ_ABI_MINOR) {
    return fail(PLUQ_STATUS_ABI_MISMATCH,
                "the plugin and this host speak no common version of the ABI");
  }
  memset(&future_format, 0xa5, sizeof future_format);
  memset(&future_config, 0xa5, sizeof future_config);
  memset(&future_method, 0xa5, sizeof future_method);
  memset(&future_quantizer, 0xa5, sizeof future_quantizer);
  memset(options, 0xa5, sizeof options);
  future_format.now = format_api;
  future_format.now.struct_size = sizeof future_format;
  future_format.now.describe = future_describe;
  future_format.now.create_config = future_create_config;
  future_format.now.get_extension = future_extension;
  future_config.now = config_api;
  future_config.now.struct_size = sizeof future_config;
  future_config.now.get_quant_method = future_get_quant_method;
  future_method.now = method_api;
  future_method.now.struct_size = sizeof future_method;
  future_quantizer.now = quantizer;
  future_quantizer.now.struct_size = sizeof future_quantizer;
  for (int i = 0; i < 2; ++i) {
    const pluq_option option = {
        sizeof options[0], PLUQ_OPTION_STRING, str(i == 0 ? "one" : "two"), str("a"), 1, 0,
        str("a|b"),        str("an option")};
    options[i].now = option;
  }
  give(info, &out, sizeof out);
  return handshake->register_format(handshake->registrar, &format);
}
