/* SPDX-License-Identifier: Apache-2.0
 * A library whose functions take every root of the ABI, with debug information: what abidiff
 * compares with witness-1.0.abi. It is never loaded. */
#include "pluq/abi.h"

#define WITNESS(type)                      \
  void pluq_witness_##type(const type *p); \
  void pluq_witness_##type(const type *p) { (void)p; }

WITNESS(pluq_host)
WITNESS(pluq_host_json)
WITNESS(pluq_host_match)
WITNESS(pluq_device)
WITNESS(pluq_exec)
WITNESS(pluq_weight_spec)
WITNESS(pluq_layer_desc)
WITNESS(pluq_method_info)
WITNESS(pluq_activation)
WITNESS(pluq_output)
WITNESS(pluq_method)
WITNESS(pluq_embedding)
WITNESS(pluq_config)
WITNESS(pluq_format)
WITNESS(pluq_format_info)
WITNESS(pluq_plugin_info)
WITNESS(pluq_handshake)
WITNESS(pluq_manifest)

void pluq_witness_entry(pluq_plugin_entry_fn entry);
void pluq_witness_entry(pluq_plugin_entry_fn entry) { (void)entry; }
