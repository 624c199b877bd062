// SPDX-License-Identifier: Apache-2.0
// A checkpoint's chat template: the subset of Jinja that such templates use, with the settings of
// transformers (trim_blocks, lstrip_blocks, no escaping). It reaches nothing but the data it is
// given, and steps, depth, memory and output are limited, so a hostile template ends with an error.
#pragma once

#include <boost/json/object.hpp>

#include <ctime>
#include <memory>
#include <string>
#include <string_view>

#include "tokenizer/chat/value.h"

namespace pluq {

// Immutable; const use from many threads is safe.
class ChatTemplate {
 public:
  // where: for messages, as "tokenizer_config.json: chat_template". Throws Error(kInput) with the
  // line.
  static std::shared_ptr<const ChatTemplate> parse(std::string_view source, std::string where,
                                                   const chat::Limits& limits = {});
  ~ChatTemplate();
  ChatTemplate(const ChatTemplate&) = delete;
  ChatTemplate& operator=(const ChatTemplate&) = delete;

  // variables: messages, add_generation_prompt, bos_token and so on. now: what strftime_now tells,
  // in local time. Throws Error(kInput) with the line, also for raise_exception.
  std::string render(const boost::json::object& variables, std::time_t now) const;

  const std::string& where() const { return where_; }

 private:
  ChatTemplate() = default;
  std::unique_ptr<const chat::Node> body_;
  std::string where_;
  chat::Limits limits_;
};

// The template of a tokenizer_config.json value `chat_template`: a string, or a list of {name,
// template} of which the one called "default" is taken (else the only one). Empty: none. Throws
// Error(kInput).
std::string pick_chat_template(const boost::json::value& value, std::string_view where);

}  // namespace pluq
