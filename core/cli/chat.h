// SPDX-License-Identifier: Apache-2.0
// pluq run --chat: a conversation with the checkpoint's own chat template.
#pragma once

#include <string>

#include "cli/model_flags.h"
#include "engine/generate.h"

namespace pluq::cli {

struct ChatFlags {
  std::string system;         // --system TEXT, or empty
  std::string template_file;  // --chat-template FILE, or empty: the checkpoint's own
  std::string first;          // the first message, or empty
  bool quiet = false;
};

// Reads messages from stdin, a line each, and streams the answers to stdout until /exit or the end
// of the input. request: sampling, length and stops of every answer. On a terminal a refused
// message leaves the conversation as it was; from a pipe it throws, so that a script gets its exit
// code.
void chat(const OpenModel& open, const GenerateRequest& request, const ChatFlags& flags);

}  // namespace pluq::cli
