// SPDX-License-Identifier: Apache-2.0
// Ctrl-C and SIGTERM: the first one asks the running verb to stop at the next step, the second one
// ends the process.
#pragma once

#include <atomic>

namespace pluq::cli {

void catch_interrupts();

// True after the first signal.
const std::atomic<bool>& interrupted();

// Throws Error(kInterrupted) after a signal.
void stop_if_interrupted();

// Forgets a Ctrl-C that has been dealt with (a stopped answer), so that the next one counts as the
// first.
void clear_interrupt();

}  // namespace pluq::cli
