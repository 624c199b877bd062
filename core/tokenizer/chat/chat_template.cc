// SPDX-License-Identifier: Apache-2.0
#include "tokenizer/chat/chat_template.h"

#include <boost/json/array.hpp>

#include <stdexcept>

#include "base/error.h"
#include "tokenizer/chat/interpreter.h"
#include "tokenizer/chat/parser.h"
#include "tokenizer/unicode.h"

namespace pluq {
namespace {

constexpr size_t kMaxTemplate = size_t{1} << 20;

}  // namespace

ChatTemplate::~ChatTemplate() = default;

std::shared_ptr<const ChatTemplate> ChatTemplate::parse(std::string_view source, std::string where,
                                                        const chat::Limits& limits) {
  if (source.size() > kMaxTemplate) {
    fail_input("{}: the chat template has {} bytes, at most {} are accepted", where, source.size(),
               kMaxTemplate);
  }
  std::shared_ptr<ChatTemplate> made(new ChatTemplate());
  try {
    made->body_ = chat::parse_template(sanitize_utf8(source));
  } catch (const chat::SyntaxError& e) {
    fail_input("{}: line {}: {}", where, e.line, e.text);
  }
  made->where_ = std::move(where);
  made->limits_ = limits;
  return made;
}

std::string ChatTemplate::render(const boost::json::object& variables, std::time_t now) const {
  chat::Arena arena(limits_);
  chat::Interpreter interpreter(arena, now);
  try {
    chat::Scope* globals = arena.scope(nullptr);
    for (const auto& [name, value] : variables)
      globals->names.emplace_back(std::string(name), chat::from_json(value, arena));
    return interpreter.run(*body_, arena.scope(globals));
  } catch (const chat::Raised& e) {
    fail_input("{}: line {}: the template refuses the conversation: {}", where_, interpreter.line(),
               printable(e.message, 400));
  } catch (const std::invalid_argument& e) {
    fail_input("{}: line {}: {}", where_, interpreter.line(), e.what());
  } catch (const std::length_error& e) {
    fail_input("{}: line {}: {}", where_, interpreter.line(), e.what());
  }
}

std::string pick_chat_template(const boost::json::value& value, std::string_view where) {
  if (value.is_null()) return {};
  if (value.is_string()) return std::string(value.get_string());
  if (!value.is_array()) fail_input("{}: it is neither a string nor a list of templates", where);
  std::string names, chosen;
  const boost::json::array& list = value.get_array();
  for (const boost::json::value& entry : list) {
    const boost::json::object* o = entry.if_object();
    const boost::json::value* name = o != nullptr ? o->if_contains("name") : nullptr;
    const boost::json::value* text = o != nullptr ? o->if_contains("template") : nullptr;
    if (name == nullptr || text == nullptr || !name->is_string() || !text->is_string()) {
      fail_input("{}: a list entry lacks the strings 'name' and 'template'", where);
    }
    names += (names.empty() ? "" : ", ") + printable(std::string_view(name->get_string()), 40);
    if (name->get_string() == "default" || list.size() == 1) chosen = text->get_string();
  }
  if (chosen.empty() && !list.empty())
    fail_input("{}: no template is called 'default'; there are {}", where, names);
  return chosen;
}

}  // namespace pluq
