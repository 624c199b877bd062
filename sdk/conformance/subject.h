// SPDX-License-Identifier: Apache-2.0
// The plugin under test, opened without pluq's own loader, so that every argument of its entry is
// the test's.
#pragma once

#include <link.h>

#include <memory>
#include <string>
#include <vector>

#include "conformance/harness.h"
#include "plugin/format.h"
#include "plugin/host_table.h"

namespace pluq::conformance {

struct Opened {
  void* handle = nullptr;
  pluq_plugin_entry_fn entry = nullptr;
  const link_map* map = nullptr;
};
Opened open_subject(const Subject& subject);

struct Answer {
  std::string error;  // of the entry, empty when it succeeded
  int32_t code = 0;
  pluq_plugin_info info{};
  std::vector<pluq_format> formats;
  bool refuse_register = false;  // asked for by the test
};
// Calls the entry with this host and these versions.
Answer call_entry(const Opened& opened, const pluq_host& host = host_table(),
                  uint32_t major = PLUQ_ABI_MAJOR, uint32_t min_minor = PLUQ_ABI_MINOR,
                  uint32_t max_minor = PLUQ_ABI_MINOR);

// Opened, entered, and its formats, for tests that start there. Throws Failure.
struct Ready {
  Opened opened;
  std::vector<pluq_format> raw;
  std::vector<std::unique_ptr<FormatHandle>> formats;
};
Ready ready(const Subject& subject);

// Throws Failure with the text of the status, if there is one; frees it.
void ok(pluq_status* status, const std::string& what);

// Which calls into the C library the plugin makes from now on (its own calls only, found through
// its import table).
struct Calls {
  long allocations = 0, frees = 0, threads = 0, maps = 0;
};
// Redirects them. Throws Skip when the table cannot be written.
void watch_calls(const Opened& opened);
Calls calls_so_far();
// The n-th allocation from now on fails, once; 0: none. Returns whether an earlier order has been
// carried out.
bool fail_allocation(long n);

}  // namespace pluq::conformance
